// Numbers as tensors and back, by ATen's headers alone: those of all of LibTorch take ten times as long to compile.
#pragma once

#include <ATen/ATen.h>

#include <span>
#include <vector>

namespace attar {

// (values.size()) of T's own type, a copy.
template <class T>
at::Tensor tensor_of(std::span<const T> values) {
  return at::tensor(at::ArrayRef<T>(values.data(), values.size()));
}
template <class T>
at::Tensor tensor_of(const std::vector<T>& values) {
  return tensor_of(std::span<const T>(values));
}

// What is computed in bfloat16 as float32; other types as they are.
inline at::Tensor widened(const at::Tensor& x) { return x.scalar_type() == at::kBFloat16 ? x.to(at::kFloat) : x; }

// Its numbers, in order, as float32 on the CPU.
inline std::vector<float> floats_of(const at::Tensor& tensor) {
  const at::Tensor values = tensor.detach().to(at::kCPU, at::kFloat).contiguous();
  return {values.data_ptr<float>(), values.data_ptr<float>() + values.numel()};
}

}  // namespace attar
