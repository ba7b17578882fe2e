// Rows of the K formats: within a block of 256 everything is integers, as in dot.h, and one float product joins the blocks.
#pragma once

#include "kernels_ref/simd/avx512.h"

namespace attar {
namespace {

// Bits of 32 bytes twice, each half turned left by its own count (modulo 64; what crosses bytes is masked away later).
ATTAR_ALWAYS_INLINE inline __m512i turned(__m256i bytes, int low, int high) {
  const __m512i counts = _mm512_inserti64x4(_mm512_set1_epi64(low & 63), _mm256_set1_epi64x(high & 63), 1);
  return _mm512_rolv_epi64(_mm512_broadcast_i64x4(bytes), counts);
}
inline __m512i merge(__m512i a, int mask_a, __m512i b, int mask_b) {  // (a & mask_a) | (b & mask_b), per byte
  const __m512i masked = _mm512_and_si512(b, _mm512_set1_epi8(static_cast<char>(mask_b)));
  return _mm512_ternarylogic_epi64(a, _mm512_set1_epi8(static_cast<char>(mask_a)), masked, 0xEA);
}
inline __m256i load_32(const std::byte* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

// --- Q4_K, Q5_K: a scale and a minimum per 32 ------------------------------------------------------------------------

// Arranged for 256 weights: the order in which a vector of 64 bytes of nibbles meets them.
struct alignas(64) K32 {
  std::int8_t q[4][64];
  std::int16_t sums[8];  // per 32
  float d;
};

inline const K32* arrange_k32(const RowsTask& task) {
  auto* const out = reinterpret_cast<K32*>(task.scratch);
  for (std::size_t b = 0; b < task.columns / 256; ++b) {
    for (std::size_t h = 0; h < 2; ++h) {
      const std::int8_t* q = task.x.q + 256 * b + 128 * h;
      for (std::size_t n = 0; n < 2; ++n) {
        std::memcpy(out[b].q[2 * h + n], q + 32 * n, 32);
        std::memcpy(out[b].q[2 * h + n] + 32, q + 64 + 32 * n, 32);
      }
    }
    for (std::size_t g = 0; g < 8; ++g)
      out[b].sums[g] = static_cast<std::int16_t>(task.x.sums[16 * b + 2 * g] + task.x.sums[16 * b + 2 * g + 1]);
    out[b].d = task.x.d[8 * b];
  }
  return out;
}

// Words of v, each shifted right by its own count, and masked.
inline __m128i words_of(__m128i v, __m128i places, __m128i counts, __m128i mask) {
  return _mm_and_si128(_mm_srlv_epi32(_mm_shuffle_epi8(v, places), counts), mask);
}
inline __m128i words(int a, int b, int c, int d) { return _mm_set_epi32(d, c, b, a); }
constexpr int kZero = -1;  // 0x80 in each byte: a shuffle gives 0
constexpr int word_at(int byte) { return byte * 0x01010101 + 0x03020100; }

// Eight sc, then eight m, from 12 bytes (16 are read); see load_six_bit.
inline __m128i six_bit_scales(const std::byte* p) {
  const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));  // a, b, c
  constexpr int a = word_at(0), b = word_at(4), c = word_at(8), kSix = 0x3f3f3f3f, kFour = 0x0f0f0f0f, kTwo = 0x30303030;
  const __m128i low = words_of(v, words(a, c, b, c), words(0, 0, 0, 4), words(kSix, kFour, kSix, kFour));
  const __m128i high = words_of(v, words(kZero, a, kZero, b), words(0, 2, 0, 2), words(0, kTwo, 0, kTwo));
  return _mm_or_si128(low, high);
}

template <bool kFifthBit>
constexpr std::size_t k32_bytes() {
  return kFifthBit ? sizeof(BlockQ5_K) : sizeof(BlockQ4_K);
}

// Codes of half h of the block: n = 0 of low nibbles, of weights 0 .. 31 and 64 .. 95; n = 1 of high ones, of the others.
template <bool kFifthBit>
ATTAR_ALWAYS_INLINE inline __m512i k32_codes(const std::byte* w, int h, int n) {
  const __m512i packed = _mm512_loadu_si512(w + (kFifthBit ? 48 : 16) + 64 * h);
  const __m512i codes = n == 0 ? low_nibbles(packed) : high_nibbles(packed);
  if constexpr (!kFifthBit) return codes;
  const int k = 4 * h + n;  // bit k: of group k; it goes to bit 4
  return merge(codes, 15, turned(load_32(w + 16), 4 - k, 2 - k), 16);
}

template <class Isa, bool kFifthBit>
void k32_rows(const RowsTask& task) {
  constexpr std::size_t kBlock = k32_bytes<kFifthBit>();
  const K32* const x = arrange_k32(task);
  // Byte i of the scales into the low byte of eight lanes, byte i + 2 into that of the next eight.
  const auto pick = [](char i) { return _mm512_inserti64x4(_mm512_set1_epi32(i), _mm256_set1_epi32(i + 2), 1); };
  const __m512i picks[4] = {pick(0), pick(1), pick(4), pick(5)};
  constexpr __mmask64 kLowBytes = 0x1111111111111111;
  from_four_quarters(task, [&](std::size_t row, std::size_t distance, auto rows, __m512* totals) {
    __m128 minimum[4] = {_mm_setzero_ps(), _mm_setzero_ps(), _mm_setzero_ps(), _mm_setzero_ps()};
    const std::byte* block = task.weights + row * task.stride;
    for (std::size_t b = 0; b < task.columns / 256; ++b, block += kBlock) unrolled(rows, [&](auto r) ATTAR_ALWAYS_INLINE {
      const std::byte* const w = block + r.value * distance * task.stride;
      prefetch_weights(w), prefetch_weights(w + 64);
      const __m128i scales = six_bit_scales(w + 4);
      const __m128i m = _mm_madd_epi16(_mm_cvtepu8_epi16(_mm_srli_si128(scales, 8)),
                                       _mm_loadu_si128(reinterpret_cast<const __m128i*>(x[b].sums)));
      const __m512i everywhere = _mm512_broadcast_i32x4(scales);
      __m512i sum = _mm512_setzero_si512();
      unrolled(Count<4>{}, [&](auto k) ATTAR_ALWAYS_INLINE {
        const __m512i p = Isa::template dot<false>(_mm512_setzero_si512(), k32_codes<kFifthBit>(w, k / 2, k % 2), _mm512_load_si512(x[b].q[k]));
        sum = Isa::dot16(sum, p, _mm512_maskz_shuffle_epi8(kLowBytes, everywhere, picks[k]));
      });
      const __m128 factors = _mm_mul_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(read<int>(w))), _mm_set1_ps(x[b].d));  // d, dmin
      totals[r.value] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_broadcastss_ps(factors), totals[r.value]);
      minimum[r.value] = _mm_fmadd_ps(_mm_cvtepi32_ps(m), _mm_shuffle_ps(factors, factors, 0x55), minimum[r.value]);
    });
    for (std::size_t r = 0; r < rows.value; ++r) totals[r] = _mm512_sub_ps(totals[r], _mm512_zextps128_ps512(minimum[r]));
  });
}

// --- Q2_K, Q3_K, Q6_K: a scale per 16 --------------------------------------------------------------------------------

// Codes of 64 weights: half h of the block (128 weights), n = 0, 1 in it. scales: the sixteen sc as bytes.
struct KQ6 {
  static constexpr std::size_t kBytes = sizeof(BlockQ6_K), kD = 208;
  static constexpr int kBias = 32;
  static constexpr bool kHasMin = false;
  ATTAR_ALWAYS_INLINE static inline __m512i codes(const std::byte* w, int h, int n) {
    const __m512i low = _mm512_loadu_si512(w + 64 * h);
    const __m512i high = turned(load_32(w + 128 + 32 * h), 4 - 4 * n, 2 - 4 * n);
    return merge(n == 0 ? low : _mm512_srli_epi16(low, 4), 15, high, 48);
  }
  static __m128i scales(const std::byte* w) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(w + 192)); }
};

inline __m512i pairs(const std::byte* qs, int h, int n) { return turned(load_32(qs + 32 * h), -4 * n, -4 * n - 2); }

struct KQ3 {
  static constexpr std::size_t kBytes = sizeof(BlockQ3_K), kD = 108;
  static constexpr int kBias = 4;
  static constexpr bool kHasMin = false;
  ATTAR_ALWAYS_INLINE static inline __m512i codes(const std::byte* w, int h, int n) {
    const int k = 4 * h + 2 * n;  // bit k of hmask: of weights 32 k + l
    return merge(pairs(w + 32, h, n), 3, turned(load_32(w), 2 - k, 1 - k), 4);
  }
  static __m128i scales(const std::byte* w) {
    const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(w + 94));  // a, b, c after two other bytes
    constexpr int a = word_at(2), b = word_at(6), c = word_at(10), kFour = 0x0f0f0f0f, kTwo = 0x03030303;
    const __m128i low = words_of(v, words(a, b, a, b), words(0, 0, 4, 4), _mm_set1_epi32(kFour));
    const __m128i high = words_of(v, words(c, c, c, c), words(0, 2, 4, 6), _mm_set1_epi32(kTwo));
    return _mm_sub_epi8(_mm_or_si128(low, _mm_slli_epi32(high, 4)), _mm_set1_epi8(32));
  }
};

struct KQ2 {
  static constexpr std::size_t kBytes = sizeof(BlockQ2_K), kD = 80;
  static constexpr int kBias = 0;
  static constexpr bool kHasMin = true;
  ATTAR_ALWAYS_INLINE static inline __m512i codes(const std::byte* w, int h, int n) {
    return _mm512_and_si512(pairs(w + 16, h, n), _mm512_set1_epi8(3));
  }
  static __m128i packed(const std::byte* w) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(w)); }
  static __m128i scales(const std::byte* w) { return _mm_and_si128(packed(w), _mm_set1_epi8(15)); }
  static __m128i minima(const std::byte* w) { return _mm_and_si128(_mm_srli_epi16(packed(w), 4), _mm_set1_epi8(15)); }
};

template <class Isa, class Format>
void k16_rows(const RowsTask& task) {
  const auto pick = [](int k) {  // scales 4k .. 4k + 3 in four lanes each
    return _mm512_add_epi32(_mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0), _mm512_set1_epi32(4 * k));
  };
  const __m512i picks[4] = {pick(0), pick(1), pick(2), pick(3)};
  from_four_quarters(task, [&](std::size_t row, std::size_t distance, auto rows, __m512* totals) {
    __m256 minimum[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
    const std::byte* block = task.weights + row * task.stride;
    for (std::size_t b = 0; b < task.columns / 256; ++b, block += Format::kBytes) unrolled(rows, [&](auto r) ATTAR_ALWAYS_INLINE {
      const std::byte* const w = block + r.value * distance * task.stride;
      for (std::size_t line = 0; line < Format::kBytes; line += 64) prefetch_weights(w + line);
      const float d = task.x.d[8 * b];
      const __m256i sums = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(task.x.sums + 16 * b));
      const __m128i scales = Format::scales(w);
      const __m512i words = _mm512_and_si512(_mm512_cvtepi8_epi32(scales), _mm512_set1_epi32(0xffff));
      __m512i sum = _mm512_setzero_si512();
      if constexpr (Format::kBias != 0) {
        const __m256i bias = _mm256_madd_epi16(_mm256_cvtepi8_epi16(scales), sums);
        sum = _mm512_zextsi256_si512(_mm256_mullo_epi32(bias, _mm256_set1_epi32(-Format::kBias)));
      }
      unrolled(Count<4>{}, [&](auto k) ATTAR_ALWAYS_INLINE {
        const __m512i p = Isa::template dot<false>(_mm512_setzero_si512(), Format::codes(w, k / 2, k % 2),
                                                   _mm512_loadu_si512(task.x.q + 256 * b + 64 * k));
        sum = Isa::dot16(sum, p, _mm512_permutexvar_epi32(picks[k], words));
      });
      totals[r.value] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(f16_at(w + Format::kD) * d), totals[r.value]);
      if constexpr (Format::kHasMin) {
        const __m256i m = _mm256_madd_epi16(_mm256_cvtepi8_epi16(Format::minima(w)), sums);
        minimum[r.value] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(m), _mm256_set1_ps(f16_at(w + Format::kD + 2) * d), minimum[r.value]);
      }
    });
    for (std::size_t r = 0; r < rows.value; ++r) totals[r] = _mm512_sub_ps(totals[r], _mm512_zextps256_ps512(minimum[r]));
  });
}

}  // namespace
}  // namespace attar
