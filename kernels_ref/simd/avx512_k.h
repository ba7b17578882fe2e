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
inline __m512i load_2x32(const void* a, const void* b) {
  return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256(static_cast<const __m256i*>(a))), _mm256_loadu_si256(static_cast<const __m256i*>(b)), 1);
}
inline __m256i load_32(const std::byte* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

// 16 bytes, or four lanes, in each quarter: those of quarter r, and those at p.
template <std::size_t r>
ATTAR_ALWAYS_INLINE inline __m512i everywhere(__m512i v) { return _mm512_shuffle_i32x4(v, v, 0x55 * r); }
template <std::size_t r>
ATTAR_ALWAYS_INLINE inline __m512 everywhere(__m512 v) { return _mm512_shuffle_f32x4(v, v, 0x55 * r); }
inline __m512i load_everywhere(const void* p) { return _mm512_broadcast_i32x4(_mm_loadu_si128(static_cast<const __m128i*>(p))); }
// Half n of each quarter, in four lanes.
inline __m512 half_of_each(__m512i v, int n) {
  const __m256i places = _mm256_set_epi16(24, 24, 24, 24, 16, 16, 16, 16, 8, 8, 8, 8, 0, 0, 0, 0);
  const __m256i nth = _mm256_add_epi16(places, _mm256_set1_epi16(static_cast<short>(n)));
  return _mm512_cvtph_ps(_mm512_castsi512_si256(_mm512_permutexvar_epi16(_mm512_castsi256_si512(nth), v)));
}
// From the total of each row the four lanes of its quarter, always in the same place: what is added in which order must not depend on r.
template <class Rows>
ATTAR_ALWAYS_INLINE inline void subtract(__m512 quarters, Rows rows, __m512* totals) {
  unrolled(rows, [&](auto r) ATTAR_ALWAYS_INLINE {
    totals[r.value] = _mm512_mask_sub_ps(totals[r.value], 15, totals[r.value], everywhere<r.value>(quarters));
  });
}
// What brings scales of one byte to the sums of two vectors of codes, packed to 16 bits: the first one's quarters belong to groups a, b, c,
// d, the other's to those `next` later. They come into the upper byte, times 256 therefore, with their sign; sums still fit 32 bits.
inline __m512i scale_places(int a, int b, int c, int d, int next) {
  const __m512i first = _mm512_set_epi32(d, d, d, d, c, c, c, c, b, b, b, b, a, a, a, a);
  const __m512i groups = _mm512_mask_add_epi32(first, 0xcccc, first, _mm512_set1_epi32(next));
  return _mm512_add_epi32(_mm512_mullo_epi32(groups, _mm512_set1_epi32(0x01000100)), _mm512_set1_epi32(0x00800080));
}

// --- Q4_K, Q5_K: a scale and a minimum per 32 ------------------------------------------------------------------------

// Arranged for 256 weights: the order in which a vector of 64 bytes of nibbles meets them.
struct alignas(64) K32 {
  std::int8_t q[4][64];
  std::int16_t sums[8];  // per 32
  float d;               // over 256, by which scales are multiplied
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
    out[b].d = task.x.d[8 * b] / 256;
  }
  return out;
}

// Words of each 16 bytes of v, each shifted right by its own count, and masked.
inline __m512i words_of(__m512i v, __m512i places, __m512i counts, __m512i mask) {
  return _mm512_and_si512(_mm512_srlv_epi32(_mm512_shuffle_epi8(v, places), counts), mask);
}
inline __m512i words(int a, int b, int c, int d) { return _mm512_set4_epi32(d, c, b, a); }
constexpr int kZero = -1;  // 0x80 in each byte: a shuffle gives 0
constexpr int word_at(int byte) { return byte * 0x01010101 + 0x03020100; }

// Eight sc, then eight m, from the 16 bytes at which blocks begin: d, dmin and twelve bytes; see load_six_bit.
inline __m512i six_bit_scales(__m512i begin) {
  constexpr int a = word_at(4), b = word_at(8), c = word_at(12), kSix = 0x3f3f3f3f, kFour = 0x0f0f0f0f, kTwo = 0x30303030;
  const __m512i low = words_of(begin, words(a, c, b, c), words(0, 0, 0, 4), words(kSix, kFour, kSix, kFour));
  const __m512i high = words_of(begin, words(kZero, a, kZero, b), words(0, 2, 0, 2), words(0, kTwo, 0, kTwo));
  return _mm512_or_si512(low, high);
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
  const __m512i picks[2] = {scale_places(0, 0, 2, 2, 1), scale_places(4, 4, 6, 6, 1)};
  const __m512i zero = _mm512_setzero_si512();
  from_four_quarters(task, [&](std::size_t row, std::size_t distance, auto rows, __m512* totals) {
    __m512 minimum = _mm512_setzero_ps();  // of row r in lanes 4r .. 4r + 3
    const std::byte* block = task.weights + row * task.stride;
    distance *= task.stride;
    for (std::size_t b = 0; b < task.columns / 256; ++b, block += kBlock) {
      const __m512i begin = load_16s(block, distance, rows), scales = six_bit_scales(begin);
      const __m512 d = _mm512_mul_ps(half_of_each(begin, 0), _mm512_set1_ps(x[b].d));
      unrolled(rows, [&](auto r) ATTAR_ALWAYS_INLINE {
        const std::byte* const w = block + r.value * distance;
        prefetch_weights(w), prefetch_weights(w + 64);
        const __m512i own = everywhere<r.value>(scales);
        __m512i sum = zero;
        unrolled(Count<2>{}, [&](auto h) ATTAR_ALWAYS_INLINE {
          const auto p = [&](int n) ATTAR_ALWAYS_INLINE {
            return Isa::template dot<false>(zero, k32_codes<kFifthBit>(w, h, n), _mm512_load_si512(x[b].q[2 * h + n]));
          };
          sum = Isa::dot16(sum, _mm512_packs_epi32(p(0), p(1)), _mm512_shuffle_epi8(own, picks[h]));
        });
        totals[r.value] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), everywhere<r.value>(d), totals[r.value]);
      });
      const __m512i m = Isa::dot16(zero, _mm512_unpackhi_epi8(scales, zero), load_everywhere(x[b].sums));
      minimum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(m), _mm512_mul_ps(half_of_each(begin, 1), _mm512_set1_ps(256 * x[b].d)), minimum);
    }
    subtract(minimum, rows, totals);
  });
}

// --- Q2_K, Q3_K, Q6_K: a scale per 16 --------------------------------------------------------------------------------

// Arranged for 256 weights, as codes() of the format come. Four lanes belong to a group.
struct alignas(64) K16 {
  std::int8_t q[4][64];
  std::int32_t bias[4][16];  // minus the bias of the codes times the lane's activations
  std::int16_t sums[16];     // per 16
  float d;                   // over 256, by which scales are multiplied
};
static_assert(sizeof(K16) <= 4 * 256);

template <class Isa, class Format>
const K16* arrange_k16(const RowsTask& task) {
  auto* const out = reinterpret_cast<K16*>(task.scratch);
  for (std::size_t b = 0; b < task.columns / 256; ++b) {
    for (std::size_t k = 0; k < 4; ++k) {
      const std::int8_t* const first = task.x.q + 256 * b + Format::kStep * k;
      const __m512i q = load_2x32(first, first + Format::kApart);
      const __m512i sums = Isa::template dot<false>(_mm512_setzero_si512(), _mm512_set1_epi8(1), q);
      _mm512_store_si512(out[b].q[k], q);
      _mm512_store_si512(out[b].bias[k], _mm512_mullo_epi32(sums, _mm512_set1_epi32(-Format::kBias)));
    }
    std::memcpy(out[b].sums, task.x.sums + 16 * b, sizeof(out[b].sums));
    out[b].d = task.x.d[8 * b] / 256;
  }
  return out;
}

// codes: vector k = 0 .. 3, of 32 weights from kStep * k on and of 32 that begin kApart later. scales, minima: sixteen bytes each, from
// the 16 bytes at kScales of four blocks.
struct KQ6 {
  static constexpr std::size_t kBytes = sizeof(BlockQ6_K), kScales = 192, kD = 208, kStep = 64, kApart = 32;
  static constexpr int kBias = 32;
  static constexpr bool kHasMin = false;
  ATTAR_ALWAYS_INLINE static inline __m512i codes(const std::byte* w, int k) {
    const int h = k / 2, n = k % 2;
    const __m512i low = _mm512_loadu_si512(w + 64 * h);
    const __m512i high = turned(load_32(w + 128 + 32 * h), 4 - 4 * n, 2 - 4 * n);
    return merge(n == 0 ? low : _mm512_srli_epi16(low, 4), 15, high, 48);
  }
  static __m512i scales(__m512i packed) { return packed; }
};

// Bits 2k, 2k + 1 go to the bottom; what crosses bytes is masked away later.
ATTAR_ALWAYS_INLINE inline __m512i pairs(const std::byte* qs, unsigned k) { return _mm512_srli_epi16(_mm512_loadu_si512(qs), 2 * k); }

struct KQ3 {
  static constexpr std::size_t kBytes = sizeof(BlockQ3_K), kScales = 94, kD = 108, kStep = 32, kApart = 128;
  static constexpr int kBias = 4;
  static constexpr bool kHasMin = false;
  // Bit k of hmask belongs to the first 32 weights, bit k + 4 to the others.
  ATTAR_ALWAYS_INLINE static inline __m512i codes(const std::byte* w, int k) {
    return merge(pairs(w + 32, k), 3, turned(load_32(w), 2 - k, -2 - k), 4);
  }
  static __m512i scales(__m512i packed) {  // a, b, c after two other bytes
    constexpr int a = word_at(2), b = word_at(6), c = word_at(10), kFour = 0x0f0f0f0f, kTwo = 0x03030303;
    const __m512i low = words_of(packed, words(a, b, a, b), words(0, 0, 4, 4), _mm512_set1_epi32(kFour));
    const __m512i high = words_of(packed, words(c, c, c, c), words(0, 2, 4, 6), _mm512_set1_epi32(kTwo));
    return _mm512_sub_epi8(_mm512_or_si512(low, _mm512_slli_epi32(high, 4)), _mm512_set1_epi8(32));
  }
};

struct KQ2 {
  static constexpr std::size_t kBytes = sizeof(BlockQ2_K), kScales = 0, kD = 80, kStep = 32, kApart = 128;
  static constexpr int kBias = 0;
  static constexpr bool kHasMin = true;
  ATTAR_ALWAYS_INLINE static inline __m512i codes(const std::byte* w, int k) {
    return _mm512_and_si512(pairs(w + 16, k), _mm512_set1_epi8(3));
  }
  static __m512i scales(__m512i packed) { return low_nibbles(packed); }
  static __m512i minima(__m512i packed) { return high_nibbles(packed); }
};

template <class Isa, class Format>
void k16_rows(const RowsTask& task) {
  const K16* const x = arrange_k16<Isa, Format>(task);
  constexpr int kNext = Format::kStep / 16, kApart = Format::kApart / 16;
  const auto pick = [](int k) { return scale_places(kNext * k, kNext * k + 1, kNext * k + kApart, kNext * k + kApart + 1, kNext); };
  const __m512i picks[2] = {pick(0), pick(2)};
  from_four_quarters(task, [&](std::size_t row, std::size_t distance, auto rows, __m512* totals) {
    __m512 minimum = _mm512_setzero_ps();  // of row r in lanes 4r .. 4r + 3
    const std::byte* block = task.weights + row * task.stride;
    distance *= task.stride;
    for (std::size_t b = 0; b < task.columns / 256; ++b, block += Format::kBytes) {
      const __m512i packed = load_16s(block + Format::kScales, distance, rows), scales = Format::scales(packed);
      const __m512 d = _mm512_mul_ps(load_halves<Isa>(block + Format::kD, distance, rows), _mm512_set1_ps(x[b].d));
      unrolled(rows, [&](auto r) ATTAR_ALWAYS_INLINE {
        const std::byte* const w = block + r.value * distance;
        for (std::size_t line = 0; line < Format::kBytes; line += 64) prefetch_weights(w + line);
        const __m512i own = everywhere<r.value>(scales);
        __m512i sum = _mm512_setzero_si512();
        unrolled(Count<2>{}, [&](auto h) ATTAR_ALWAYS_INLINE {
          const auto p = [&](int k) ATTAR_ALWAYS_INLINE {
            return Isa::template dot<false>(_mm512_load_si512(x[b].bias[k]), Format::codes(w, k), _mm512_load_si512(x[b].q[k]));
          };
          sum = Isa::dot16(sum, _mm512_packs_epi32(p(2 * h), p(2 * h + 1)), _mm512_shuffle_epi8(own, picks[h]));
        });
        totals[r.value] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), everywhere<r.value>(d), totals[r.value]);
      });
      if constexpr (Format::kHasMin) {
        const __m512i m = Format::minima(packed);
        const __m512i low = Isa::dot16(_mm512_setzero_si512(), _mm512_unpacklo_epi8(m, _mm512_setzero_si512()), load_everywhere(x[b].sums));
        const __m512i both = Isa::dot16(low, _mm512_unpackhi_epi8(m, _mm512_setzero_si512()), load_everywhere(x[b].sums + 8));
        const __m512 dmin = _mm512_mul_ps(load_halves<Isa>(block + Format::kD + 2, distance, rows), _mm512_set1_ps(256 * x[b].d));
        minimum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(both), dmin, minimum);
      }
    }
    if constexpr (Format::kHasMin) subtract(minimum, rows, totals);
  });
}

}  // namespace
}  // namespace attar
