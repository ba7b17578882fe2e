// Between the bytes of a writable block and its numbers: scales and codes, both ways. Internal to this folder.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "base/half.h"
#include "kernels_ref/blocks.h"
#include "kernels_ref/types.h"

namespace attar {

template <class Block>
int level_of(std::uint8_t code) {
  if constexpr (Block::kHasCodebook) {
    return Block::kCodebook[code];
  } else {
    return code + Block::kLevelMin;
  }
}

// --- bit fields that several formats share ---------------------------------------------------------------------------

// n bytes (a multiple of 8) hold 2 n codes: low nibbles first, then high.
inline void load_nibbles(const std::uint8_t* qs, int n, std::uint8_t* codes) {
  constexpr std::uint64_t kLow = 0x0f0f0f0f0f0f0f0fu;
  for (int l = 0; l < n; l += 8) {
    std::uint64_t bytes;
    std::memcpy(&bytes, qs + l, 8);
    const std::uint64_t low = bytes & kLow, high = (bytes >> 4) & kLow;
    std::memcpy(codes + l, &low, 8);
    std::memcpy(codes + n + l, &high, 8);
  }
}
inline void store_nibbles(const std::uint8_t* codes, int n, std::uint8_t* qs) {
  for (int l = 0; l < n; ++l) qs[l] = static_cast<std::uint8_t>((codes[l] & 0x0f) | (codes[n + l] << 4));
}

// 32 bytes hold two bits of 128 codes: weight 32 j + l in bits 2j, 2j+1 of byte l. They are or-ed into the code at `shift`.
inline void load_pairs(const std::uint8_t* qs, int shift, std::uint8_t* codes) {
  for (int j = 0; j < 4; ++j)
    for (int l = 0; l < 32; ++l) codes[32 * j + l] |= static_cast<std::uint8_t>(((qs[l] >> (2 * j)) & 3) << shift);
}
inline void store_pairs(const std::uint8_t* codes, int shift, std::uint8_t* qs) {
  for (int l = 0; l < 32; ++l) {
    int byte = 0;
    for (int j = 0; j < 4; ++j) byte |= ((codes[32 * j + l] >> shift) & 3) << (2 * j);
    qs[l] = static_cast<std::uint8_t>(byte);
  }
}

// 32 bytes hold one bit of 256 codes: weight 32 k + l in bit k of byte l.
inline void load_bits(const std::uint8_t* bits, int shift, std::uint8_t* codes) {
  for (int k = 0; k < 8; ++k)
    for (int l = 0; l < 32; ++l) codes[32 * k + l] |= static_cast<std::uint8_t>(((bits[l] >> k) & 1) << shift);
}
inline void store_bits(const std::uint8_t* codes, int shift, std::uint8_t* bits) {
  for (int l = 0; l < 32; ++l) {
    int byte = 0;
    for (int k = 0; k < 8; ++k) byte |= ((codes[32 * k + l] >> shift) & 1) << k;
    bits[l] = static_cast<std::uint8_t>(byte);
  }
}

// 4 bytes hold the fifth bit of 32 codes, weight j in bit j.
inline void load_fifth(const std::uint8_t* qh, std::uint8_t* codes) {
  std::uint32_t bits;
  std::memcpy(&bits, qh, 4);
  for (int j = 0; j < 32; ++j) codes[j] |= static_cast<std::uint8_t>(((bits >> j) & 1) << 4);
}
inline void store_fifth(const std::uint8_t* codes, std::uint8_t* qh) {
  for (int b = 0; b < 4; ++b) {
    int byte = 0;
    for (int j = 0; j < 8; ++j) byte |= ((codes[8 * b + j] >> 4) & 1) << j;
    qh[b] = static_cast<std::uint8_t>(byte);
  }
}

// Eight 6-bit sc and eight 6-bit m in 12 bytes: bytes 0-3 and 4-7 hold sc and m 0-3 in six bits, and the high pairs of
// 4-7 in the top two; bytes 8-11 their low nibbles, sc low, m high.
inline void load_six_bit(const std::uint8_t* bytes, std::int8_t* sc, std::int8_t* m) {
  for (int g = 0; g < 4; ++g) {
    sc[g] = bytes[g] & 63;
    m[g] = bytes[4 + g] & 63;
    sc[4 + g] = (bytes[8 + g] & 15) | (bytes[g] >> 6 << 4);
    m[4 + g] = (bytes[8 + g] >> 4) | (bytes[4 + g] >> 6 << 4);
  }
}
inline void store_six_bit(const std::int8_t* sc, const std::int8_t* m, std::uint8_t* bytes) {
  for (int g = 0; g < 4; ++g) {
    bytes[g] = static_cast<std::uint8_t>(sc[g] | (sc[4 + g] >> 4 << 6));
    bytes[4 + g] = static_cast<std::uint8_t>(m[g] | (m[4 + g] >> 4 << 6));
    bytes[8 + g] = static_cast<std::uint8_t>((sc[4 + g] & 15) | ((m[4 + g] & 15) << 4));
  }
}

// The overload is there only if the condition holds.
template <bool kCondition>
using If = std::enable_if_t<kCondition, int>;

// --- scales ----------------------------------------------------------------------------------------------------------

template <class Block>
inline constexpr bool OneScale = Block::kWeights == 32 && !Block::kHasOffset;
template <class Block>
inline constexpr bool ScaleAndMin = Block::kWeights == 32 && Block::kHasOffset;

template <class Block, If<OneScale<Block>> = 0>
void load_scales(const Block& block, BlockScales& s) {
  s.d = f32_from_f16(block.d);
  s.sc[0] = 1;
}
template <class Block, If<OneScale<Block>> = 0>
void store_scales(const BlockScales& s, Block& block) {
  block.d = f16_from_f32(s.d);
}

template <class Block, If<ScaleAndMin<Block>> = 0>
void load_scales(const Block& block, BlockScales& s) {
  s.d = f32_from_f16(block.d);
  s.dmin = -f32_from_f16(block.m);
  s.sc[0] = s.m[0] = 1;
}
template <class Block, If<ScaleAndMin<Block>> = 0>
void store_scales(const BlockScales& s, Block& block) {
  block.d = f16_from_f32(s.d);
  block.m = f16_from_f32(-s.dmin);
}

inline void load_scales(const BlockQ2_K& block, BlockScales& s) {
  s.d = f32_from_f16(block.d);
  s.dmin = f32_from_f16(block.dmin);
  for (int g = 0; g < 16; ++g) {
    s.sc[g] = block.scales[g] & 15;
    s.m[g] = block.scales[g] >> 4;
  }
}
inline void store_scales(const BlockScales& s, BlockQ2_K& block) {
  block.d = f16_from_f32(s.d);
  block.dmin = f16_from_f32(s.dmin);
  for (int g = 0; g < 16; ++g) block.scales[g] = static_cast<std::uint8_t>(s.sc[g] | (s.m[g] << 4));
}

// Bytes 0-7 hold the low nibbles of scales 0-7 (low) and 8-15 (high); bytes 8-11 the high pairs of 0-3, 4-7, 8-11, 12-15.
inline void load_scales(const BlockQ3_K& block, BlockScales& s) {
  s.d = f32_from_f16(block.d);
  for (int g = 0; g < 16; ++g) {
    const int low = (block.scales[g % 8] >> (g / 8 * 4)) & 15;
    const int high = (block.scales[8 + g % 4] >> (g / 4 * 2)) & 3;
    s.sc[g] = (low | (high << 4)) - 32;
  }
}
inline void store_scales(const BlockScales& s, BlockQ3_K& block) {
  block.d = f16_from_f32(s.d);
  int bytes[12] = {};
  for (int g = 0; g < 16; ++g) {
    const int stored = s.sc[g] + 32;
    bytes[g % 8] |= (stored & 15) << (g / 8 * 4);
    bytes[8 + g % 4] |= (stored >> 4) << (g / 4 * 2);
  }
  for (int b = 0; b < 12; ++b) block.scales[b] = static_cast<std::uint8_t>(bytes[b]);
}

template <class Block>
inline constexpr bool SixBitScales = Block::kWeights == 256 && Block::kHasOffset && Block::kGroup == 32;
template <class Block, If<SixBitScales<Block>> = 0>
void load_scales(const Block& block, BlockScales& s) {
  s.d = f32_from_f16(block.d);
  s.dmin = f32_from_f16(block.dmin);
  load_six_bit(block.scales, s.sc, s.m);
}
template <class Block, If<SixBitScales<Block>> = 0>
void store_scales(const BlockScales& s, Block& block) {
  block.d = f16_from_f32(s.d);
  block.dmin = f16_from_f32(s.dmin);
  store_six_bit(s.sc, s.m, block.scales);
}

inline void load_scales(const BlockQ6_K& block, BlockScales& s) {
  s.d = f32_from_f16(block.d);
  for (int g = 0; g < 16; ++g) s.sc[g] = block.scales[g];
}
inline void store_scales(const BlockScales& s, BlockQ6_K& block) {
  block.d = f16_from_f32(s.d);
  for (int g = 0; g < 16; ++g) block.scales[g] = static_cast<std::int8_t>(s.sc[g]);
}

inline void load_scales(const BlockIQ4_XS& block, BlockScales& s) {
  s.d = f32_from_f16(block.d);
  for (int g = 0; g < 8; ++g) {
    const int low = (block.scales_l[g / 2] >> (g % 2 * 4)) & 15;
    s.sc[g] = (low | (((block.scales_h >> (2 * g)) & 3) << 4)) - 32;
  }
}
inline void store_scales(const BlockScales& s, BlockIQ4_XS& block) {
  block.d = f16_from_f32(s.d);
  int low[4] = {}, high = 0;
  for (int g = 0; g < 8; ++g) {
    const int stored = s.sc[g] + 32;
    low[g / 2] |= (stored & 15) << (g % 2 * 4);
    high |= (stored >> 4) << (2 * g);
  }
  for (int b = 0; b < 4; ++b) block.scales_l[b] = static_cast<std::uint8_t>(low[b]);
  block.scales_h = static_cast<std::uint16_t>(high);
}

// --- codes -----------------------------------------------------------------------------------------------------------

template <class Block>
inline constexpr bool FourBits32 = Block::kWeights == 32 && Block::kLevels == 16;
template <class Block, If<FourBits32<Block>> = 0>
void load_codes(const Block& block, std::uint8_t* codes) { load_nibbles(block.qs, 16, codes); }
template <class Block, If<FourBits32<Block>> = 0>
void store_codes(const std::uint8_t* codes, Block& block) { store_nibbles(codes, 16, block.qs); }

template <class Block>
inline constexpr bool FiveBits32 = Block::kWeights == 32 && Block::kLevels == 32;
template <class Block, If<FiveBits32<Block>> = 0>
void load_codes(const Block& block, std::uint8_t* codes) {
  load_nibbles(block.qs, 16, codes);
  load_fifth(block.qh, codes);
}
template <class Block, If<FiveBits32<Block>> = 0>
void store_codes(const std::uint8_t* codes, Block& block) {
  store_nibbles(codes, 16, block.qs);
  store_fifth(codes, block.qh);
}

inline void load_codes(const BlockQ8_0& block, std::uint8_t* codes) {
  for (int j = 0; j < 32; ++j) codes[j] = static_cast<std::uint8_t>(block.qs[j] + 128);
}
inline void store_codes(const std::uint8_t* codes, BlockQ8_0& block) {
  for (int j = 0; j < 32; ++j) block.qs[j] = static_cast<std::int8_t>(codes[j] - 128);
}

inline void load_codes(const BlockQ2_K& block, std::uint8_t* codes) {
  for (int i = 0; i < 256; ++i) codes[i] = 0;
  for (int h = 0; h < 2; ++h) load_pairs(block.qs + 32 * h, 0, codes + 128 * h);
}
inline void store_codes(const std::uint8_t* codes, BlockQ2_K& block) {
  for (int h = 0; h < 2; ++h) store_pairs(codes + 128 * h, 0, block.qs + 32 * h);
}

inline void load_codes(const BlockQ3_K& block, std::uint8_t* codes) {
  for (int i = 0; i < 256; ++i) codes[i] = 0;
  for (int h = 0; h < 2; ++h) load_pairs(block.qs + 32 * h, 0, codes + 128 * h);
  load_bits(block.hmask, 2, codes);
}
inline void store_codes(const std::uint8_t* codes, BlockQ3_K& block) {
  for (int h = 0; h < 2; ++h) store_pairs(codes + 128 * h, 0, block.qs + 32 * h);
  store_bits(codes, 2, block.hmask);
}

inline void load_codes(const BlockQ4_K& block, std::uint8_t* codes) {
  for (int c = 0; c < 4; ++c) load_nibbles(block.qs + 32 * c, 32, codes + 64 * c);
}
inline void store_codes(const std::uint8_t* codes, BlockQ4_K& block) {
  for (int c = 0; c < 4; ++c) store_nibbles(codes + 64 * c, 32, block.qs + 32 * c);
}

inline void load_codes(const BlockQ5_K& block, std::uint8_t* codes) {
  for (int c = 0; c < 4; ++c) load_nibbles(block.qs + 32 * c, 32, codes + 64 * c);
  load_bits(block.qh, 4, codes);
}
inline void store_codes(const std::uint8_t* codes, BlockQ5_K& block) {
  for (int c = 0; c < 4; ++c) store_nibbles(codes + 64 * c, 32, block.qs + 32 * c);
  store_bits(codes, 4, block.qh);
}

inline void load_codes(const BlockQ6_K& block, std::uint8_t* codes) {
  for (int h = 0; h < 2; ++h) {
    load_nibbles(block.ql + 64 * h, 64, codes + 128 * h);
    load_pairs(block.qh + 32 * h, 4, codes + 128 * h);
  }
}
inline void store_codes(const std::uint8_t* codes, BlockQ6_K& block) {
  for (int h = 0; h < 2; ++h) {
    store_nibbles(codes + 128 * h, 64, block.ql + 64 * h);
    store_pairs(codes + 128 * h, 4, block.qh + 32 * h);
  }
}

inline void load_codes(const BlockIQ4_XS& block, std::uint8_t* codes) {
  for (int g = 0; g < 8; ++g) load_nibbles(block.qs + 16 * g, 16, codes + 32 * g);
}
inline void store_codes(const std::uint8_t* codes, BlockIQ4_XS& block) {
  for (int g = 0; g < 8; ++g) store_nibbles(codes + 32 * g, 16, block.qs + 16 * g);
}

// --- from the type to its block --------------------------------------------------------------------------------------

template <class Block>
struct Tag {
  using type = Block;
};

// Calls work(Tag<Block>{}) for a writable type; false for any other.
template <class Work>
bool with_block(Type type, Work&& work) {
  switch (type) {
    case Type::kQ4_0: work(Tag<BlockQ4_0>{}); return true;
    case Type::kQ4_1: work(Tag<BlockQ4_1>{}); return true;
    case Type::kQ5_0: work(Tag<BlockQ5_0>{}); return true;
    case Type::kQ5_1: work(Tag<BlockQ5_1>{}); return true;
    case Type::kQ8_0: work(Tag<BlockQ8_0>{}); return true;
    case Type::kQ2_K: work(Tag<BlockQ2_K>{}); return true;
    case Type::kQ3_K: work(Tag<BlockQ3_K>{}); return true;
    case Type::kQ4_K: work(Tag<BlockQ4_K>{}); return true;
    case Type::kQ5_K: work(Tag<BlockQ5_K>{}); return true;
    case Type::kQ6_K: work(Tag<BlockQ6_K>{}); return true;
    case Type::kIQ4_NL: work(Tag<BlockIQ4_NL>{}); return true;
    case Type::kIQ4_XS: work(Tag<BlockIQ4_XS>{}); return true;
    default: return false;
  }
}

}  // namespace attar
