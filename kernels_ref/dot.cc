#include "kernels_ref/dot.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels_ref/packing.h"

namespace attar {
namespace {

constexpr int kLanes = 16;

void sum_by_16(const std::int8_t* q, int n, std::int16_t* sums) {
  for (int g = 0; g < n / 16; ++g) {
    int sum = 0;
    for (int i = 16 * g; i < 16 * (g + 1); ++i) sum += q[i];
    sums[g] = static_cast<std::int16_t>(sum);
  }
}

// --- integer products ------------------------------------------------------------------------------------------------

template <class Block>
void load_levels(const std::uint8_t* codes, int n, std::int16_t* levels) {
  for (int i = 0; i < n; ++i) levels[i] = static_cast<std::int16_t>(level_of<Block>(codes[i]));
}

// sums16: sums of 16 q; only read where there are minima per group.
template <class Block>
BlockSums sums_of(const std::int16_t* levels, const BlockScales& s, const std::int8_t* q, const std::int16_t* sums16) {
  BlockSums sums;
  if constexpr (Block::kWeights == 32) {
    for (int i = 0; i < 32; ++i) sums.product += levels[i] * q[i];
    if constexpr (Block::kHasOffset)
      for (int i = 0; i < 32; ++i) sums.minimum += q[i];
  } else {
    std::int16_t scaled[Block::kWeights];  // |sc * level| <= 128 * 32
    for (int g = 0; g < Block::kWeights / Block::kGroup; ++g) {
      const auto sc = static_cast<std::int16_t>(s.sc[g]);
      for (int i = g * Block::kGroup; i < (g + 1) * Block::kGroup; ++i)
        scaled[i] = static_cast<std::int16_t>(sc * levels[i]);
    }
    for (int i = 0; i < Block::kWeights; ++i) sums.product += scaled[i] * q[i];
    if constexpr (Block::kHasOffset)
      for (int g = 0; g < 16; ++g) sums.minimum += s.m[g * 16 / Block::kGroup] * sums16[g];
  }
  return sums;
}

template <class Block>
float dot_blocks(const std::byte* row, const RoundedVector& x, std::size_t blocks) {
  // 256 weights at a time: unpacking and multiplying are separate loops, long enough to vectorise well.
  constexpr std::size_t kChunk = kSuperBlock / Block::kWeights;
  std::uint8_t codes[kSuperBlock];
  std::int16_t levels[kSuperBlock];
  BlockScales scales[kChunk];
  float total = 0;
  for (std::size_t begin = 0; begin < blocks; begin += kChunk) {
    const std::size_t count = std::min(kChunk, blocks - begin);
    for (std::size_t b = 0; b < count; ++b) {
      const Block& block = block_at<Block>(row, begin + b);
      load_scales(block, scales[b]);
      load_codes(block, codes + b * Block::kWeights);
    }
    load_levels<Block>(codes, static_cast<int>(count) * Block::kWeights, levels);
    for (std::size_t b = 0; b < count; ++b) {
      const std::size_t at = (begin + b) * Block::kWeights;
      const BlockSums sums = sums_of<Block>(levels + b * Block::kWeights, scales[b], x.q + at, x.sums + at / 16);
      float value = scales[b].d * static_cast<float>(sums.product);
      if constexpr (Block::kHasOffset) value -= scales[b].dmin * static_cast<float>(sums.minimum);
      total += x.d[at / 32] * value;
    }
  }
  return total;
}

}  // namespace

Type activation_type(Type weights) {
  constexpr Type kTypes[] = {Type::kF32, Type::kQ8_0, Type::kQ8_K};
  return kTypes[static_cast<int>(default_rounding(weights))];
}

float dot_integers(Type type, const std::byte* row, const RoundedVector& x, std::size_t weights) {
  float result = 0;
  with_block(type, [&](auto tag) {
    using Block = typename decltype(tag)::type;
    result = dot_blocks<Block>(row, x, weights / Block::kWeights);
  });
  return result;
}

float dot_row(Type type, ByteView row, Span<const float> x) {
  if (const std::uint64_t wanted = row_bytes(type, x.size()); row.size() != wanted)
    fail("[dot] a row of ", x.size(), " weights in ", info(type).name, " is ", wanted, " bytes, not ", row.size());
  // In parts of 256 weights, which stay in the cache; a row that is one group is one part.
  const std::size_t part = info(type).grid.whole_row ? x.size() : std::size_t{kSuperBlock};
  std::vector<float> w(part);
  float lanes[kLanes] = {};
  for (std::size_t begin = 0; begin < x.size(); begin += part) {
    const std::size_t n = std::min(part, x.size() - begin);
    decode_row(type, row.subspan(row_bytes(type, begin), row_bytes(type, n)), Span<float>(w).first(n));
    const float* v = x.data() + begin;
    std::size_t i = 0;
    for (; i + kLanes <= n; i += kLanes)
      for (int k = 0; k < kLanes; ++k) lanes[k] += w[i + k] * v[i + k];
    for (; i < n; ++i) lanes[i % kLanes] += w[i] * v[i];
  }
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int k = 0; k < half; ++k) lanes[k] += lanes[k + half];
  return lanes[0];
}

BlockSums block_sums(Type type, ByteView block, Span<const std::int8_t> q) {
  const TypeInfo& entry = info(type);
  if (activation_type(type) == Type::kF32 || block.size() != static_cast<std::size_t>(entry.block_bytes) ||
      q.size() != static_cast<std::size_t>(entry.block_weights))
    fail("[dot] ", entry.name, ": ", block.size(), " bytes and ", q.size(), " activations are not one block of integers");
  BlockSums sums;
  with_block(type, [&](auto tag) {
    using Block = typename decltype(tag)::type;
    const Block& loaded = block_at<Block>(block.data(), 0);
    BlockScales s;
    std::uint8_t codes[Block::kWeights];
    std::int16_t levels[Block::kWeights];
    std::int16_t sums16[16];
    load_scales(loaded, s);
    load_codes(loaded, codes);
    load_levels<Block>(codes, Block::kWeights, levels);
    sum_by_16(q.data(), Block::kWeights, sums16);
    sums = sums_of<Block>(levels, s, q.data(), sums16);
  });
  return sums;
}

float dot_row_quantized(Type type, ByteView row, ByteView activations, std::uint64_t weights) {
  const Type wanted = activation_type(type);
  if (row.size() != row_bytes(type, weights) || activations.size() != row_bytes(wanted, weights))
    fail("[dot] ", weights, " weights in ", info(type).name, " with activations in ", info(wanted).name, " are ",
         row_bytes(type, weights), " and ", row_bytes(wanted, weights), " bytes, not ", row.size(), " and ",
         activations.size());
  if (wanted == Type::kF32) {
    std::vector<float> x(weights);
    std::memcpy(x.data(), activations.data(), activations.size());
    return dot_row(type, row, x);
  }
  Activations x;
  x.unpack(default_rounding(type), activations, weights);
  return dot_integers(type, row.data(), x.token(0), weights);
}

}  // namespace attar
