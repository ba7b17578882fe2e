#include "kernels_ref/chunk.h"

#include <cstring>

#include "kernels_ref/packing.h"

namespace attar {
namespace {

template <class Block>
void unpack(const std::byte* row, std::size_t first, std::size_t weights, Chunk& chunk) {
  constexpr int kLevelMin = Block::kHasCodebook ? -128 : Block::kLevelMin;
  if (weights < kSuperBlock) chunk = Chunk{};
  for (std::size_t i = 0; i < weights; i += Block::kWeights) {
    const Block& block = block_at<Block>(row, (first + i) / Block::kWeights);
    BlockScales s;
    load_scales(block, s);
    load_codes(block, chunk.codes + i);
    for (std::size_t g = 0; g < Block::kWeights / 16; ++g) {
      const std::size_t own = 16 * g / Block::kGroup;
      const float scale = s.d * static_cast<float>(s.sc[own]);
      chunk.scale[i / 16 + g] = scale;
      chunk.offset[i / 16 + g] = scale * static_cast<float>(kLevelMin) - s.dmin * static_cast<float>(s.m[own]);
    }
  }
  if constexpr (Block::kHasCodebook)
    for (std::size_t i = 0; i < weights; ++i)
      chunk.codes[i] = static_cast<std::uint8_t>(Block::kCodebook[chunk.codes[i]] + 128);
}

}  // namespace

Unpack unpack_of(Type type) {
  Unpack found = nullptr;
  with_block(type, [&](auto tag) { found = unpack<typename decltype(tag)::type>; });
  return found;
}

}  // namespace attar
