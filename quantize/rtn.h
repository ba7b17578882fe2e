// Round to nearest, with each block's scale searched.
#pragma once

#include <span>

#include "convert/tensor.h"

namespace attar {

// W: (rows, columns) row-major. importance: empty, or one non-negative number per column (the mean square of the input
// that the column meets). Rows are independent and run in parallel. name: for errors.
QuantizedTensor rtn(Type type, std::span<const float> W, std::int64_t rows, std::int64_t columns,
                    std::span<const float> importance, std::string_view name);

// A whole matrix, sixteen rows at a time, so that no more are held as floats.
struct RtnResult {
  QuantizedTensor Q;
  double weight_error = 0;  // |Q - W|^2 / |W|^2
};
RtnResult rtn(Type type, const Tensor& W, std::span<const float> importance = {});

// Decoded values of a quantized matrix, row-major.
std::vector<float> decode(const QuantizedTensor& tensor);

// Throws Error naming the tensor, the row and the column of the first NaN or Inf. first_row: the row W starts with.
void check_finite(std::span<const float> W, std::int64_t columns, std::string_view name, std::int64_t first_row = 0);

// Encodes rows [first_row, ...) of a matrix into their place in `bytes` (the whole matrix); checks that all are finite.
void rtn_rows(Type type, std::span<const float> W, std::int64_t columns, std::span<const float> importance,
              std::string_view name, std::int64_t first_row, std::span<std::byte> bytes);

}  // namespace attar
