// The blocks of every quantized type as they lie in a file: ggml's layouts (https://github.com/ggml-org/ggml,
// src/ggml-common.h), little-endian, without padding. docs/formats/gguf-blocks.md is the normative description.
//
// A block that can be written carries its traits: `kWeights` in a block, `kGroup` weights that share a scale, and the
// levels a code stands for. All of them decode by one formula, for the weights of group g:
//   w = (d * sc[g]) * level(code) - dmin * m[g]
// with d, dmin stored as f16 and sc, m small integers (1 where the format has no groups within a block).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace attar {

inline constexpr int kSuperBlock = 256;

// A number at any address: blocks have no alignment, so they are read where they lie, also in a file's memory map.
template <class T>
struct Packed {
  std::uint8_t bytes[sizeof(T)];
  operator T() const {
    T value;
    std::memcpy(&value, bytes, sizeof(T));
    return value;
  }
  Packed& operator=(T value) {
    std::memcpy(bytes, &value, sizeof(T));
    return *this;
  }
};
using F16Bits = Packed<std::uint16_t>;

template <class Block>
const Block& block_at(const std::byte* row, std::size_t index) {
  static_assert(alignof(Block) == 1);
  return reinterpret_cast<const Block*>(row)[index];
}

// The codebook of IQ4_NL, IQ4_XS (ggml-common.h, kvalues_iq4nl).
inline constexpr std::int8_t kIq4Levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                               1,    13,   25,  38,  53,  69,  89,  113};

struct UniformLevels {
  static constexpr bool kHasCodebook = false;
  static constexpr const std::int8_t* kCodebook = nullptr;
};
struct Iq4Codebook {
  static constexpr bool kHasCodebook = true;
  static constexpr int kLevels = 16, kLevelMin = 0;
  static constexpr const std::int8_t* kCodebook = kIq4Levels;
};

// --- 32 weights, one scale -------------------------------------------------------------------------------------------

// Weight j is the low nibble of qs[j], weight j + 16 the high one.
struct BlockQ4_0 : UniformLevels {
  static constexpr int kWeights = 32, kGroup = 32, kLevels = 16, kLevelMin = -8;
  static constexpr bool kHasOffset = false;
  F16Bits d;
  std::uint8_t qs[16];
};
static_assert(sizeof(BlockQ4_0) == 18);

struct BlockQ4_1 : UniformLevels {
  static constexpr int kWeights = 32, kGroup = 32, kLevels = 16, kLevelMin = 0;
  static constexpr bool kHasOffset = true;
  F16Bits d, m;  // w = d * code + m
  std::uint8_t qs[16];
};
static_assert(sizeof(BlockQ4_1) == 20);

// The fifth bit of weight j is bit j of the little-endian 32-bit number in qh.
struct BlockQ5_0 : UniformLevels {
  static constexpr int kWeights = 32, kGroup = 32, kLevels = 32, kLevelMin = -16;
  static constexpr bool kHasOffset = false;
  F16Bits d;
  std::uint8_t qh[4];
  std::uint8_t qs[16];
};
static_assert(sizeof(BlockQ5_0) == 22);

struct BlockQ5_1 : UniformLevels {
  static constexpr int kWeights = 32, kGroup = 32, kLevels = 32, kLevelMin = 0;
  static constexpr bool kHasOffset = true;
  F16Bits d, m;
  std::uint8_t qh[4];
  std::uint8_t qs[16];
};
static_assert(sizeof(BlockQ5_1) == 24);

struct BlockQ8_0 : UniformLevels {
  static constexpr int kWeights = 32, kGroup = 32, kLevels = 256, kLevelMin = -128;
  static constexpr bool kHasOffset = false;
  F16Bits d;
  std::int8_t qs[32];
};
static_assert(sizeof(BlockQ8_0) == 34);

struct BlockIQ4_NL : Iq4Codebook {
  static constexpr int kWeights = 32, kGroup = 32;
  static constexpr bool kHasOffset = false;
  F16Bits d;
  std::uint8_t qs[16];
};
static_assert(sizeof(BlockIQ4_NL) == 18);

// --- 256 weights, a scale per 16 or 32 -------------------------------------------------------------------------------

// scales[g]: low nibble sc, high nibble m. Weight 128 h + 32 j + l: bits 2j, 2j+1 of qs[32 h + l].
struct BlockQ2_K : UniformLevels {
  static constexpr int kWeights = 256, kGroup = 16, kLevels = 4, kLevelMin = 0, kScaleMin = 0, kScaleMax = 15;
  static constexpr bool kHasOffset = true;
  std::uint8_t scales[16];
  std::uint8_t qs[64];
  F16Bits d, dmin;
};
static_assert(sizeof(BlockQ2_K) == 84);

// Low two bits as in Q2_K; the third of weight 32 k + l is bit k of hmask[l]. Scales are 6 bits, stored + 32.
struct BlockQ3_K : UniformLevels {
  static constexpr int kWeights = 256, kGroup = 16, kLevels = 8, kLevelMin = -4, kScaleMin = -32, kScaleMax = 31;
  static constexpr bool kHasOffset = false;
  std::uint8_t hmask[32];
  std::uint8_t qs[64];
  std::uint8_t scales[12];
  F16Bits d;
};
static_assert(sizeof(BlockQ3_K) == 110);

// Weight 64 c + 32 h + l: nibble h of qs[32 c + l]. scales: eight 6-bit sc and eight 6-bit m.
struct BlockQ4_K : UniformLevels {
  static constexpr int kWeights = 256, kGroup = 32, kLevels = 16, kLevelMin = 0, kScaleMin = 0, kScaleMax = 63;
  static constexpr bool kHasOffset = true;
  F16Bits d, dmin;
  std::uint8_t scales[12];
  std::uint8_t qs[128];
};
static_assert(sizeof(BlockQ4_K) == 144);

// As Q4_K; the fifth bit of weight 32 k + l is bit k of qh[l].
struct BlockQ5_K : UniformLevels {
  static constexpr int kWeights = 256, kGroup = 32, kLevels = 32, kLevelMin = 0, kScaleMin = 0, kScaleMax = 63;
  static constexpr bool kHasOffset = true;
  F16Bits d, dmin;
  std::uint8_t scales[12];
  std::uint8_t qh[32];
  std::uint8_t qs[128];
};
static_assert(sizeof(BlockQ5_K) == 176);

// Weight 128 h + 64 n + l: nibble n of ql[64 h + l]; weight 128 h + 32 j + l: bits 2j, 2j+1 of qh[32 h + l].
struct BlockQ6_K : UniformLevels {
  static constexpr int kWeights = 256, kGroup = 16, kLevels = 64, kLevelMin = -32, kScaleMin = -128, kScaleMax = 127;
  static constexpr bool kHasOffset = false;
  std::uint8_t ql[128];
  std::uint8_t qh[64];
  std::int8_t scales[16];
  F16Bits d;
};
static_assert(sizeof(BlockQ6_K) == 210);

// Eight groups laid out like IQ4_NL's nibbles. Scales are 6 bits, stored + 32: low nibbles in scales_l, high pairs in
// scales_h.
struct BlockIQ4_XS : Iq4Codebook {
  static constexpr int kWeights = 256, kGroup = 32, kScaleMin = -32, kScaleMax = 31;
  static constexpr bool kHasOffset = false;
  F16Bits d;
  Packed<std::uint16_t> scales_h;
  std::uint8_t scales_l[4];
  std::uint8_t qs[128];
};
static_assert(sizeof(BlockIQ4_XS) == 136);

// --- activations -----------------------------------------------------------------------------------------------------

struct BlockQ8_1 {
  F16Bits d, s;  // s = d * sum of qs
  std::int8_t qs[32];
};
static_assert(sizeof(BlockQ8_1) == 36);

struct BlockQ8_K {
  Packed<float> d;
  std::int8_t qs[256];
  Packed<std::int16_t> bsums[16];  // sums of 16 qs
};
static_assert(sizeof(BlockQ8_K) == 292);

// --- only decoded here -----------------------------------------------------------------------------------------------

struct BlockIQ2_XXS {
  F16Bits d;
  Packed<std::uint16_t> qs[32];  // per 32 weights: four grid indices of 8 bits, then 4 x 7 sign bits and a 4-bit scale
};
static_assert(sizeof(BlockIQ2_XXS) == 66);

struct BlockIQ2_XS {
  F16Bits d;
  Packed<std::uint16_t> qs[32];  // per 8 weights: grid index of 9 bits, 7 sign bits
  std::uint8_t scales[8];
};
static_assert(sizeof(BlockIQ2_XS) == 74);

struct BlockIQ2_S {
  F16Bits d;
  std::uint8_t qs[32];
  std::uint8_t signs[32];
  std::uint8_t qh[8];
  std::uint8_t scales[8];
};
static_assert(sizeof(BlockIQ2_S) == 82);

struct BlockIQ3_XXS {
  F16Bits d;
  std::uint8_t qs[64];
  std::uint8_t scales_and_signs[32];  // per 32 weights: u32 of 4 x 7 sign bits and a 4-bit scale
};
static_assert(sizeof(BlockIQ3_XXS) == 98);

struct BlockIQ3_S {
  F16Bits d;
  std::uint8_t qs[64];
  std::uint8_t qh[8];
  std::uint8_t signs[32];
  std::uint8_t scales[4];
};
static_assert(sizeof(BlockIQ3_S) == 110);

struct BlockIQ1_S {
  F16Bits d;
  std::uint8_t qs[32];
  Packed<std::uint16_t> qh[8];  // per 32 weights: 4 x 3 high index bits, 3-bit scale, sign of the shift
};
static_assert(sizeof(BlockIQ1_S) == 50);

struct BlockIQ1_M {
  std::uint8_t qs[32];
  std::uint8_t qh[16];
  Packed<std::uint16_t> scales[4];  // 4 x 3-bit scales each; the top nibbles together are d
};
static_assert(sizeof(BlockIQ1_M) == 56);

struct BlockTQ1_0 {
  std::uint8_t qs[48];  // five base-3 digits per byte
  std::uint8_t qh[4];   // four
  F16Bits d;
};
static_assert(sizeof(BlockTQ1_0) == 54);

struct BlockTQ2_0 {
  std::uint8_t qs[64];
  F16Bits d;
};
static_assert(sizeof(BlockTQ2_0) == 66);

struct BlockMXFP4 {
  std::uint8_t e;
  std::uint8_t qs[16];
};
static_assert(sizeof(BlockMXFP4) == 17);

}  // namespace attar
