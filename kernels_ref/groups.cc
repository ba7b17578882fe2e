// Plain groups: each group is its f16 scale, its f16 offset if it has one, and its codes as one stream of bits, the first code in
// the lowest bits of the first byte. docs/formats/plain-groups.md.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/half.h"
#include "kernels_ref/encode.h"
#include "kernels_ref/rows.h"
#include "kernels_ref/search_group.h"

namespace attar {
namespace {

// Where things lie in a row.
struct Layout {
  Layout(Type type, std::size_t weights)
      : grid(info(type).grid), bits(static_cast<std::size_t>(group_format(type)->bits)), scale_bytes(grid.has_offset ? 4 : 2),
        group(group_weights(type, weights)), groups(group == 0 ? 0 : weights / group) {}

  std::size_t scales(std::size_t g) const { return g * (scale_bytes + group * bits / 8); }
  std::size_t codes(std::size_t g) const { return scales(g) + scale_bytes; }

  const GridInfo& grid;
  std::size_t bits, scale_bytes, group, groups;
};

// Eight codes are `bits` bytes. n: a multiple of 8.
void load_stream(const std::byte* bytes, std::size_t bits, std::size_t n, std::uint8_t* codes) {
  const auto mask = (std::uint64_t{1} << bits) - 1;
  for (std::size_t i = 0; i < n; i += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes + i / 8 * bits, bits);
    for (std::size_t k = 0; k < 8; ++k) codes[i + k] = static_cast<std::uint8_t>((word >> (k * bits)) & mask);
  }
}
void store_stream(const std::uint8_t* codes, std::size_t bits, std::size_t n, std::byte* bytes) {
  for (std::size_t i = 0; i < n; i += 8) {
    std::uint64_t word = 0;
    for (std::size_t k = 0; k < 8; ++k) word |= std::uint64_t{codes[i + k]} << (k * bits);
    std::memcpy(bytes + i / 8 * bits, &word, bits);
  }
}

BlockScales load_group_scale(const Layout& layout, const std::byte* bytes) {
  std::uint16_t half[2] = {};
  std::memcpy(half, bytes, layout.scale_bytes);
  BlockScales s;
  s.d = f32_from_f16(half[0]);
  s.sc[0] = 1;
  if (layout.grid.has_offset) {
    s.dmin = -f32_from_f16(half[1]);
    s.m[0] = 1;
  }
  return s;
}
void store_group_scale(const Layout& layout, const BlockScales& s, std::byte* bytes) {
  const std::uint16_t half[2] = {f16_from_f32(s.d), f16_from_f32(-s.dmin)};
  std::memcpy(bytes, half, layout.scale_bytes);
}

// How far the search goes: the longer the group, the further its largest weights lie out, and the fewer the levels, the more
// clipping them pays.
struct Reach {
  float inside, outside, ratio;  // of the outermost level, where the largest weight is tried: from, to, step
  search::AffineSearch affine;
};
Reach reach_of(const GridInfo& grid) {
  const bool many = grid.levels > 32;
  if (grid.whole_row) return many ? Reach{0.97f, 2.0f, 1.004f, {0.3f, 8}} : Reach{0.75f, 4.0f, 1.035f, {0.2f, 8}};
  const int cuts = grid.group > 64 ? 8 : 4;
  return many ? Reach{0.97f, 1.06f, 1.004f, {0.62f, cuts}} : Reach{0.75f, 2.2f, 1.035f, {0.3f, cuts}};
}

std::vector<float> targets_of(const search::Uniform& levels, const Reach& reach) {
  std::vector<float> targets;
  for (float share = reach.inside; share <= reach.outside; share *= reach.ratio) {
    targets.push_back(levels.low * share);
    targets.push_back(levels.high * share);
  }
  return targets;
}

bool all_nothing(const float* x, int n) {
  return std::all_of(x, x + n, [](float v) { return std::fabs(v) < search::kNothing; });
}

template <class Levels>
void nearest_codes(const Levels& levels, const float* x, int n, float scale, float offset, std::uint8_t* codes) {
  const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
  for (int i = 0; i < n; ++i) codes[i] = static_cast<std::uint8_t>(levels.code((x[i] - offset) * inverse));
}

}  // namespace

void decode_group_row(Type type, const std::byte* row, Span<float> out) {
  const Layout layout(type, out.size());
  std::vector<std::uint8_t> codes(layout.group);
  for (std::size_t g = 0; g < layout.groups; ++g) {
    const BlockScales s = load_group_scale(layout, row + layout.scales(g));
    load_stream(row + layout.codes(g), layout.bits, layout.group, codes.data());
    float* w = out.data() + g * layout.group;
    for (std::size_t i = 0; i < layout.group; ++i) w[i] = s.d * static_cast<float>(codes[i] + layout.grid.level_min);
    if (layout.grid.has_offset)
      for (std::size_t i = 0; i < layout.group; ++i) w[i] -= s.dmin;
  }
}

void encode_group_row(Type type, Span<const float> weights, Span<const float> importance, std::byte* row) {
  const Layout layout(type, weights.size());
  const search::Uniform levels{static_cast<float>(layout.grid.level_min),
                               static_cast<float>(layout.grid.level_min + layout.grid.levels - 1)};
  const Reach reach = reach_of(layout.grid);
  const std::vector<float> targets = targets_of(levels, reach);
  const int n = static_cast<int>(layout.group);
  std::vector<float> w(layout.group, 1.0f);
  std::vector<std::uint8_t> codes(layout.group);
  for (std::size_t g = 0; g < layout.groups; ++g) {
    const float* x = weights.data() + g * layout.group;
    if (!importance.empty()) normalize(importance.data() + g * layout.group, n, w.data());
    const search::BlockTask task{x, w.data(), n};
    BlockScales s;
    if (!all_nothing(x, n))
      s = layout.grid.has_offset ? search::search_affine(levels.high, task, reach.affine) : search::search_scale(levels, task, targets);
    nearest_codes(levels, x, n, s.d, layout.grid.has_offset ? -s.dmin : 0.0f, codes.data());
    store_group_scale(layout, s, row + layout.scales(g));
    store_stream(codes.data(), layout.bits, layout.group, row + layout.codes(g));
  }
}

void read_group_scales(Type type, const std::byte* row, std::uint64_t weights, Span<BlockScales> groups) {
  const Layout layout(type, weights);
  for (std::size_t g = 0; g < groups.size(); ++g) groups[g] = load_group_scale(layout, row + layout.scales(g));
}

void write_group_scales(Type type, Span<const BlockScales> groups, std::uint64_t weights, std::byte* row) {
  const Layout layout(type, weights);
  for (std::size_t g = 0; g < groups.size(); ++g) store_group_scale(layout, groups[g], row + layout.scales(g));
}

void read_group_codes(Type type, const std::byte* row, Span<std::uint8_t> codes) {
  const Layout layout(type, codes.size());
  for (std::size_t g = 0; g < layout.groups; ++g)
    load_stream(row + layout.codes(g), layout.bits, layout.group, codes.data() + g * layout.group);
}

void write_group_codes(Type type, Span<const std::uint8_t> codes, std::byte* row) {
  const Layout layout(type, codes.size());
  for (std::size_t g = 0; g < layout.groups; ++g)
    store_stream(codes.data() + g * layout.group, layout.bits, layout.group, row + layout.codes(g));
}

}  // namespace attar
