// What a long run has finished, on disk: part after part, each in a file that is whole or not there, beside a note of what the run
// was asked to do. Finished parts need no memory, and a run that was stopped goes on after the last of them.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/files.h"
#include "convert/tensor.h"

namespace attar {

class WorkFolder {
 public:
  // run: everything that decides the result, an object of plain values under names that a person knows. Throws ResumeError: the folder is
  // there and not `resume`; it is not such a folder; it is of another run (names what differs). Nothing there: a fresh start.
  WorkFolder(fs::path path, const nlohmann::json& run, bool resume);

  const fs::path& path() const { return path_; }

  struct Part {
    std::vector<Tensor> tensors;  // read lazily
    nlohmann::json notes;
  };
  std::optional<Part> find(const std::string& name) const;  // throws ResumeError if it is damaged
  void store(const std::string& name, const std::map<std::string, QuantizedTensor>& tensors, const nlohmann::json& notes) const;

 private:
  fs::path file(const std::string& part) const { return path_ / (part + ".part"); }
  fs::path path_;
};

// float32 values as a part keeps them.
QuantizedTensor kept_floats(Shape shape, std::span<const float> values);

// Of bytes [begin, begin + size): by what a scratch file is known again. Throws Error if it is shorter.
std::string content_hash(const ScratchFile& file, std::uint64_t begin, std::uint64_t size);

// How many parts are finished in the folder; 0 also if there is none.
int finished_parts(const fs::path& folder);

}  // namespace attar
