// Weights and inputs for tests: random, seeded, correlated as activations are.
#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <numbers>

#include "base/random.h"
#include "quantize/gptq.h"
#include "quantize/tensors.h"

namespace attar::test {

inline at::Tensor normal(std::int64_t rows, std::int64_t columns, std::uint64_t seed) {
  Random random(seed);
  at::Tensor values = at::empty({rows, columns});
  float* out = values.data_ptr<float>();
  for (std::int64_t i = 0; i < values.numel(); ++i) {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - random.uniform()));
    out[i] = static_cast<float>(radius * std::cos(2.0 * std::numbers::pi * random.uniform()));
  }
  return values;
}

// (tokens, columns): a few directions, the same for all tokens, carry most of the energy, and columns differ in size.
inline at::Tensor correlated_inputs(std::int64_t tokens, std::int64_t columns, std::uint64_t seed,
                                    std::uint64_t directions_seed = 7) {
  const at::Tensor directions = normal(columns / 4, columns, directions_seed);
  const at::Tensor shared = at::mm(normal(tokens, columns / 4, seed), directions);
  const at::Tensor sizes = normal(1, columns, directions_seed + 1).exp();
  return ((shared / std::sqrt(columns / 4.0) + 0.3 * normal(tokens, columns, seed + 1)) * sizes).contiguous();
}

inline at::Tensor gram(const at::Tensor& X) { return at::mm(X.t(), X).contiguous(); }

inline at::Tensor tensor_of(const QuantizedTensor& Q) { return decoded(Q); }

inline QuantizedTensor rtn_of(Type type, const at::Tensor& W, std::span<const float> importance = {}) {
  const auto size = static_cast<std::size_t>(W.numel());
  return rtn(type, std::span<const float>(W.data_ptr<float>(), size), W.size(0), W.size(1), importance, "W");
}

// |(Q - W) X^T|^2 / |W X^T|^2
inline double output_error(const at::Tensor& Q, const at::Tensor& W, const at::Tensor& X) {
  const at::Tensor wanted = at::mm(W, X.t());
  return ((at::mm(Q, X.t()) - wanted).square().sum() / wanted.square().sum()).item<double>();
}

}  // namespace attar::test
