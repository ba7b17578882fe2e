// IEEE binary16 and bfloat16 as bit patterns, rounded to nearest even.
#pragma once

#include <cstdint>
#include <cstring>

namespace attar {

template <class To, class From>
To bits_as(From from) {  // std::bit_cast of C++20
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(To));
  return to;
}

inline float f32_from_bf16(std::uint16_t bits) { return bits_as<float>(std::uint32_t{bits} << 16); }

inline std::uint16_t bf16_from_f32(float value) {
  const auto bits = bits_as<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);  // NaN stays quiet
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// Selections instead of branches: loops over it vectorise.
inline float f32_from_f16(std::uint16_t bits) {
  const std::uint32_t sign = (bits & 0x8000u) << 16;
  const std::uint32_t magnitude = (bits & 0x7fffu) << 13;
  const std::uint32_t exponent = magnitude & 0x0f800000u;
  const std::uint32_t normal = magnitude + (exponent == 0x0f800000u ? 0x70000000u : 0x38000000u);  // Inf, NaN stay so
  // Subnormal: as the mantissa of a number with exponent -14, less that number's leading one; exact.
  const float shifted = bits_as<float>(magnitude + 0x38800000u) - 0x1p-14f;
  return bits_as<float>(sign | (exponent == 0 ? bits_as<std::uint32_t>(shifted) : normal));
}

inline std::uint16_t f16_from_f32(float value) {
  const auto bits = bits_as<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);   // NaN
  if (magnitude >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // rounds past 65504: infinity
  if (magnitude >= 0x38800000u) {                                                   // normal
    const std::uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
    return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
  }
  // Subnormal: adding 0.5 leaves the f16 mantissa, rounded to nearest even, in the low bits.
  const float shifted = bits_as<float>(magnitude) + 0.5f;
  return static_cast<std::uint16_t>(sign | (bits_as<std::uint32_t>(shifted) - 0x3f000000u));
}

inline float round_to_f16(float value) { return f32_from_f16(f16_from_f32(value)); }

}  // namespace attar
