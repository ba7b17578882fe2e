// encode_row: checks, importance, then block by block the scale search, the nearest levels and packing.
#include "kernels_ref/encode.h"

#include <array>
#include <cstring>

#include "kernels_ref/rows.h"

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

// Levels the weight of largest magnitude is tried at: from well inside the range of levels to beyond its end (clipped).
template <class Block>
constexpr auto make_targets() {
  constexpr int kSteps = 24;
  std::array<float, 2 * kSteps> targets{};
  const float low = Block::kHasCodebook ? -127.0f : static_cast<float>(Block::kLevelMin);
  const float high = Block::kHasCodebook ? 113.0f : static_cast<float>(Block::kLevels + Block::kLevelMin - 1);
  // The fewer the levels, the more clipping pays.
  const float first = Block::kLevels > 32 ? 0.97f : 0.75f, last = Block::kLevels > 32 ? 1.06f : 1.55f;
  for (int i = 0; i < kSteps; ++i) {
    const float share = first + (last - first) * static_cast<float>(i) / (kSteps - 1);
    targets[static_cast<std::size_t>(2 * i)] = low * share;
    targets[static_cast<std::size_t>(2 * i + 1)] = high * share;
  }
  return targets;
}

template <class Block>
constexpr auto levels_of() {
  if constexpr (Block::kHasCodebook) {
    return search::Iq4{};
  } else {
    return search::Uniform{Block::kLevelMin, Block::kLevels + Block::kLevelMin - 1};
  }
}

template <class Block>
BlockScales search_block(const float* x, const float* w) {
  static constexpr auto kTargets = make_targets<Block>();
  constexpr float kTop = Block::kLevels - 1;
  BlockTask task{x, w, Block::kWeights, Block::kGroup};
  if constexpr (Block::kWeights == kSuperBlock) {
    task.scale_min = Block::kScaleMin;
    task.scale_max = Block::kScaleMax;
    if constexpr (Block::kHasOffset) return search_affines(kTop, task);
    else return search_scales(levels_of<Block>(), task, kTargets);
  } else {
    if constexpr (Block::kHasOffset) return search_affine(kTop, task);
    else return search_scale(levels_of<Block>(), task, kTargets);
  }
}

// x: Block::kWeights weights; w: their importance.
template <class Block>
Block encode_block(const float* x, const float* w) {
  const BlockScales s = all_nothing(x, Block::kWeights) ? BlockScales{} : search_block<Block>(x, w);
  std::uint8_t codes[Block::kWeights];
  for (int g = 0; g < Block::kWeights / Block::kGroup; ++g)
    nearest_codes(levels_of<Block>(), x + g * Block::kGroup, Block::kGroup, s.d * static_cast<float>(s.sc[g]),
                  Block::kHasOffset ? -(s.dmin * static_cast<float>(s.m[g])) : 0.0f, codes + g * Block::kGroup);
  Block block;
  store_scales(s, block);
  store_codes(codes, block);
  return block;
}

void check_input(Type type, Span<const float> weights, Span<const float> importance,
                 Span<std::byte> row) {
  const char* name = info(type).name;
  if (const std::uint64_t wanted = row_bytes(type, weights.size()); row.size() != wanted)
    fail("[encode] a row of ", weights.size(), " weights in ", name, " is ", wanted, " bytes, not ", row.size());
  for (std::size_t i = 0; i < weights.size(); ++i)
    if (!std::isfinite(weights[i])) fail("[encode] weight ", i, " of the row is ", weights[i], ", not a finite number");
  if (importance.empty()) return;
  if (importance.size() != weights.size())
    fail("[encode] ", importance.size(), " importances for ", weights.size(), " weights");
  for (std::size_t i = 0; i < importance.size(); ++i)
    if (!(importance[i] >= 0) || std::isinf(importance[i]))
      fail("[encode] importance ", i, " of the row is ", importance[i], ", not a finite number of at least 0");
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

bool all_nothing(const float* x, int n) {
  return std::all_of(x, x + n, [](float v) { return std::fabs(v) < 0x1p-25f; });
}

void encode_row(Type type, Span<const float> weights, Span<const float> importance,
                Span<std::byte> row) {
  check_input(type, weights, importance, row);
  if (!info(type).quantized) return encode_plain_row(type, weights, row.data());
  if (group_format(type)) {
    constexpr float kMost = 65504.0f;  // with a scale, and an offset, of f16, at the smallest level
    for (std::size_t i = 0; i < weights.size(); ++i)
      if (std::fabs(weights[i]) > kMost)
        fail("[encode] weight ", i, " of the row is ", weights[i], ": ", info(type).name, " holds at most ", kMost);
    return encode_group_row(type, weights, importance, row.data());
  }
  const bool known = with_block(type, [&](auto tag) {
    using Block = typename decltype(tag)::type;
    for (std::size_t i = 0; i < weights.size(); ++i)
      if (std::fabs(weights[i]) > max_magnitude<Block>())
        fail("[encode] weight ", i, " of the row is ", weights[i], ": ", info(type).name, " holds at most ",
             max_magnitude<Block>());
    float w[Block::kWeights];
    std::fill(w, w + Block::kWeights, 1.0f);
    for (std::size_t b = 0; b * Block::kWeights < weights.size(); ++b) {
      if (!importance.empty()) normalize(importance.data() + b * Block::kWeights, Block::kWeights, w);
      const Block block = encode_block<Block>(weights.data() + b * Block::kWeights, w);
      std::memcpy(row.data() + b * sizeof(Block), &block, sizeof(Block));
    }
  });
  if (!known) fail("[encode] ", info(type).name, " can only be decoded; try one of q4_0, q4_k, q5_k, q6_k, q8_0");
}

}  // namespace attar
