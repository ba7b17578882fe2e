// Which type every matrix gets when the file may have so many bytes: each matrix's damage is measured, and the cheapest choice
// found. docs/methods/allocation.md.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "convert/checkpoint.h"
#include "datasets/tokenizer.h"
#include "kernels_ref/types.h"

namespace attar {

struct Candidate {
  Type type = Type::kF32;
  std::uint64_t bytes = 0;
  double cost = 0;  // expected KL divergence, nats
};

struct Sensitivity {
  std::string name;                   // of the matrix
  std::vector<Candidate> candidates;  // those its shape allows, ascending in bytes
};

// For every matrix: the model's mean KL divergence from itself with this matrix alone rounded to q4_0 (or the nearest type
// its shape allows), over chunks of text; for the other types that, times their squared weight error over q4_0's.
// types: which to consider. Same result at any number of threads. Throws Error; Interrupted.
std::vector<Sensitivity> measure_sensitivities(const Checkpoint& model, const std::vector<Ids>& chunks,
                                               const std::vector<Type>& types);

// One candidate for each, the sum of costs as low as `budget` bytes allow:
// exact but for rounding each size up to a 20000th of the budget. Throws Error naming the smallest size that can be reached.
std::vector<Candidate> allocate(const std::vector<Sensitivity>& sensitivities, std::uint64_t budget);

}  // namespace attar
