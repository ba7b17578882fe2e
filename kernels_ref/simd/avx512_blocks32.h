// Rows of formats whose scales stand per 32 weights: Q4_0, Q4_1, IQ4_NL, IQ4_XS, Q8_0. Four (Q8_0: two) blocks a step, and
// activations arranged to meet them.
#pragma once

#include "kernels_ref/simd/avx512.h"
#include "kernels_ref/simd/rows.h"

namespace attar {
namespace {

// Arranged for 128 weights. Lanes 4b .. 4b + 3 belong to block b.
struct alignas(64) Nibbles128 {
  std::int8_t low[64], high[64];  // activations of the low nibbles of the four blocks, then of the high ones
  std::int32_t bias[16];          // minus the bias of the levels times the lane's activations
  float d[16];                    // the block's d in its four lanes
  float sums[16];                 // d times the sum of the block's activations, in the first of its lanes
};
static_assert(sizeof(Nibbles128) <= 4 * 128);

inline const Nibbles128* arrange_nibbles(const RowsTask& task, int bias) {
  auto* const out = reinterpret_cast<Nibbles128*>(task.scratch);
  for (std::size_t i = 0; i < task.columns / 128; ++i) {
    for (std::size_t b = 0; b < 4; ++b) {
      const std::int8_t* q = task.x.q + 128 * i + 32 * b;
      const std::size_t block = 4 * i + b;
      std::memcpy(out[i].low + 16 * b, q, 16);
      std::memcpy(out[i].high + 16 * b, q + 16, 16);
      for (std::size_t k = 0; k < 4; ++k) {
        int sum = 0;
        for (std::size_t j = 4 * k; j < 4 * k + 4; ++j) sum += q[j] + q[16 + j];
        out[i].bias[4 * b + k] = -bias * sum;
        out[i].d[4 * b + k] = task.x.d[block];
        out[i].sums[4 * b + k] = k > 0 ? 0 : task.x.d[block] * static_cast<float>(task.x.sums[2 * block] + task.x.sums[2 * block + 1]);
      }
    }
  }
  return out;
}

// The weights after the last whole step.
template <class Isa, bool kWide>
float tail(const RowsTask& task, std::size_t row, std::size_t from) {
  if (from == task.columns) return 0;
  Chunk chunk;
  task.unpack(task.weights + row * task.stride, from, task.columns - from, chunk);
  alignas(64) float scaled[16] = {};
  for (std::size_t g = from / 16; g < task.columns / 16; ++g)
    scaled[g - from / 16] = task.x.d[g / 2] * static_cast<float>(task.x.sums[g]);
  ChunkSum<Isa> sum;
  sum.template add<kWide>(chunk, task.columns - from, task.x.q + from, task.x.d + from / 32, scaled);
  return sum.total();
}

struct NibblesQ4_0 {
  static constexpr std::size_t kBytes = sizeof(BlockQ4_0), kCodes = 2;
  static constexpr int kBias = 8;
  static constexpr bool kWide = false, kHasMin = false;
  static __m512i levels(__m512i codes) { return codes; }
};
struct NibblesQ4_1 : NibblesQ4_0 {
  static constexpr std::size_t kBytes = sizeof(BlockQ4_1), kCodes = 4;
  static constexpr int kBias = 0;
  static constexpr bool kHasMin = true;
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

template <class Isa, class Format>
void nibble_rows(const RowsTask& task) {
  constexpr int kStep = Format::kBytes / 2;  // from scale to scale in words
  const __m512i scale_words = _mm512_castsi256_si512(_mm256_set_epi16(
      3 * kStep, 3 * kStep, 3 * kStep, 3 * kStep, 2 * kStep, 2 * kStep, 2 * kStep, 2 * kStep, kStep, kStep, kStep, kStep, 0, 0, 0, 0));
  const auto halves = [&](const std::byte* p) {
    return _mm512_cvtph_ps(_mm512_castsi512_si256(_mm512_permutexvar_epi16(scale_words, _mm512_loadu_si512(p))));
  };
  const std::size_t steps = task.columns / 128;
  const Nibbles128* const x = arrange_nibbles(task, Format::kBias);
  for (std::size_t r = 0; r < task.rows; ++r) {
    const std::byte* w = task.weights + r * task.stride;
    __m512 total = _mm512_setzero_ps(), minimum = _mm512_setzero_ps();
    for (std::size_t i = 0; i < steps; ++i, w += 4 * Format::kBytes) {
      const __m512i packed = load_4x16(w + Format::kCodes, Format::kBytes);
      __m512i p = _mm512_load_si512(x[i].bias);
      p = Isa::template dot<Format::kWide>(p, Format::levels(low_nibbles(packed)), _mm512_load_si512(x[i].low));
      p = Isa::template dot<Format::kWide>(p, Format::levels(high_nibbles(packed)), _mm512_load_si512(x[i].high));
      total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(p), _mm512_mul_ps(halves(w), _mm512_load_ps(x[i].d)), total);
      if constexpr (Format::kHasMin) minimum = _mm512_fmadd_ps(halves(w + 2), _mm512_load_ps(x[i].sums), minimum);
    }
    task.y[r] = _mm512_reduce_add_ps(_mm512_add_ps(total, minimum)) + tail<Isa, Format::kWide>(task, r, 128 * steps);
  }
}

template <class Isa>
void iq4_xs_rows(const RowsTask& task) {
  const Nibbles128* const arranged = arrange_nibbles(task, 128);
  for (std::size_t r = 0; r < task.rows; ++r) {
    const std::byte* w = task.weights + r * task.stride;
    const Nibbles128* x = arranged;
    __m512 total = _mm512_setzero_ps();
    for (std::size_t b = 0; b < task.columns / 256; ++b, w += sizeof(BlockIQ4_XS)) {
      const float d = f16_at(w);
      const auto high = read<std::uint16_t>(w + 2);
      const auto low = read<std::uint32_t>(w + 4);
      alignas(32) float scale[8];
      for (unsigned g = 0; g < 8; ++g)
        scale[g] = d * static_cast<float>(static_cast<int>(((low >> (4 * g)) & 15) | ((high >> (2 * g)) & 3) << 4) - 32);
      for (std::size_t h = 0; h < 2; ++h, ++x) {
        const __m512i packed = _mm512_loadu_si512(w + 8 + 64 * h);
        __m512i p = _mm512_load_si512(x->bias);
        p = Isa::template dot<true>(p, iq4_levels(low_nibbles(packed)), _mm512_load_si512(x->low));
        p = Isa::template dot<true>(p, iq4_levels(high_nibbles(packed)), _mm512_load_si512(x->high));
        total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(p), _mm512_mul_ps(Isa::spread4(scale + 4 * h), _mm512_load_ps(x->d)), total);
      }
    }
    task.y[r] = _mm512_reduce_add_ps(total);
  }
}

// Arranged for 64 weights. Lanes 8b .. 8b + 7 belong to block b.
struct alignas(64) Bytes64 {
  std::int32_t bias[16];  // -128 times the lane's activations
  float d[16];
};
static_assert(sizeof(Bytes64) <= 4 * 64);

template <class Isa>
void q8_0_rows(const RowsTask& task) {
  auto* const x = reinterpret_cast<Bytes64*>(task.scratch);
  const std::size_t steps = task.columns / 64;
  for (std::size_t i = 0; i < steps; ++i) {
    for (std::size_t k = 0; k < 16; ++k) {
      const std::int8_t* q = task.x.q + 64 * i + 4 * k;
      x[i].bias[k] = -128 * (q[0] + q[1] + q[2] + q[3]);
      x[i].d[k] = task.x.d[2 * i + k / 8];
    }
  }
  constexpr int kStep = sizeof(BlockQ8_0) / 2;
  const __m512i scale_words = _mm512_castsi256_si512(
      _mm256_set_epi16(kStep, kStep, kStep, kStep, kStep, kStep, kStep, kStep, 0, 0, 0, 0, 0, 0, 0, 0));
  for (std::size_t r = 0; r < task.rows; ++r) {
    const std::byte* w = task.weights + r * task.stride;
    __m512 total = _mm512_setzero_ps();
    for (std::size_t i = 0; i < steps; ++i, w += 2 * sizeof(BlockQ8_0)) {
      const __m512i scales = _mm512_permutexvar_epi16(scale_words, _mm512_loadu_si512(w));
      const __m256i first = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w + 2));
      const __m256i second = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w + 2 + sizeof(BlockQ8_0)));
      const __m512i levels = _mm512_xor_si512(_mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1), _mm512_set1_epi8(-128));
      const __m512i p = Isa::template dot<true>(_mm512_load_si512(x[i].bias), levels, _mm512_loadu_si512(task.x.q + 64 * i));
      const __m512 d = _mm512_mul_ps(_mm512_cvtph_ps(_mm512_castsi512_si256(scales)), _mm512_load_ps(x[i].d));
      total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(p), d, total);
    }
    task.y[r] = _mm512_reduce_add_ps(total) + tail<Isa, true>(task, r, 64 * steps);
  }
}

}  // namespace
}  // namespace attar
