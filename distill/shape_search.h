// Which sizes a student may have under a budget: proposals for a search that tries them (candidates.h), and an order among them.
//
// S. Muralidharan et al., "Compact Language Models via Pruning and Knowledge Distillation" (Minitron), 2024,
// https://arxiv.org/abs/2407.14679, section 2.3: the search space is enumerated for the budget, and what is left of it is tried.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "distill/prune.h"

namespace attar {

// What a student may take, in parameters, or in bytes as it is written:
//   size = per_parameter * parameters + beside - per_token * (tokens the teacher has more)
struct Budget {
  std::uint64_t most = 0;
  std::string unit = "parameters";
  std::uint64_t per_parameter = 1;
  std::uint64_t beside = 0;     // what the teacher's files hold besides weights
  std::uint64_t per_token = 0;  // of that, for each token
};

// Which sizes the search may use, in steps that leave rows the quantizers like: multiples of 256 if the teacher's size is
// one (and more than 256), else of 32, else of the largest power of two below that divides it.
std::int64_t legal_step(std::int64_t size);

constexpr std::int64_t kTokenStep = 32;  // of a vocabulary

// Up to `count` shapes that use at least 95 % of what the fullest one uses of the budget. The first costs least by a formula:
// a weighted sum of squared logarithms of how far each size is cut, in which width goes before depth; docs/methods/pruning.md gives
// the weights. The others are as different as can be among the 3 * count cheapest: each is the one whose sizes,
// as logarithms, lie furthest from all before it. fixed: sizes already chosen (0: free; key-value heads: all). tokens: if given, the vocabulary may
// be cut as well. Throws Error if even the smallest shape is larger than the budget, naming what can be reached.
std::vector<StudentShape> propose_shapes(const ModelConfig& config, const Budget& budget, const StudentShape& fixed,
                                         const TokenRanking* tokens, std::size_t count);

}  // namespace attar
