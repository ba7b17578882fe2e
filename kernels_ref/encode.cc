// encode_row: checks, importance, then sixteen groups at a time the scale search, the nearest levels and packing.
#include "kernels_ref/encode.h"

#include <array>
#include <cstring>

#include "base/vector_clones.h"
#include "kernels_ref/rows.h"
#include "kernels_ref/searches.h"

namespace attar {
namespace {

// The largest magnitude a type can hold with either sign without a scale that overflows f16.
template <class Block>
constexpr float max_magnitude() {
  float most = 65504.0f;
  if constexpr (Block::kWeights == kSuperBlock) most *= static_cast<float>(Block::kScaleMax);
  if constexpr (Block::kHasCodebook) return most * 113.0f;
  if constexpr (!Block::kHasOffset) most *= static_cast<float>(Block::kLevels + Block::kLevelMin - 1);
  return most;
}

template <class Block>
constexpr SearchKind kind_of() {
  if (Block::kWeights == kSuperBlock) return Block::kHasOffset ? SearchKind::kAffines : SearchKind::kScales;
  return Block::kHasOffset ? SearchKind::kAffine : SearchKind::kScale;
}

template <class Block>
void encode_blocks(Span<const float> weights, Span<const float> importance, std::byte* row) {
  constexpr int kPerBlock = Block::kWeights / Block::kGroup, kBatch = kSearchGroups * Block::kGroup;
  constexpr std::size_t kBlocks = kSearchGroups / kPerBlock;
  alignas(64) float x[kBatch], w[kBatch];
  if (!importance.empty()) std::fill(w, w + kBatch, 1.0f);
  SearchTask task{kind_of<Block>(), x, importance.empty() ? nullptr : w, Block::kGroup, kPerBlock, Block::kHasOffset ? 0.0f : static_cast<float>(Block::kLevelMin),
                  static_cast<float>(Block::kLevels + (Block::kHasOffset ? 0 : Block::kLevelMin) - 1), Block::kHasCodebook, 0, 0};
  if constexpr (Block::kHasCodebook) task.low = kIq4Levels[0], task.high = kIq4Levels[15];
  if constexpr (Block::kWeights == kSuperBlock) task.scale_min = Block::kScaleMin, task.scale_max = Block::kScaleMax;
  const BlockSearch search = active_search();
  BlockScales scales[kBlocks];
  std::uint8_t codes[kBatch];
  for (std::size_t begin = 0; begin < weights.size(); begin += kBatch) {
    const std::size_t count = std::min<std::size_t>(kBatch, weights.size() - begin);
    task.x = weights.data() + begin;
    if (count < kBatch) {
      std::fill(std::copy_n(task.x, count, x), x + kBatch, 0.0f);
      task.x = x;
    }
    for (std::size_t i = 0; i < count && !importance.empty(); i += Block::kWeights)
      normalize(importance.data() + begin + i, Block::kWeights, w + i);
    search(task, scales, codes);
    for (std::size_t b = 0; b < count / Block::kWeights; ++b) {
      Block block;
      store_scales(scales[b], block);
      store_codes(codes + b * Block::kWeights, block);
      std::memcpy(row + (begin / Block::kWeights + b) * sizeof(Block), &block, sizeof(Block));
    }
  }
}

constexpr std::int32_t kInfinite = 0x7f800000;

// As the bits of a float, which order like the magnitudes; NaN is above all.
ATTAR_VECTOR_CLONES std::int32_t largest_magnitude(const float* x, std::size_t n) {
  using Bits = std::int32_t __attribute__((vector_size(32)));
  constexpr std::size_t kLanes = 8;
  Bits most[4] = {};
  std::size_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    for (std::size_t k = 0; k < 4; ++k) {
      Bits bits;
      std::memcpy(&bits, x + i + k * kLanes, sizeof bits);
      bits &= 0x7fffffff;
      most[k] = bits > most[k] ? bits : most[k];
    }
  }
  std::int32_t largest = 0;
  for (; i < n; ++i) largest = std::max(largest, bits_as<std::int32_t>(x[i]) & 0x7fffffff);
  for (const Bits& lanes : most)
    for (std::size_t k = 0; k < kLanes; ++k) largest = std::max(largest, lanes[k]);
  return largest;
}

// Throws for the first weight above what the type holds.
void check_magnitudes(Type type, Span<const float> weights, std::int32_t largest, float most) {
  if (largest <= bits_as<std::int32_t>(most)) return;
  for (std::size_t i = 0; i < weights.size(); ++i)
    if (std::fabs(weights[i]) > most)
      fail("[encode] weight ", i, " of the row is ", weights[i], ": ", info(type).name, " holds at most ", most);
}

// Returns the largest magnitude.
std::int32_t check_input(Type type, Span<const float> weights, Span<const float> importance, Span<std::byte> row) {
  const char* name = info(type).name;
  if (const std::uint64_t wanted = row_bytes(type, weights.size()); row.size() != wanted)
    fail("[encode] a row of ", weights.size(), " weights in ", name, " is ", wanted, " bytes, not ", row.size());
  const std::int32_t largest = largest_magnitude(weights.data(), weights.size());
  if (largest >= kInfinite)
    for (std::size_t i = 0; i < weights.size(); ++i)
      if (!std::isfinite(weights[i])) fail("[encode] weight ", i, " of the row is ", weights[i], ", not a finite number");
  if (importance.empty()) return largest;
  if (importance.size() != weights.size())
    fail("[encode] ", importance.size(), " importances for ", weights.size(), " weights");
  for (std::size_t i = 0; i < importance.size(); ++i)
    if (!(importance[i] >= 0) || std::isinf(importance[i]))
      fail("[encode] importance ", i, " of the row is ", importance[i], ", not a finite number of at least 0");
  return largest;
}

}  // namespace

void normalize(const float* importance, int n, float* w) {
  double sum = 0;
  for (int i = 0; i < n; ++i) sum += static_cast<double>(importance[i]);
  if (sum <= 0) {
    std::fill(w, w + n, 1.0f);
    return;
  }
  const double factor = n / sum;
  for (int i = 0; i < n; ++i) w[i] = static_cast<float>(importance[i] * factor) + 1e-6f;
}

void encode_row(Type type, Span<const float> weights, Span<const float> importance,
                Span<std::byte> row) {
  const std::int32_t largest = check_input(type, weights, importance, row);
  if (!info(type).quantized) return encode_plain_row(type, weights, row.data());
  if (group_format(type)) {
    check_magnitudes(type, weights, largest, 65504.0f);  // with a scale, and an offset, of f16, at the smallest level
    return encode_group_row(type, weights, importance, row.data());
  }
  const bool known = with_block(type, [&](auto tag) {
    using Block = typename decltype(tag)::type;
    check_magnitudes(type, weights, largest, max_magnitude<Block>());
    encode_blocks<Block>(weights, importance, row.data());
  });
  if (!known) fail("[encode] ", info(type).name, " can only be decoded; try one of q4_0, q4_k, q5_k, q6_k, q8_0");
}

}  // namespace attar
