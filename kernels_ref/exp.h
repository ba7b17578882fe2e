// e^x and tanh over loops: no branches, which compilers vectorise. With internal linkage: see variants.h.
#pragma once

#include <cstdint>
#include <cstring>

namespace attar {

// e^x within 2e-7 of the result; 0 below -87, and x above 88 counts as 88. Cephes' expf (S. Moshier): e^x = 2^n e^r with r within
// half of ln 2.
static inline float fast_exp(float x) {
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
  const std::uint32_t bits = static_cast<std::uint32_t>(static_cast<std::int32_t>(n) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof(power));
  return x < -87.0f ? 0.0f : p * power;
}

static inline float fast_tanh(float x) {  // near 0 the quotient loses digits, so a series
  const float magnitude = x < 0 ? -x : x, e = fast_exp(-2.0f * magnitude), quotient = (1.0f - e) / (1.0f + e);
  const float x2 = x * x, series = x * (1.0f - x2 * (0.333333333f - x2 * (0.133333333f - x2 * 0.0539682540f)));
  return magnitude < 0.1f ? series : x < 0 ? -quotient : quotient;
}

}  // namespace attar
