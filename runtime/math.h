// Functions of the runtime over vectors of floats: loops without branches, which compilers vectorise.
#pragma once

#include <cmath>
#include <cstddef>

#include "kernels_ref/exp.h"

namespace attar {

inline float silu(float x) { return x / (1.0f + fast_exp(-x)); }
inline float gelu_tanh(float x) { return 0.5f * x * (1.0f + fast_tanh(0.797884561f * (x + 0.044715f * x * x * x))); }
inline float gelu(float x) { return 0.5f * x * (1.0f + std::erf(x * 0.707106781f)); }

// Sums in 16 lanes of fixed order.
inline float sum_of_squares(const float* x, std::size_t n) {
  float lanes[16] = {};
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (std::size_t k = 0; k < 16; ++k) lanes[k] += x[i + k] * x[i + k];
  for (; i < n; ++i) lanes[i % 16] += x[i] * x[i];
  for (std::size_t half = 8; half > 0; half /= 2)
    for (std::size_t k = 0; k < half; ++k) lanes[k] += lanes[k + half];
  return lanes[0];
}

// y = x / sqrt(mean(x^2) + eps) * (weight + offset). x and y may be the same.
inline void rms_norm(const float* x, const float* weight, std::size_t n, float eps, float offset, float* y) {
  const float factor = 1.0f / std::sqrt(sum_of_squares(x, n) / static_cast<float>(n) + eps);
  for (std::size_t i = 0; i < n; ++i) y[i] = x[i] * factor * (weight[i] + offset);
}

}  // namespace attar
