// What a run leaves for people and programs to follow: a JSON line per report, and the same as TensorBoard scalars.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace attar {

constexpr const char* kTrainLog = "train.jsonl";
constexpr const char* kEventFile = "events.out.tfevents.attar";

class TrainLog {
 public:
  // Goes on after `step`: lines of later steps, which an interrupted run wrote after its last checkpoint, are dropped, the others stay as they
  // are, and the event file is written anew from them. step -1: both files start empty.
  TrainLog(const std::filesystem::path& folder, std::int64_t step);

  // kind: "train" or "eval"; values: an object of numbers. Adds "kind", "step" and "time" (Unix seconds). Throws Error if
  // it cannot be written.
  void add(const std::string& kind, std::int64_t step, const nlohmann::json& values);

 private:
  std::filesystem::path folder_;
  std::ofstream lines_, events_;
};

}  // namespace attar
