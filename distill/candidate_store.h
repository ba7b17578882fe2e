// Finished candidates of a search, on disk, so that a search that was stopped does not retrain them.
#pragma once

#include <cstddef>
#include <optional>

#include "distill/candidates.h"
#include "quantize/work_folder.h"

namespace attar {

class CandidateStore {
 public:
  // folder: null keeps nothing. Lives longer than this.
  explicit CandidateStore(const WorkFolder* folder) : folder_(folder) {}

  // What was found of the candidate number `index`, which has this shape; nothing if it is not finished. Throws ResumeError for a part that is
  // damaged or of another shape. Warns, once, if it was found with another number of threads.
  std::optional<TriedShape> find(std::size_t index, const StudentShape& shape);
  // Fills the decoder with the weights of a candidate that was kept with them. Throws ResumeError if it was not.
  void load_weights(std::size_t index, Decoder& decoder) const;

  // decoder: its weights are kept as well; null: none.
  void keep(std::size_t index, const TriedShape& candidate, Decoder* decoder) const;

 private:
  const WorkFolder* folder_;
  bool warned_ = false;
};

}  // namespace attar
