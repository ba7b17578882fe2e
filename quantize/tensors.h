// Matrices of checkpoints as LibTorch tensors.
#pragma once

#include <torch/torch.h>

#include "quantize/rtn.h"

namespace attar {

// (shape of the tensor) float32, a copy.
inline at::Tensor read_tensor(const Tensor& tensor) {
  const std::vector<float> values = read_floats(tensor);
  return torch::tensor(at::ArrayRef<float>(values.data(), values.size())).view(tensor.shape);
}
inline at::Tensor decoded(const QuantizedTensor& Q) {
  const std::vector<float> values = decode(Q);
  return torch::tensor(at::ArrayRef<float>(values.data(), values.size())).view(Q.shape);
}

}  // namespace attar
