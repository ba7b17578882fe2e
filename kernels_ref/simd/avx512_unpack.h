// Weights unpacked to Chunks by whole vectors, the same bits as chunk.cc gives.
#pragma once

#include "kernels_ref/chunk.h"
#include "kernels_ref/simd/avx512_blocks32.h"
#include "kernels_ref/simd/avx512_k.h"

namespace attar {
namespace {

// Codes of four blocks, 64 weights of low nibbles and then 64 of high ones, in the order of their weights.
inline void store_nibbles(std::uint8_t* out, const Levels& levels) {
  const __m512i front = _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0), back = _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4);
  _mm512_store_si512(out, _mm512_permutex2var_epi64(levels.low, front, levels.high));
  _mm512_store_si512(out + 64, _mm512_permutex2var_epi64(levels.low, back, levels.high));
}

// Q4_0 ... IQ4_NL: four blocks of 32 at a time.
template <class Isa, class Format>
void unpack_nibbles(const std::byte* row, std::size_t first, std::size_t weights, Chunk& chunk) {
  const __m512i twice = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 12, 12, 8, 8, 4, 4, 0, 0);  // a block's scale, for its two 16s
  const std::byte* w = row + first / 32 * Format::kBytes;
  const auto step = [&](std::size_t at, auto blocks) ATTAR_ALWAYS_INLINE {  // Count<4>, or fewer
    const Levels levels = nibble_levels<Format>(w, blocks);
    const __m256 scale = _mm512_castps512_ps256(_mm512_permutexvar_ps(twice, block_scales<Isa, Format>(w, blocks)));
    __m256 offset = _mm256_mul_ps(scale, _mm256_set1_ps(-Format::kBias));
    if constexpr (Format::kHasMin)
      offset = _mm512_castps512_ps256(_mm512_permutexvar_ps(twice, block_scales<Isa, Format>(w + 2, blocks)));
    store_nibbles(chunk.codes + at, levels);
    _mm256_store_ps(chunk.scale + at / 16, scale);
    _mm256_store_ps(chunk.offset + at / 16, offset);
    w += 4 * Format::kBytes;
  };
  std::size_t at = 0;
  for (; at + 128 <= weights; at += 128) step(at, Count<4>{});
  if (at < weights) step(at, (weights - at) / 32);
  for (std::size_t i = weights; i < 256; ++i) chunk.codes[i] = 0;
  for (std::size_t g = weights / 16; g < 16; ++g) chunk.scale[g] = chunk.offset[g] = 0;
}

inline __m512i each_twice() { return _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0); }  // for groups of 32

inline void unpack_iq4_xs(const std::byte* row, std::size_t first, std::size_t, Chunk& chunk) {
  const std::byte* w = row + first / 256 * sizeof(BlockIQ4_XS);
  for (std::size_t h = 0; h < 2; ++h) {
    const __m512i packed = _mm512_loadu_si512(w + 8 + 64 * h);
    store_nibbles(chunk.codes + 128 * h, {iq4_levels(low_nibbles(packed)), iq4_levels(high_nibbles(packed))});
  }
  const __m512 scale = _mm512_permutexvar_ps(each_twice(), _mm512_castps256_ps512(iq4_xs_scales(w)));
  _mm512_store_ps(chunk.scale, scale);
  _mm512_store_ps(chunk.offset, _mm512_mul_ps(scale, _mm512_set1_ps(-128)));
}

// Q8_0.
template <class Isa>
void unpack_bytes(const std::byte* row, std::size_t first, std::size_t weights, Chunk& chunk) {
  const std::byte* w = row + first / 32 * sizeof(BlockQ8_0);
  if (weights < 256) chunk = Chunk{};
  for (std::size_t at = 0; at < weights; at += 32, w += sizeof(BlockQ8_0)) {
    const __m256i q = _mm256_xor_si256(load_32(w + 2), _mm256_set1_epi8(-128));
    _mm256_store_si256(reinterpret_cast<__m256i*>(chunk.codes + at), q);
    const __m128 d = _mm_set1_ps(f16_at(w));
    _mm_storel_pi(reinterpret_cast<__m64*>(chunk.scale + at / 16), d);
    _mm_storel_pi(reinterpret_cast<__m64*>(chunk.offset + at / 16), _mm_mul_ps(d, _mm_set1_ps(-128.0f)));
  }
}

inline __m512i load_one(const std::byte* p) { return _mm512_zextsi128_si512(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }

inline void store_2x32(void* a, void* b, __m512i v) {
  _mm256_store_si256(static_cast<__m256i*>(a), _mm512_castsi512_si256(v));
  _mm256_store_si256(static_cast<__m256i*>(b), _mm512_extracti64x4_epi64(v, 1));
}

// Q4_K, Q5_K.
template <bool kFifthBit>
void unpack_k32(const std::byte* row, std::size_t first, std::size_t, Chunk& chunk) {
  const std::byte* w = row + first / 256 * k32_bytes<kFifthBit>();
  unrolled(Count<4>{}, [&](auto k) ATTAR_ALWAYS_INLINE {
    const __m512i codes = k32_codes<kFifthBit>(w, k / 2, k % 2);
    std::uint8_t* const out = chunk.codes + 128 * (k / 2) + 32 * (k % 2);
    store_2x32(out, out + 64, codes);
  });
  const __m512 factors = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm512_castsi512_si128(six_bit_scales(load_one(w)))));  // eight sc, eight m
  const __m512 sc = _mm512_permutexvar_ps(each_twice(), factors);
  const __m512 m = _mm512_permutexvar_ps(_mm512_add_epi32(each_twice(), _mm512_set1_epi32(8)), factors);
  _mm512_store_ps(chunk.scale, _mm512_mul_ps(_mm512_set1_ps(f16_at(w)), sc));
  _mm512_store_ps(chunk.offset, _mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(_mm512_set1_ps(f16_at(w + 2)), m)));
}

// Q2_K, Q3_K, Q6_K.
template <class Format>
void unpack_k16(const std::byte* row, std::size_t first, std::size_t, Chunk& chunk) {
  const std::byte* w = row + first / 256 * Format::kBytes;
  unrolled(Count<4>{}, [&](auto k) ATTAR_ALWAYS_INLINE {
    std::uint8_t* const out = chunk.codes + Format::kStep * k;
    store_2x32(out, out + Format::kApart, Format::codes(w, k));
  });
  const __m512i packed = load_one(w + Format::kScales);
  const auto floats = [](__m512i bytes) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm512_castsi512_si128(bytes))); };
  const __m512 scale = _mm512_mul_ps(_mm512_set1_ps(f16_at(w + Format::kD)), floats(Format::scales(packed)));
  __m512 offset = _mm512_mul_ps(scale, _mm512_set1_ps(-Format::kBias));
  if constexpr (Format::kHasMin) {
    const __m512 m = floats(Format::minima(packed));
    offset = _mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(_mm512_set1_ps(f16_at(w + Format::kD + 2)), m));
  }
  _mm512_store_ps(chunk.scale, scale);
  _mm512_store_ps(chunk.offset, offset);
}

template <class Isa>
Unpack avx512_unpack(Type type) {
  switch (type) {
    case Type::kQ4_0: return unpack_nibbles<Isa, NibblesQ4_0>;
    case Type::kQ4_1: return unpack_nibbles<Isa, NibblesQ4_1>;
    case Type::kQ5_0: return unpack_nibbles<Isa, NibblesQ5_0>;
    case Type::kQ5_1: return unpack_nibbles<Isa, NibblesQ5_1>;
    case Type::kIQ4_NL: return unpack_nibbles<Isa, NibblesIQ4_NL>;
    case Type::kIQ4_XS: return unpack_iq4_xs;
    case Type::kQ8_0: return unpack_bytes<Isa>;
    case Type::kQ4_K: return unpack_k32<false>;
    case Type::kQ5_K: return unpack_k32<true>;
    case Type::kQ2_K: return unpack_k16<KQ2>;
    case Type::kQ3_K: return unpack_k16<KQ3>;
    case Type::kQ6_K: return unpack_k16<KQ6>;
    default: return unpack_of(type);
  }
}

}  // namespace
}  // namespace attar
