// Round to nearest, with each block's scale searched for the least error weighted by what each column meets.
//
//   Kawrakow, "k-quants", 2023, https://github.com/ggml-org/llama.cpp/pull/1684: the search; the weights are those of imatrix.h.
//
// docs/methods/rtn.md.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <vector>

#include "convert/tensor.h"

namespace attar {

// W: (rows, columns) row-major. importance: empty, or one non-negative number per column (the mean square of the input
// that the column meets). Rows are independent and run in parallel. name: for errors.
QuantizedTensor rtn(Type type, std::span<const float> W, std::int64_t rows, std::int64_t columns,
                    std::span<const float> importance, std::string_view name);

// What a rounded matrix has lost, by rows. A walk over rows that were seen before writes the same numbers again.
struct RtnLoss {
  enum class Row : std::uint8_t { kZero, kKept, kVanished };  // was zero, as far as it was seen; is not zero; became zero
  std::vector<double> error, energy;  // |q - w|^2, |w|^2
  std::vector<std::int64_t> clipped;  // weights beyond the grid's ends by more than half a step; empty: the type has no grid
  std::int64_t columns = 0;           // of those rows
  std::vector<Row> rows;
  std::atomic<double> seconds = 0;    // spent so far
  double weight_error() const;        // |Q - W|^2 / |W|^2, of the rows seen
  double clipped_share() const;       // of all weights; -1: the type has no grid
  bool vanished() const;              // nothing but zeros is left of what was not
};

// The matrix with its rows rounded when they are read, and no more of it in memory. Reading throws Error for NaN and Inf.
struct RoundedWhenRead {
  Tensor Q;
  std::shared_ptr<const RtnLoss> loss;
};
RoundedWhenRead rtn_when_read(Type type, const Tensor& W, std::vector<float> importance = {});

// The same, read.
struct RtnResult {
  QuantizedTensor Q;
  double weight_error = 0, clipped = -1;  // as in RtnLoss
};
RtnResult rtn(Type type, const Tensor& W, std::vector<float> importance = {});

// Whether Q is nothing but zeros and W is not: weights that are too small for the scales of the type.
bool vanished(const QuantizedTensor& Q, const Tensor& W);

// Weights beyond the first or last value of their group by more than half the step before it. packed: a row of a quantized type.
std::int64_t count_clipped(Type type, ByteView packed, std::span<const float> w);

// Decoded values of a quantized matrix, row-major.
std::vector<float> decode(const QuantizedTensor& tensor);

// Throws Error naming the tensor, the row and the column of the first NaN or Inf. first_row: the row W starts with.
void check_finite(std::span<const float> W, std::int64_t columns, std::string_view name, std::int64_t first_row = 0);

}  // namespace attar
