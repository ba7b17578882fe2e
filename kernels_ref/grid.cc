// Reading and writing the scales and codes of rows, and the decoder that follows from them.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels_ref/packing.h"
#include "kernels_ref/rows.h"

namespace attar {
namespace {

void check_row(const char* what, Type type, std::uint64_t have, std::uint64_t weights) {
  if (info(type).grid.group == 0) fail("[", what, "] ", info(type).name, " has no grid: it can only be decoded");
  if (have != row_bytes(type, weights))
    fail("[", what, "] a row of ", weights, " weights in ", info(type).name, " is ", row_bytes(type, weights),
         " bytes, not ", have);
}

}  // namespace

void decode_grid_row(Type type, const std::byte* row, Span<float> out) {
  with_block(type, [&](auto tag) {
    using Block = typename decltype(tag)::type;
    // 256 weights at a time: unpacking and multiplying are separate loops, long enough to vectorise well.
    constexpr int kGroups = kSuperBlock / Block::kGroup;
    std::uint8_t codes[kSuperBlock];
    float scale[kGroups], offset[kGroups];
    for (std::size_t begin = 0; begin < out.size(); begin += kSuperBlock) {
      const int weights = static_cast<int>(std::min<std::size_t>(kSuperBlock, out.size() - begin));
      for (int i = 0; i < weights; i += Block::kWeights) {
        const Block& block = block_at<Block>(row, (begin + static_cast<std::size_t>(i)) / Block::kWeights);
        BlockScales s;
        load_scales(block, s);
        load_codes(block, codes + i);
        for (int g = 0; g < Block::kWeights / Block::kGroup; ++g) {
          scale[i / Block::kGroup + g] = s.d * static_cast<float>(s.sc[g]);
          offset[i / Block::kGroup + g] = -(s.dmin * static_cast<float>(s.m[g]));
        }
      }
      float* w = out.data() + begin;
      for (int i = 0; i < weights; ++i) w[i] = static_cast<float>(level_of<Block>(codes[i]));
      for (int g = 0; g < weights / Block::kGroup; ++g) {
        for (int i = g * Block::kGroup; i < (g + 1) * Block::kGroup; ++i) {
          w[i] = scale[g] * w[i];
          if constexpr (Block::kHasOffset) w[i] += offset[g];
        }
      }
    }
  });
}

RowGrid read_grid(Type type, ByteView row, std::uint64_t weights) {
  check_row("read_grid", type, row.size(), weights);
  const std::uint64_t width = block_weights(type, weights), group = group_weights(type, weights);
  const bool has_offset = info(type).grid.has_offset;
  RowGrid grid{std::vector<float>(weights / group), std::vector<float>(weights / group)};
  std::size_t at = 0;
  for (const BlockScales& s : read_scales(type, row, weights)) {
    for (std::size_t g = 0; g < width / group; ++g, ++at) {
      grid.scale[at] = s.d * static_cast<float>(s.sc[g]);
      if (has_offset) grid.offset[at] = -(s.dmin * static_cast<float>(s.m[g]));
    }
  }
  return grid;
}

std::vector<BlockScales> read_scales(Type type, ByteView row, std::uint64_t weights) {
  check_row("read_scales", type, row.size(), weights);
  if (weights == 0) return {};
  std::vector<BlockScales> blocks(weights / block_weights(type, weights));
  if (group_format(type)) {
    read_group_scales(type, row.data(), weights, blocks);
    return blocks;
  }
  with_block(type, [&](auto tag) {
    using Block = typename decltype(tag)::type;
    for (std::size_t b = 0; b < blocks.size(); ++b) load_scales(block_at<Block>(row.data(), b), blocks[b]);
  });
  return blocks;
}

void write_scales(Type type, Span<const BlockScales> blocks, Span<std::byte> row) {
  const std::uint64_t weights = blocks.size() * static_cast<std::size_t>(info(type).block_weights);
  if (info(type).grid.whole_row) {  // how long the row is does not matter to its one scale
    if (blocks.size() != 1 || row.size() < row_bytes(type, weights))
      fail("[write_scales] ", blocks.size(), " blocks for ", row.size(), " bytes of ", info(type).name, ", whose block is the row");
  } else {
    check_row("write_scales", type, row.size(), weights);
  }
  if (group_format(type)) return write_group_scales(type, blocks, weights, row.data());
  with_block(type, [&](auto tag) {
    using Block = typename decltype(tag)::type;
    for (std::size_t b = 0; b < blocks.size(); ++b) {
      Block block = block_at<Block>(row.data(), b);
      store_scales(blocks[b], block);
      std::memcpy(row.data() + b * sizeof(Block), &block, sizeof(Block));
    }
  });
}

void read_codes(Type type, ByteView row, Span<std::uint8_t> codes) {
  check_row("read_codes", type, row.size(), codes.size());
  if (group_format(type)) return read_group_codes(type, row.data(), codes);
  with_block(type, [&](auto tag) {
    using Block = typename decltype(tag)::type;
    for (std::size_t b = 0; b * Block::kWeights < codes.size(); ++b)
      load_codes(block_at<Block>(row.data(), b), codes.data() + b * Block::kWeights);
  });
}

void write_codes(Type type, Span<const std::uint8_t> codes, Span<std::byte> row) {
  check_row("write_codes", type, row.size(), codes.size());
  const int levels = info(type).grid.levels;
  for (const int code : codes)
    if (code >= levels) fail("[write_codes] code ", code, " does not fit ", info(type).name, ": it has ", levels);
  if (group_format(type)) return write_group_codes(type, codes, row.data());
  with_block(type, [&](auto tag) {
    using Block = typename decltype(tag)::type;
    for (std::size_t b = 0; b * Block::kWeights < codes.size(); ++b) {
      Block block = block_at<Block>(row.data(), b);
      store_codes(codes.data() + b * Block::kWeights, block);
      std::memcpy(row.data() + b * sizeof(Block), &block, sizeof(Block));
    }
  });
}

int nearest_code(const GridInfo& grid, float scale, float offset, float w) {
  const auto distance = [&](int code) { return std::fabs(scale * level(grid, code) + offset - w); };
  int guess = 0;
  if (grid.codebook != nullptr) {
    // Below half the step to the next entry, whichever way the scale points.
    const float target = scale != 0 ? (w - offset) / scale : 0.0f;
    while (guess + 1 < grid.levels && target > 0.5f * (level(grid, guess) + level(grid, guess + 1))) ++guess;
  } else {
    const float target = scale != 0 ? (w - offset) / scale : 0.0f;
    const float low = static_cast<float>(grid.level_min), high = low + static_cast<float>(grid.levels - 1);
    guess = static_cast<int>(std::nearbyint(std::min(std::max(low, target), high))) - grid.level_min;
  }
  // The division rounds: near the middle between two levels only the decoded values tell.
  int best = guess;
  if (guess > 0 && distance(guess - 1) < distance(best)) best = guess - 1;
  if (guess + 1 < grid.levels && distance(guess + 1) < distance(best)) best = guess + 1;
  return best;
}

}  // namespace attar
