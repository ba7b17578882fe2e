// What tune() keeps on disk while it trains: the state after a step, tensor by tensor, so that none but one is in memory twice.
#pragma once

#include <ATen/ATen.h>

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "quantize/work_folder.h"

namespace attar {

class TuneState {
 public:
  using Tensors = std::map<std::string, at::Tensor>;  // contiguous float32, by their meaning: views of what is trained
  // run: as WorkFolder's. names, of: the trained tensors and the state of each.
  TuneState(const fs::path& folder, const nlohmann::json& run, bool resume, std::vector<std::string> names,
            std::function<Tensors(const std::string& name)> of);

  // Fills the state and returns the notes that came with it, if an earlier run has left any. Throws ResumeError: damaged.
  std::optional<nlohmann::json> restore();
  // Whether so much time has passed since the last time that saving again costs little.
  bool due() const;
  // A crash in the middle leaves the state before.
  void save(const nlohmann::json& notes);

 private:
  using Clock = std::chrono::steady_clock;
  WorkFolder folder_;
  std::vector<std::string> names_;
  std::function<Tensors(const std::string&)> of_;
  Clock::time_point saved_ = Clock::now();
  Clock::duration cost_{};    // of saving
  bool second_ = false;       // which of two sets of files is written next
};

}  // namespace attar
