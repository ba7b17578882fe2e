// A distribution over a vocabulary in a hundred bytes, such that divergences from it keep their expectation.
//
// The most probable tokens are kept until what is left, the tail, has less than a given mass (or there are enough of them); if the
// tail is not small, some of its tokens are drawn in proportion to p and stand for all of it. With any q
//
//   KL(p || q) = sum_top p ln(p / q) + T * mean over the drawn tokens of ln(p / q)
//
// in expectation: cutting the tail off would make every divergence too small. Drawing from the teacher: A. Anshumann et al., "Sparse
// Logit Sampling: Accelerating Knowledge Distillation in LLMs", 2025, https://arxiv.org/abs/2503.16870, section 3; here the head,
// where nearly all of p is, is exact, and the draws are stratified, so that they vary less.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "eval/scores.h"

namespace attar {

struct SparseOptions {
  std::size_t top = 256, draws = 16;  // at most 256 and 255
  double tail = 1e-4;                 // a tail of less mass is not drawn from
};

struct SparseRow {
  struct Entry {
    std::size_t id = 0;
    double log_p = 0;
  };
  std::vector<Entry> top, drawn;  // top: most probable first
  double tail = 0;                // T
};

// norm: row_norm(logits), finite. seed decides the draws. The layout stands in sparse_row.cc.
void write_sparse(ByteWriter& out, std::span<const float> logits, const RowNorm& norm, const SparseOptions& options, std::uint64_t seed);
SparseRow read_sparse(ByteReader& in, std::int64_t vocab);  // throws Error for ids outside the vocabulary

}  // namespace attar
