// Rows of the K formats: within a block of 256 everything is integers, as in dot.h, and one float product joins the blocks.
#pragma once

#include "kernels_ref/simd/avx512.h"

namespace attar {
namespace {

// Bits of 32 bytes twice, each half turned left by its own count (modulo 64; what crosses bytes is masked away later).
inline __m512i turned(__m256i bytes, int low, int high) {
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

// Eight sc, then eight m, from 12 bytes; see load_six_bit.
inline __m128i six_bit_scales(const std::byte* p) {
  const auto a = read<std::uint32_t>(p), b = read<std::uint32_t>(p + 4), c = read<std::uint32_t>(p + 8);
  constexpr std::uint32_t kSix = 0x3f3f3f3f, kFour = 0x0f0f0f0f, kTwo = 0x03030303;
  const std::uint32_t sc = (c & kFour) | ((a >> 6) & kTwo) << 4, m = ((c >> 4) & kFour) | ((b >> 6) & kTwo) << 4;
  return _mm_set_epi32(static_cast<int>(m), static_cast<int>(b & kSix), static_cast<int>(sc), static_cast<int>(a & kSix));
}

template <class Isa, bool kFifthBit>
void k32_rows(const RowsTask& task) {
  constexpr std::size_t kBlock = kFifthBit ? sizeof(BlockQ5_K) : sizeof(BlockQ4_K), kCodes = kFifthBit ? 48 : 16;
  const K32* const x = arrange_k32(task);
  // Byte i of the scales into the low byte of eight lanes, byte i + 2 into that of the next eight.
  const auto pick = [](char i) { return _mm512_inserti64x4(_mm512_set1_epi32(i), _mm256_set1_epi32(i + 2), 1); };
  const __m512i picks[4] = {pick(0), pick(1), pick(4), pick(5)};
  constexpr __mmask64 kLowBytes = 0x1111111111111111;
  for (std::size_t r = 0; r < task.rows; ++r) {
    const std::byte* w = task.weights + r * task.stride;
    __m512 total = _mm512_setzero_ps();
    __m128 minimum = _mm_setzero_ps();
    for (std::size_t b = 0; b < task.columns / 256; ++b, w += kBlock) {
      const __m128i scales = six_bit_scales(w + 4);
      const __m128i m = _mm_madd_epi16(_mm_cvtepu8_epi16(_mm_srli_si128(scales, 8)),
                                       _mm_loadu_si128(reinterpret_cast<const __m128i*>(x[b].sums)));
      const __m512i everywhere = _mm512_broadcast_i32x4(scales);
      __m512i sum = _mm512_setzero_si512();
      for (int h = 0; h < 2; ++h) {
        const __m512i packed = _mm512_loadu_si512(w + kCodes + 64 * h);
        __m512i codes[2] = {low_nibbles(packed), high_nibbles(packed)};
        if constexpr (kFifthBit) {
          const __m256i bits = load_32(w + 16);  // bit k: of group k; it goes to bit 4
          for (int n = 0; n < 2; ++n) {
            const int k = 4 * h + n;
            codes[n] = merge(codes[n], 15, turned(bits, 4 - k, 2 - k), 16);
          }
        }
        for (int n = 0; n < 2; ++n) {
          const __m512i p = Isa::template dot<false>(_mm512_setzero_si512(), codes[n], _mm512_load_si512(x[b].q[2 * h + n]));
          sum = Isa::dot16(sum, p, _mm512_maskz_shuffle_epi8(kLowBytes, everywhere, picks[2 * h + n]));
        }
      }
      total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(f16_at(w) * x[b].d), total);
      minimum = _mm_fmadd_ps(_mm_cvtepi32_ps(m), _mm_set1_ps(f16_at(w + 2) * x[b].d), minimum);
    }
    task.y[r] = _mm512_reduce_add_ps(_mm512_sub_ps(total, _mm512_zextps128_ps512(minimum)));
  }
}

// --- Q2_K, Q3_K, Q6_K: a scale per 16 --------------------------------------------------------------------------------

// Codes of 64 weights: half h of the block (128 weights), n = 0, 1 in it. scales: the sixteen sc as bytes.
struct KQ6 {
  static constexpr std::size_t kBytes = sizeof(BlockQ6_K), kD = 208;
  static constexpr int kBias = 32;
  static constexpr bool kHasMin = false;
  static __m512i codes(const std::byte* w, int h, int n) {
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
  static __m512i codes(const std::byte* w, int h, int n) {
    const int k = 4 * h + 2 * n;  // bit k of hmask: of weights 32 k + l
    return merge(pairs(w + 32, h, n), 3, turned(load_32(w), 2 - k, 1 - k), 4);
  }
  static __m128i scales(const std::byte* w) {
    const auto a = read<std::uint32_t>(w + 96), b = read<std::uint32_t>(w + 100), c = read<std::uint32_t>(w + 104);
    constexpr std::uint32_t kFour = 0x0f0f0f0f, kTwo = 0x03030303;
    const auto four = [&](std::uint32_t low, int shift, int part) {
      return static_cast<int>(((low >> shift) & kFour) | ((c >> (2 * part)) & kTwo) << 4);
    };
    return _mm_sub_epi8(_mm_set_epi32(four(b, 4, 3), four(a, 4, 2), four(b, 0, 1), four(a, 0, 0)), _mm_set1_epi8(32));
  }
};

struct KQ2 {
  static constexpr std::size_t kBytes = sizeof(BlockQ2_K), kD = 80;
  static constexpr int kBias = 0;
  static constexpr bool kHasMin = true;
  static __m512i codes(const std::byte* w, int h, int n) {
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
  for (std::size_t r = 0; r < task.rows; ++r) {
    const std::byte* w = task.weights + r * task.stride;
    __m512 total = _mm512_setzero_ps();
    __m256 minimum = _mm256_setzero_ps();
    for (std::size_t b = 0; b < task.columns / 256; ++b, w += Format::kBytes) {
      const float d = task.x.d[8 * b];
      const __m256i sums = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(task.x.sums + 16 * b));
      const __m128i scales = Format::scales(w);
      const __m512i words = _mm512_and_si512(_mm512_cvtepi8_epi32(scales), _mm512_set1_epi32(0xffff));
      __m512i sum = _mm512_setzero_si512();
      if constexpr (Format::kBias != 0) {
        const __m256i bias = _mm256_madd_epi16(_mm256_cvtepi8_epi16(scales), sums);
        sum = _mm512_zextsi256_si512(_mm256_mullo_epi32(bias, _mm256_set1_epi32(-Format::kBias)));
      }
      for (int k = 0; k < 4; ++k) {
        const __m512i p = Isa::template dot<false>(_mm512_setzero_si512(), Format::codes(w, k / 2, k % 2),
                                                   _mm512_loadu_si512(task.x.q + 256 * b + 64 * k));
        sum = Isa::dot16(sum, p, _mm512_permutexvar_epi32(picks[k], words));
      }
      total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(f16_at(w + Format::kD) * d), total);
      if constexpr (Format::kHasMin) {
        const __m256i m = _mm256_madd_epi16(_mm256_cvtepi8_epi16(Format::minima(w)), sums);
        minimum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(m), _mm256_set1_ps(f16_at(w + Format::kD + 2) * d), minimum);
      }
    }
    task.y[r] = _mm512_reduce_add_ps(_mm512_sub_ps(total, _mm512_zextps256_ps512(minimum)));
  }
}

}  // namespace
}  // namespace attar
