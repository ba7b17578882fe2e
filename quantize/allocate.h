// Which type every matrix gets when the file may have so many bytes: each matrix's damage is measured, and the cheapest choice
// found. docs/methods/allocation.md.
#pragma once

#include <cstdint>
#include <functional>
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
// its shape allows), over chunks of text; for the other types that, times their squared error over q4_0's, with columns weighed by
// their inputs as rounding does.
// types: which to consider. Same result at any number of threads. Throws Error; Interrupted.
std::vector<Sensitivity> measure_sensitivities(const Checkpoint& model, const std::vector<Ids>& chunks,
                                               const std::vector<Type>& types);

// The same with costs that are known: cost(matrix, type) is asked for every type that fits.
std::vector<Sensitivity> sensitivities_from(const Checkpoint& model, const std::vector<Type>& types,
                                            const std::function<double(const Tensor& matrix, Type type)>& cost);

// One candidate for each, the sum of costs as low as `budget` bytes allow:
// exact but for rounding each size up to a 20000th of the budget. Throws Error naming the smallest size that can be reached.
std::vector<Candidate> allocate(const std::vector<Sensitivity>& sensitivities, std::uint64_t budget);
// As few bytes as a sum of costs of at most `cost` allows, or all that help if it allows none.
std::vector<Candidate> allocate_for_cost(const std::vector<Sensitivity>& sensitivities, double cost);

struct Total {
  std::uint64_t bytes = 0;
  double cost = 0;
};
Total total(const std::vector<Candidate>& chosen);
// Bytes in the smallest types, and in the largest.
struct Bounds {
  std::uint64_t smallest = 0, largest = 0;
};
Bounds bounds_of(const std::vector<Sensitivity>& sensitivities);
// What can be had, from the smallest types to the largest that help, in `points` even steps of bytes; each costs less than the one before.
std::vector<std::vector<Candidate>> cost_curve(const std::vector<Sensitivity>& sensitivities, int points);

// A choice that was tried: what it was expected to cost, and what it did.
struct Trial {
  std::vector<Candidate> chosen;
  double expected = 0, measured = 0;
};

// The smallest choice that `measure` finds to cost at most `target`. Sums of costs rank choices well but are off by a factor, above
// all because they are those of rounding to nearest: measured costs are taken to be a power of expected ones, which each trial tells
// better; `factor` is the guess before the first. Throws Error saying what the best types reach.
struct Trials {
  std::vector<Trial> all;  // in order
  std::size_t best = 0;    // the smallest that is good enough
};
Trials allocate_for_measured(const std::vector<Sensitivity>& sensitivities, double target, double factor,
                                         const std::function<double(const std::vector<Candidate>&)>& measure);

}  // namespace attar
