// AVX-512 (F, BW, VL, DQ): 16 lanes. Dots: how bytes are multiplied and summed, with VNNI or without.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "kernels_ref/blocks.h"
#include "kernels_ref/variants.h"

namespace attar {
namespace {

template <class Dots>
struct Avx512 : Dots {
  using I = __m512i;
  using F = __m512;
  static constexpr std::size_t kLanes = 16, kBytes = 64, kTokens = 8;

  static I zero_i() { return _mm512_setzero_si512(); }
  static F zero_f() { return _mm512_setzero_ps(); }
  static I load(const void* p) { return _mm512_loadu_si512(p); }
  static F load_f(const float* p) { return _mm512_loadu_ps(p); }
  static F load_halves(const std::uint16_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  static void store_f(float* p, F v) { _mm512_storeu_ps(p, v); }
  static F broadcast(float v) { return _mm512_set1_ps(v); }
  static I broadcast4(const std::int8_t* p) {
    int four;
    std::memcpy(&four, p, 4);
    return _mm512_set1_epi32(four);
  }
  // Four values in four lanes each.
  static F spread(__m128 four) {
    return _mm512_permutexvar_ps(_mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0), _mm512_broadcast_f32x4(four));
  }
  static F spread4(const float* p) { return spread(_mm_loadu_ps(p)); }
  // p[0], p[1] in eight lanes each.
  static F spread8(const float* p) {
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_broadcast_ss(p)), _mm256_broadcast_ss(p + 1), 1);
  }
  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F to_float(I v) { return _mm512_cvtepi32_ps(v); }
  static float sum(F v) { return _mm512_reduce_add_ps(v); }
};

// Four blocks of 16 bytes that lie `stride` bytes apart.
inline __m512i load_4x16(const std::byte* p, std::size_t stride) {
  const auto at = [&](std::size_t i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + i * stride)); };
  const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(at(0)), at(1), 1);
  const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(at(2)), at(3), 1);
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}
inline __m512i low_nibbles(__m512i v) { return _mm512_and_si512(v, _mm512_set1_epi8(15)); }
inline __m512i high_nibbles(__m512i v) { return low_nibbles(_mm512_srli_epi16(v, 4)); }
inline float f16_at(const void* p) {
  std::uint16_t bits;
  std::memcpy(&bits, p, 2);
  return _cvtsh_ss(bits);
}
inline __mmask64 first_lanes(std::size_t n) { return n < 64 ? (__mmask64{1} << n) - 1 : ~__mmask64{0}; }
template <std::size_t n>
struct Count {
  static constexpr std::size_t value = n;
};
template <class T>
T read(const void* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}

}  // namespace
}  // namespace attar
