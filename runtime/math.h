// Functions of the runtime over vectors of floats: loops without branches, which compilers vectorise.
#pragma once

#include <cmath>
#include <cstddef>

#include "base/half.h"

namespace attar {

// e^x within 2e-7 of the result; 0 below -87, and x above 88 counts as 88. Cephes' expf (S. Moshier): e^x = 2^n e^r with r within
// half of ln 2.
inline float fast_exp(float x) {
  x = x > 88.0f ? 88.0f : x;
  const float bounded = x < -87.0f ? -87.0f : x;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding and subtracting it rounds to an integer
  const float n = (bounded * 1.44269504f + kRound) - kRound;
  const float r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const float power = bits_as<float>(static_cast<std::uint32_t>(static_cast<std::int32_t>(n) + 127) << 23);
  return x < -87.0f ? 0.0f : p * power;
}

inline float fast_tanh(float x) {  // exact to float rounding where it matters: near 0 the quotient loses digits, so a series
  const float e = fast_exp(-2.0f * std::fabs(x)), large = std::copysign((1.0f - e) / (1.0f + e), x);
  const float x2 = x * x, small = x * (1.0f - x2 * (0.333333333f - x2 * (0.133333333f - x2 * 0.0539682540f)));
  return std::fabs(x) < 0.1f ? small : large;
}

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
