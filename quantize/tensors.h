// Matrices of checkpoints as LibTorch tensors.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>

#include "base/threads.h"
#include "quantize/rtn.h"

namespace attar {

// (shape of the tensor) float32, a copy.
inline at::Tensor read_tensor(const Tensor& tensor) {
  constexpr std::int64_t kSliceWeights = std::int64_t{1} << 22;  // held twice
  at::Tensor values = at::empty(tensor.shape);
  const std::int64_t columns = tensor.columns(), step = std::max<std::int64_t>(1, kSliceWeights / std::max<std::int64_t>(1, columns));
  for (std::int64_t begin = 0; begin < tensor.rows(); begin += step) {
    const std::vector<float> slice = read_floats(tensor, begin, std::min(tensor.rows(), begin + step));
    std::copy(slice.begin(), slice.end(), values.data_ptr<float>() + begin * columns);
  }
  return values;
}
inline double total(const at::Tensor& values) { return values.sum(at::kDouble).item<double>(); }
// |Q - W|^2 / |W|^2
inline double weight_error(const at::Tensor& Q, const at::Tensor& W) {
  const double error = total((Q - W).square()), whole = total(W.square());
  return whole > 0 ? error / whole : 0.0;
}
inline at::Tensor decoded(const QuantizedTensor& Q) {
  at::Tensor values = at::empty(Q.shape);
  const std::int64_t columns = Q.columns();
  const std::size_t stride = row_bytes(Q.type, static_cast<std::uint64_t>(columns));
  parallel_for(Q.rows(), [&](std::int64_t r) {
    decode_row(Q.type, ByteView(Q.bytes).subspan(static_cast<std::size_t>(r) * stride, stride),
               {values.data_ptr<float>() + r * columns, static_cast<std::size_t>(columns)});
  });
  return values;
}

}  // namespace attar
