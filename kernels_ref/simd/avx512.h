// AVX-512 (F, BW, VL, DQ): 16 lanes. Dots: how bytes are multiplied and summed, with VNNI or without.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "kernels_ref/blocks.h"
#include "kernels_ref/simd/unrolled.h"
#include "kernels_ref/variants.h"

namespace attar {
namespace {

// Keeps a value in its register: GCC would read it from memory again for every use.
template <class V>
ATTAR_ALWAYS_INLINE inline void hold(V& v) { asm("" : "+v"(v)); }

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
  static F max(F a, F b) { return _mm512_max_ps(a, b); }
  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F to_float(I v) { return _mm512_cvtepi32_ps(v); }
  static float sum(F v) { return _mm512_reduce_add_ps(v); }
  static float largest(F v) { return _mm512_reduce_max_ps(v); }
  static void hold(F& v) { attar::hold(v); }
};

// Four blocks of 16 bytes that lie `stride` bytes apart.
inline __m512i load_4x16(const std::byte* p, std::size_t stride) {
  const auto at = [&](std::size_t i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + i * stride)); };
  const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(at(0)), at(1), 1);
  const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(at(2)), at(3), 1);
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}
// Of `count` blocks, the rest zero.
ATTAR_ALWAYS_INLINE inline __m512i load_16s(const std::byte* p, std::size_t stride, std::size_t count) {
  if (count == 4) return load_4x16(p, stride);
  __m128i block[4] = {};
  for (std::size_t i = 0; i < count; ++i) block[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + i * stride));
  return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_set_m128i(block[1], block[0])), _mm256_set_m128i(block[3], block[2]), 1);
}
inline __m512i low_nibbles(__m512i v) { return _mm512_and_si512(v, _mm512_set1_epi8(15)); }
inline __m512i high_nibbles(__m512i v) { return low_nibbles(_mm512_srli_epi16(v, 4)); }
inline float f16_at(const void* p) {
  std::uint16_t bits;
  std::memcpy(&bits, p, 2);
  return _cvtsh_ss(bits);
}
inline __mmask64 first_lanes(std::size_t n) { return n < 64 ? (__mmask64{1} << n) - 1 : ~__mmask64{0}; }
template <class T>
T read(const void* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}
// Halves that lie `stride` bytes apart, in four lanes each; zero for those past `count`.
template <class Isa>
ATTAR_ALWAYS_INLINE inline __m512 load_halves(const std::byte* p, std::size_t stride, std::size_t count) {
  std::uint64_t halves = 0;
  for (std::size_t i = 0; i < count; ++i) halves |= std::uint64_t{read<std::uint16_t>(p + i * stride)} << (16 * i);
  return Isa::spread(_mm_cvtph_ps(_mm_cvtsi64_si128(static_cast<long long>(halves))));
}

// The sums of four vectors. One row alone is summed so too: a row's result does not depend on its neighbours.
inline __m128 sum4(const __m512* v) {
  const auto half = [](__m512 x) { return _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1)); };
  const __m256 pairs = _mm256_hadd_ps(_mm256_hadd_ps(half(v[0]), half(v[1])), _mm256_hadd_ps(half(v[2]), half(v[3])));
  return _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1));
}

// Called once for about 64 bytes that are read. How far ahead: what was fastest of 0.5 to 18 KiB. Always inline: GCC takes a function
// that only prefetches for one without effect and drops its calls.
ATTAR_ALWAYS_INLINE inline void prefetch_weights(const std::byte* p) { _mm_prefetch(reinterpret_cast<const char*>(p + 2048), _MM_HINT_T0); }

// Four rows at a time, from the four quarters of the task: memory brings several streams faster than one. What is left of the
// division goes alone. rows(first, distance, n, totals): rows first, first + distance, ..., n = 1 or 4 of them.
template <class Rows>
void from_four_quarters(const RowsTask& task, const Rows& rows) {
  const std::size_t quarter = task.rows / 4;
  for (std::size_t r = 0; r < quarter; ++r) {
    __m512 totals[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    rows(r, quarter, Count<4>{}, totals);
    alignas(16) float sums[4];
    _mm_store_ps(sums, sum4(totals));
    for (std::size_t i = 0; i < 4; ++i) task.y[r + i * quarter] = sums[i];
  }
  for (std::size_t r = 4 * quarter; r < task.rows; ++r) {
    __m512 totals[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    rows(r, 0, Count<1>{}, totals);
    task.y[r] = _mm_cvtss_f32(sum4(totals));
  }
}

// See Variant. A transposition of 16 x 16 words, 64 weights of each row.
inline void interleave_rows(const std::uint8_t* codes, std::size_t stride, std::size_t weights, std::uint8_t* out) {
  constexpr Count<16> sixteen;
  constexpr Count<4> four;
  for (std::size_t at = 0; at < weights; at += 64) {
    const auto readable = first_lanes(weights - at);
    __m512i a[16], b[16];
    unrolled(sixteen, [&](auto r) ATTAR_ALWAYS_INLINE { a[r.value] = _mm512_maskz_loadu_epi8(readable, codes + r.value * stride + at); });
    unrolled(four, [&](auto i) ATTAR_ALWAYS_INLINE {  // words of two rows, then of four
      constexpr std::size_t r = 4 * decltype(i)::value;
      const __m512i low01 = _mm512_unpacklo_epi32(a[r], a[r + 1]), high01 = _mm512_unpackhi_epi32(a[r], a[r + 1]);
      const __m512i low23 = _mm512_unpacklo_epi32(a[r + 2], a[r + 3]), high23 = _mm512_unpackhi_epi32(a[r + 2], a[r + 3]);
      b[r] = _mm512_unpacklo_epi64(low01, low23), b[r + 1] = _mm512_unpackhi_epi64(low01, low23);
      b[r + 2] = _mm512_unpacklo_epi64(high01, high23), b[r + 3] = _mm512_unpackhi_epi64(high01, high23);
    });
    // b[4 i + j]: of rows 4 i ..., words j, 4 + j, 8 + j, 12 + j in a quarter each.
    unrolled(four, [&](auto j) ATTAR_ALWAYS_INLINE {
      constexpr std::size_t n = decltype(j)::value;
      const __m512i even01 = _mm512_shuffle_i32x4(b[n], b[n + 4], 0x88), odd01 = _mm512_shuffle_i32x4(b[n], b[n + 4], 0xdd);
      const __m512i even23 = _mm512_shuffle_i32x4(b[n + 8], b[n + 12], 0x88), odd23 = _mm512_shuffle_i32x4(b[n + 8], b[n + 12], 0xdd);
      a[n] = _mm512_shuffle_i32x4(even01, even23, 0x88), a[n + 8] = _mm512_shuffle_i32x4(even01, even23, 0xdd);
      a[n + 4] = _mm512_shuffle_i32x4(odd01, odd23, 0x88), a[n + 12] = _mm512_shuffle_i32x4(odd01, odd23, 0xdd);
    });
    unrolled(sixteen, [&](auto k) ATTAR_ALWAYS_INLINE {
      if (at + 4 * k.value < weights) _mm512_storeu_si512(out + 16 * at + 64 * k.value, a[k.value]);
    });
  }
}

}  // namespace
}  // namespace attar
