// Rows of formats whose scales stand per 32 weights: Q4_0, Q4_1, Q5_0, Q5_1, IQ4_NL, IQ4_XS, Q8_0. Four (Q8_0: two) blocks a step, and
// activations arranged to meet them.
#pragma once

#include "kernels_ref/simd/avx512.h"
#include "kernels_ref/simd/rows.h"

namespace attar {
namespace {

// Arranged for 128 weights, zero past the last column. Lanes 4b .. 4b + 3 belong to block b.
struct alignas(64) Nibbles128 {
  std::int8_t low[64], high[64];  // activations of the low nibbles of the four blocks, then of the high ones
  std::int32_t bias[16];          // minus the bias of the levels times the lane's activations
  float d[16];                    // the block's d in its four lanes
  float sums[16];                 // d times the sum of the lane's activations
};
static_assert(sizeof(Nibbles128) <= 4 * 128);

template <class Isa>
const Nibbles128* arrange_nibbles(const RowsTask& task, int bias) {
  auto* const out = reinterpret_cast<Nibbles128*>(task.scratch);
  const __m512i low = _mm512_set_epi64(13, 12, 9, 8, 5, 4, 1, 0), high = _mm512_set_epi64(15, 14, 11, 10, 7, 6, 3, 2);
  for (std::size_t at = 0; at < task.columns; at += 128) {
    Nibbles128& x = out[at / 128];
    const std::size_t n = task.columns - at;
    const __m512i first = _mm512_maskz_loadu_epi8(first_lanes(n), task.x.q + at);
    const __m512i second = _mm512_maskz_loadu_epi8(first_lanes(n < 64 ? 0 : n - 64), task.x.q + at + 64);
    const __m512i l = _mm512_permutex2var_epi64(first, low, second), h = _mm512_permutex2var_epi64(first, high, second);
    const __m512i ones = _mm512_set1_epi8(1);
    const __m512i sums = Isa::template dot<false>(Isa::template dot<false>(Isa::zero_i(), ones, l), ones, h);
    const __m512 d = Isa::spread(_mm_maskz_loadu_ps(static_cast<__mmask8>(first_lanes(n / 32)), task.x.d + at / 32));
    _mm512_store_si512(x.low, l);
    _mm512_store_si512(x.high, h);
    _mm512_store_si512(x.bias, _mm512_mullo_epi32(sums, _mm512_set1_epi32(-bias)));
    _mm512_store_ps(x.d, d);
    _mm512_store_ps(x.sums, _mm512_mul_ps(d, _mm512_cvtepi32_ps(sums)));
  }
  return out;
}

struct NibblesQ4_0 {
  static constexpr std::size_t kBytes = sizeof(BlockQ4_0), kCodes = 2;
  static constexpr int kBias = 8;
  static constexpr bool kWide = false, kHasMin = false, kFifthBit = false;
  static __m512i levels(__m512i codes) { return codes; }
};
struct NibblesQ4_1 : NibblesQ4_0 {
  static constexpr std::size_t kBytes = sizeof(BlockQ4_1), kCodes = 4;
  static constexpr int kBias = 0;
  static constexpr bool kHasMin = true;
};
struct NibblesQ5_0 : NibblesQ4_0 {
  static constexpr std::size_t kBytes = sizeof(BlockQ5_0), kCodes = 6, kBits = 2;
  static constexpr int kBias = 16;
  static constexpr bool kFifthBit = true;
};
struct NibblesQ5_1 : NibblesQ4_1 {
  static constexpr std::size_t kBytes = sizeof(BlockQ5_1), kCodes = 8, kBits = 4;
  static constexpr bool kFifthBit = true;
};
inline __m512i iq4_levels(__m512i codes) {  // + 128
  const __m128i table = _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(kIq4Levels)), _mm_set1_epi8(-128));
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), codes);
}
struct NibblesIQ4_NL : NibblesQ4_0 {
  static constexpr int kBias = 128;
  static constexpr bool kWide = true;
  static __m512i levels(__m512i codes) { return iq4_levels(codes); }
};

// The fifth bits of `count` blocks, those of low nibbles and those of high ones.
struct FifthBits {
  std::uint64_t low = 0, high = 0;
  ATTAR_ALWAYS_INLINE FifthBits(const std::byte* p, std::size_t stride, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      const auto bits = read<std::uint32_t>(p + i * stride);
      low |= std::uint64_t{bits & 0xffff} << (16 * i), high |= std::uint64_t{bits >> 16} << (16 * i);
    }
  }
};

struct Levels {
  __m512i low, high;  // of the low nibbles of four blocks, then of the high ones
};
template <class Format>
ATTAR_ALWAYS_INLINE inline Levels nibble_levels(const std::byte* w, std::size_t blocks) {
  const __m512i packed = load_16s(w + Format::kCodes, Format::kBytes, blocks);
  Levels levels{Format::levels(low_nibbles(packed)), Format::levels(high_nibbles(packed))};
  if constexpr (Format::kFifthBit) {
    const FifthBits bits(w + Format::kBits, Format::kBytes, blocks);
    levels.low = _mm512_mask_add_epi8(levels.low, bits.low, levels.low, _mm512_set1_epi8(16));
    levels.high = _mm512_mask_add_epi8(levels.high, bits.high, levels.high, _mm512_set1_epi8(16));
  }
  return levels;
}

// The halves at the beginning of `count` blocks, in four lanes each; zero for the rest.
template <class Isa, class Format>
ATTAR_ALWAYS_INLINE inline __m512 block_scales(const std::byte* p, std::size_t count) {
  constexpr int kStep = Format::kBytes / 2;  // from scale to scale in words
  if constexpr (3 * kStep < 32) {            // all within a vector
    const __m512i places = _mm512_castsi256_si512(_mm256_set_epi16(
        3 * kStep, 3 * kStep, 3 * kStep, 3 * kStep, 2 * kStep, 2 * kStep, 2 * kStep, 2 * kStep, kStep, kStep, kStep, kStep, 0, 0, 0, 0));
    // Not past the last block's scale: there may be nothing after the last row.
    const auto readable = static_cast<__mmask32>(first_lanes((count - 1) * kStep + 1));
    const __m512i words = count == 4 ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi16(readable, p);
    return _mm512_cvtph_ps(_mm512_castsi512_si256(_mm512_permutexvar_epi16(places, words)));
  }
  return load_halves<Isa>(p, Format::kBytes, count);
}

template <class Isa, class Format>
void nibble_rows(const RowsTask& task) {
  const Nibbles128* const arranged = arrange_nibbles<Isa>(task, Format::kBias);
  from_four_quarters(task, [&](std::size_t row, std::size_t distance, auto rows, __m512* totals) {
    const std::byte* w = task.weights + row * task.stride;
    distance *= task.stride;
    const Nibbles128* x = arranged;
    const auto step = [&](auto blocks) ATTAR_ALWAYS_INLINE {  // Count<4>, or fewer
      __m512i bias = _mm512_load_si512(x->bias), low = _mm512_load_si512(x->low), high = _mm512_load_si512(x->high);
      __m512 d = _mm512_load_ps(x->d);
      hold(bias), hold(low), hold(high), hold(d);
      unrolled(rows, [&](auto r) ATTAR_ALWAYS_INLINE {
        const std::byte* const at = w + r.value * distance;
        prefetch_weights(at);
        const Levels levels = nibble_levels<Format>(at, blocks);
        const __m512i p = Isa::template dot<Format::kWide>(Isa::template dot<Format::kWide>(bias, levels.low, low), levels.high, high);
        totals[r.value] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(p), _mm512_mul_ps(block_scales<Isa, Format>(at, blocks), d), totals[r.value]);
        if constexpr (Format::kHasMin) totals[r.value] = _mm512_fmadd_ps(block_scales<Isa, Format>(at + 2, blocks), _mm512_load_ps(x->sums), totals[r.value]);
      });
      w += 4 * Format::kBytes, ++x;
    };
    for (std::size_t i = 0; i < task.columns / 128; ++i) step(Count<4>{});
    if (const std::size_t rest = task.columns % 128 / 32) step(rest);
  });
}

// d * sc of the eight groups. Six bits of each sc: four of `low`, two of `high`.
inline __m256 iq4_xs_scales(const std::byte* block) {
  const __m256i steps = _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0);
  const __m256i low = _mm256_srlv_epi32(_mm256_set1_epi32(read<int>(block + 4)), _mm256_slli_epi32(steps, 2));
  const __m256i high = _mm256_srlv_epi32(_mm256_set1_epi32(read<std::uint16_t>(block + 2)), _mm256_slli_epi32(steps, 1));
  const __m256i six = _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi32(15)),
                                      _mm256_slli_epi32(_mm256_and_si256(high, _mm256_set1_epi32(3)), 4));
  return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(six, _mm256_set1_epi32(32))), _mm256_set1_ps(f16_at(block)));
}

template <class Isa>
void iq4_xs_rows(const RowsTask& task) {
  const Nibbles128* const arranged = arrange_nibbles<Isa>(task, 128);
  from_four_quarters(task, [&](std::size_t row, std::size_t distance, auto rows, __m512* totals) {
    const std::byte* w = task.weights + row * task.stride;
    const Nibbles128* x = arranged;
    for (std::size_t b = 0; b < task.columns / 256; ++b, w += sizeof(BlockIQ4_XS), x += 2) {
      unrolled(rows, [&](auto r) ATTAR_ALWAYS_INLINE {
        const std::byte* const at = w + r.value * distance * task.stride;
        prefetch_weights(at), prefetch_weights(at + 64);
        const __m256 scales = iq4_xs_scales(at);
        for (std::size_t h = 0; h < 2; ++h) {
          const __m512i packed = _mm512_loadu_si512(at + 8 + 64 * h);
          __m512i p = _mm512_load_si512(x[h].bias);
          p = Isa::template dot<true>(p, iq4_levels(low_nibbles(packed)), _mm512_load_si512(x[h].low));
          p = Isa::template dot<true>(p, iq4_levels(high_nibbles(packed)), _mm512_load_si512(x[h].high));
          totals[r.value] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(p), _mm512_mul_ps(Isa::spread(h == 0 ? _mm256_castps256_ps128(scales) : _mm256_extractf128_ps(scales, 1)), _mm512_load_ps(x[h].d)), totals[r.value]);
        }
      });
    }
  });
}

// Arranged for 64 weights, zero past the last column. Lanes 8b .. 8b + 7 belong to block b.
struct alignas(64) Bytes64 {
  std::int8_t q[64];
  std::int32_t bias[16];  // -128 times the lane's activations
  float d[16];
};
static_assert(sizeof(Bytes64) <= 4 * 64);

template <class Isa>
const Bytes64* arrange_bytes(const RowsTask& task) {
  auto* const out = reinterpret_cast<Bytes64*>(task.scratch);
  for (std::size_t at = 0; at < task.columns; at += 64) {
    Bytes64& x = out[at / 64];
    const std::size_t n = task.columns - at;
    const __m512i q = _mm512_maskz_loadu_epi8(first_lanes(n), task.x.q + at);
    _mm512_store_si512(x.q, q);
    _mm512_store_si512(x.bias, _mm512_sub_epi32(Isa::zero_i(), Isa::template dot<true>(Isa::zero_i(), _mm512_set1_epi8(-128), q)));
    _mm512_store_ps(x.d, n < 64 ? _mm512_zextps256_ps512(_mm256_broadcast_ss(task.x.d + at / 32)) : Isa::spread8(task.x.d + at / 32));
  }
  return out;
}

template <class Isa>
void q8_0_rows(const RowsTask& task) {
  constexpr int kStep = sizeof(BlockQ8_0) / 2;
  const __m512i scale_words = _mm512_castsi256_si512(
      _mm256_set_epi16(kStep, kStep, kStep, kStep, kStep, kStep, kStep, kStep, 0, 0, 0, 0, 0, 0, 0, 0));
  const Bytes64* const arranged = arrange_bytes<Isa>(task);
  from_four_quarters(task, [&](std::size_t row, std::size_t distance, auto rows, __m512* totals) {
    const std::byte* w = task.weights + row * task.stride;
    distance *= task.stride;
    const Bytes64* x = arranged;
    const auto block = [](const std::byte* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 2)); };
    const auto add = [&](__m512& total, __m512i bytes, __m512i scales) {
      const __m512i levels = _mm512_xor_si512(bytes, _mm512_set1_epi8(-128));
      const __m512i p = Isa::template dot<true>(_mm512_load_si512(x->bias), levels, _mm512_load_si512(x->q));
      const __m512 halves = _mm512_cvtph_ps(_mm512_castsi512_si256(_mm512_permutexvar_epi16(scale_words, scales)));
      total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(p), _mm512_mul_ps(halves, _mm512_load_ps(x->d)), total);
    };
    for (std::size_t i = 0; i < task.columns / 64; ++i, w += 2 * sizeof(BlockQ8_0), ++x) {
      unrolled(rows, [&](auto r) ATTAR_ALWAYS_INLINE {
        const std::byte* const at = w + r.value * distance;
        prefetch_weights(at);
        add(totals[r.value], _mm512_inserti64x4(_mm512_castsi256_si512(block(at)), block(at + sizeof(BlockQ8_0)), 1), _mm512_loadu_si512(at));
      });
    }
    for (std::size_t r = 0; r < rows.value && task.columns % 64 != 0; ++r) {
      const std::byte* const at = w + r * distance;
      add(totals[r], _mm512_zextsi256_si512(block(at)), _mm512_maskz_loadu_epi16(1, at));
    }
  });
}

}  // namespace
}  // namespace attar
