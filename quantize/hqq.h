// Half-quadratic quantization: scales and offsets that leave a few large errors and many small ones, from the weights alone.
//
//   Badri, Shaji, "Half-Quadratic Quantization of Large Machine Learning Models", 2023, https://mobiusml.github.io/hqq_blog/
//
// docs/methods/hqq.md says what is different in block formats.
#pragma once

#include <span>

#include "quantize/packed_row.h"
#include "quantize/rtn.h"

namespace attar {

constexpr double kHqqNorm = 0.7;  // the paper's p

// w: the weights of a row. Sets scales, offsets and codes of `row`. The sum of |w - q|^p in every block is at most that of
// min_max_row.
void hqq_row(PackedRow& row, std::span<const float> w);

// Round to nearest without a search: the largest weight of a group stands at an end of the grid; with an offset, largest and smallest
// at both ends.
void min_max_row(PackedRow& row, std::span<const float> w);

struct HqqResult {
  QuantizedTensor Q;
  double weight_error = 0;               // |Q - W|^2 / |W|^2
  double norm_before = 0, norm_after = 0;  // sum |Q - W|^p / sum |W|^p of min_max_row and of hqq_row
};
// A whole matrix, read in slices. Same bytes at any number of threads. Throws Error for NaN and Inf, and for a type without a grid.
HqqResult hqq(Type type, const Tensor& W);

}  // namespace attar
