// From sixteen groups to the integers and f16 numbers that their blocks store. F: see search_lanes.h. Internal.
#pragma once

#include <array>
#include <limits>

#include "kernels_ref/search_lanes.h"
#include "kernels_ref/searches.h"

namespace attar::search {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
using PerGroup = std::array<float, kSearchGroups>;

// The groups of a task, in as many parts as it takes.
template <class F, bool kWeighted>
struct Parts {
  explicit Parts(const SearchTask& t) {
    for (int first = 0; first < kSearchGroups; first += kWidth<F>)
      groups[first / kWidth<F>].fill(t.x + first * t.group, kWeighted ? t.w + first * t.group : nullptr, t.group);
  }
  const Groups<F, kWeighted>& from(int first) const { return groups[first / kWidth<F>]; }
  Groups<F, kWeighted> groups[kSearchGroups / kWidth<F>];
};

// From well inside the range of levels to beyond its end (clipped). The fewer the levels, the more clipping pays.
struct TargetList {
  float levels[48];
  std::size_t within = 0, above = 0, count = 0;  // the first and how many they are with the next, see Targets

  explicit TargetList(const SearchTask& t) {
    const float low = t.low, high = t.high;
    const bool many = high - low > 32 && !t.codebook;
    const float first = many ? 0.97f : 0.75f, last = many ? 1.06f : 1.45f;
    // With 32 levels a small step still moves some weights; with fewer levels or more a coarse one leads to the same optimum.
    const int steps = high - low == 31 ? 24 : 8;
    constexpr float kLessThanHalf = 0.45f;
    for (int i = 0; i < steps; ++i) {
      const float share = first + (last - first) * static_cast<float>(i) / static_cast<float>(steps - 1);
      levels[count++] = low * share;
      levels[count++] = high * share;
      // Weights of the other sign may be as large.
      const float largest = std::max(-low, high) * share;
      if (largest < std::min(-low, high) + kLessThanHalf) within = count;
      if (largest < -low + kLessThanHalf) above = count;
    }
  }
  Targets all() const { return {{levels, within}, {levels + within, above - within}, {levels + above, count - above}}; }
};

// Where the largest of a vector of scales may go on the integer grid: its ends, and further in and out.
template <int kCount>
constexpr std::array<float, kCount> scale_targets(float end) {
  std::array<float, kCount> targets{};
  for (int i = 0; i < kCount; ++i) targets[static_cast<std::size_t>(i)] = end * (1.06f - 0.02f * static_cast<float>(i));
  return targets;
}

// Rounds a vector of scales to integers times one f16: the scale of the scales. curvature: what an error of each costs.
inline float fit_super_scale(const float* scales, const float* curvature, int groups, int low, int high) {
  const Uniform levels{static_cast<float>(low), static_cast<float>(high)};
  ScaleFit best = fit_scale(levels, scales, curvature, groups, scale_targets<16>(levels.high));
  if (low < 0) {
    const ScaleFit other = fit_scale(levels, scales, curvature, groups, scale_targets<16>(levels.low));
    if (other.error < best.error) best = other;
  }
  return to_f16(best.scale);
}

template <class F, bool kWeighted, class Levels>
void batch_scale(const Levels& levels, const SearchTask& t, BlockScales* out) {
  const Parts<F, kWeighted> parts(t);
  const TargetList targets(t);
  for (int first = 0; first < kSearchGroups; first += kWidth<F>) {
    const Groups<F, kWeighted>& g = parts.from(first);
    const F start = start_scale(levels, g, targets.all());
    float d[kWidth<F>];
    store(refine(levels, g, start, 3, [](F v) { return to_f16_lanes(v); }).scale, d);
    for (int k = 0; k < kWidth<F>; ++k) out[first + k].d = d[k], out[first + k].sc[0] = 1;
  }
}

template <class F, bool kWeighted>
void batch_affine(const SearchTask& t, BlockScales* out) {
  const Parts<F, kWeighted> parts(t);
  for (int first = 0; first < kSearchGroups; first += kWidth<F>) {
    const Groups<F, kWeighted>& g = parts.from(first);
    const AffineFitOf<F> fit = fit_affine(t.high, g, kInfinity);
    F error = measure_affine(t.high, g, F{}, F{}).rr, d{}, offset{};
    float rounded[kWidth<F>];
    store(fit.offset, rounded);
    for (const int steps : {0, -1, 1}) {
      float tried[kWidth<F>];
      for (int k = 0; k < kWidth<F>; ++k) tried[k] = f16_neighbour(to_f16(rounded[k]), steps);
      const F m = load<F>(tried);
      F scale = to_f16_lanes(fit.scale);
      for (int turn = 0; turn < 3; ++turn) {
        const AffineSumsOf<F> sums = measure_affine(t.high, g, scale, m);
        const auto better = sums.rr < error;
        error = better ? sums.rr : error;
        d = better ? scale : d;
        offset = better ? m : offset;
        scale = to_f16_lanes(sums.qq > F{} ? scale + sums.rq / sums.qq : scale);
      }
    }
    float ds[kWidth<F>], offsets[kWidth<F>];
    store(d, ds), store(offset, offsets);
    for (int k = 0; k < kWidth<F>; ++k) {
      BlockScales& s = out[first + k];
      s.d = ds[k], s.dmin = -offsets[k], s.sc[0] = s.m[0] = 1;
    }
  }
}

// What a search by turns over d (and dmin) knows of each block.
struct Turns {
  explicit Turns(const SearchTask& t) : per_block(t.groups_per_block), blocks(kSearchGroups / t.groups_per_block) {}
  // The value of each group's block.
  void spread(const PerGroup& of_blocks, PerGroup& of_groups) const {
    for (int g = 0; g < kSearchGroups; ++g) of_groups[static_cast<std::size_t>(g)] = of_blocks[static_cast<std::size_t>(g / per_block)];
  }
  int per_block, blocks;
  PerGroup error{}, d{}, dmin{};  // per block: the least error so far, and what is tried next
  bool done[kSearchGroups] = {};
  bool all_done() const {
    for (int b = 0; b < blocks; ++b)
      if (!done[b]) return false;
    return true;
  }
};

template <class F, bool kWeighted, class Levels>
void batch_scales(const Levels& levels, const SearchTask& t, BlockScales* out) {
  const TargetList targets(t);
  const Uniform integers{static_cast<float>(t.scale_min), static_cast<float>(t.scale_max)};
  const Parts<F, kWeighted> parts(t);
  Turns turns(t);
  PerGroup scale{}, curvature{}, zero{}, d{}, sc{}, rr{}, rl{}, ll{};
  for (int first = 0; first < kSearchGroups; first += kWidth<F>) {
    const Groups<F, kWeighted>& g = parts.from(first);
    const auto fit = refine(levels, g, start_scale(levels, g, targets.all()), 2, [](F v) { return v; });
    store(fit.scale, scale.data() + first), store(fit.curvature, curvature.data() + first);
    store(no_scale(levels, g).error, zero.data() + first);
  }
  for (int b = 0; b < turns.blocks; ++b) {
    const auto i = static_cast<std::size_t>(b);
    const int at = b * turns.per_block;
    for (int g = at; g < at + turns.per_block; ++g) turns.error[i] += zero[static_cast<std::size_t>(g)];
    turns.d[i] = fit_super_scale(scale.data() + at, curvature.data() + at, turns.per_block, t.scale_min, t.scale_max);
  }
  for (int turn = 0; turn < 4 && !turns.all_done(); ++turn) {
    // d is fixed: every group tries the integers around its own scale.
    turns.spread(turns.d, d);
    for (int first = 0; first < kSearchGroups; first += kWidth<F>) {
      const Groups<F, kWeighted>& g = parts.from(first);
      const F own = load<F>(d.data() + first);
      const F middle = integers.nearest(own != F{} ? load<F>(scale.data() + first) / own : F{});
      ScaleSumsOf<F> best;
      F best_sc{};
      best.rr = F{} + kInfinity;
      for (const float step : {-1.0f, 0.0f, 1.0f}) {
        const F tried = integers.nearest(middle + step);
        const ScaleSumsOf<F> sums = measure(levels, g, own * tried);
        const auto better = sums.rr < best.rr;
        best_sc = better ? tried : best_sc;
        best.rr = better ? sums.rr : best.rr;
        best.rl = better ? sums.rl : best.rl;
        best.ll = better ? sums.ll : best.ll;
      }
      store(best_sc, sc.data() + first), store(best.rr, rr.data() + first);
      store(best.rl, rl.data() + first), store(best.ll, ll.data() + first);
    }
    for (int b = 0; b < turns.blocks; ++b) {
      const auto i = static_cast<std::size_t>(b);
      float error = 0, sum_rl = 0, sum_ll = 0;
      for (std::size_t g = i * static_cast<std::size_t>(turns.per_block); g < (i + 1) * static_cast<std::size_t>(turns.per_block); ++g) {
        error += rr[g];
        sum_rl += sc[g] * rl[g];
        sum_ll += sc[g] * sc[g] * ll[g];
      }
      if (turns.done[b] || error >= turns.error[i]) {
        turns.done[b] = true;
        continue;
      }
      turns.error[i] = error;
      out[b].d = turns.d[i];
      for (int g = 0; g < turns.per_block; ++g) out[b].sc[g] = static_cast<std::int8_t>(sc[static_cast<std::size_t>(b * turns.per_block + g)]);
      // The levels and integers are fixed: least squares for d.
      const float next = sum_ll > 0 ? to_f16(turns.d[i] + sum_rl / sum_ll) : turns.d[i];
      turns.done[b] = next == turns.d[i];
      turns.d[i] = next;
    }
  }
}

// The best integers (sc, m) of each group for given d and dmin, around what the group would like best.
template <class F, bool kWeighted>
AffineSumsOf<F> choose_integers(const SearchTask& t, const Groups<F, kWeighted>& g, F wish_scale, F wish_offset, F d, F dmin, F& best_sc, F& best_m) {
  const Uniform integers{0, static_cast<float>(t.scale_max)};
  AffineSumsOf<F> best;
  best.rr = F{} + kInfinity;
  const F middle = integers.nearest(d != F{} ? wish_scale / d : F{});
  for (const float step : {-1.0f, 0.0f, 1.0f}) {
    const F sc = integers.nearest(middle + step), scale = d * sc;
    F offset = wish_offset;
    for (int turn = 0; turn < 2; ++turn) {
      const F m = integers.nearest(dmin != F{} ? -offset / dmin : F{});
      const F rounded = -(dmin * m);
      const AffineSumsOf<F> sums = measure_affine(t.high, g, scale, rounded);
      const auto better = sums.rr < best.rr;
      take(better, sums, best);
      best_sc = better ? sc : best_sc;
      best_m = better ? m : best_m;
      offset = sums.w > F{} ? rounded + sums.r / sums.w : rounded;
    }
  }
  return best;
}

template <class F, bool kWeighted>
void batch_affines(const SearchTask& t, BlockScales* out) {
  const Parts<F, kWeighted> parts(t);
  Turns turns(t);
  PerGroup wish_scale{}, wish_offset{}, minimum{}, scale_cost{}, minimum_cost{}, zero{}, d{}, dmin{};
  PerGroup sc{}, m{}, rr{}, r{}, rq{}, q{}, qq{}, w{};
  for (int first = 0; first < kSearchGroups; first += kWidth<F>) {
    const Groups<F, kWeighted>& g = parts.from(first);
    const AffineFitOf<F> fit = fit_affine(t.high, g, 0.0f);
    store(fit.scale, wish_scale.data() + first), store(fit.offset, wish_offset.data() + first);
    store(F{} - fit.offset, minimum.data() + first);
    store(fit.sums.qq, scale_cost.data() + first), store(fit.sums.w, minimum_cost.data() + first);
    store(measure_affine(t.high, g, F{}, F{}).rr, zero.data() + first);
  }
  for (int b = 0; b < turns.blocks; ++b) {
    const auto i = static_cast<std::size_t>(b);
    const int at = b * turns.per_block;
    for (int g = at; g < at + turns.per_block; ++g) turns.error[i] += zero[static_cast<std::size_t>(g)];
    turns.d[i] = fit_super_scale(wish_scale.data() + at, scale_cost.data() + at, turns.per_block, 0, t.scale_max);
    turns.dmin[i] = fit_super_scale(minimum.data() + at, minimum_cost.data() + at, turns.per_block, 0, t.scale_max);
  }
  for (int turn = 0; turn < 4 && !turns.all_done(); ++turn) {
    turns.spread(turns.d, d), turns.spread(turns.dmin, dmin);
    for (int first = 0; first < kSearchGroups; first += kWidth<F>) {
      const Groups<F, kWeighted>& g = parts.from(first);
      F own_sc{}, own_m{};
      const AffineSumsOf<F> s = choose_integers(t, g, load<F>(wish_scale.data() + first), load<F>(wish_offset.data() + first),
                                                load<F>(d.data() + first), load<F>(dmin.data() + first), own_sc, own_m);
      store(own_sc, sc.data() + first), store(own_m, m.data() + first);
      store(s.rr, rr.data() + first), store(s.r, r.data() + first), store(s.rq, rq.data() + first);
      store(s.q, q.data() + first), store(s.qq, qq.data() + first), store(s.w, w.data() + first);
    }
    for (int b = 0; b < turns.blocks; ++b) {
      const auto i = static_cast<std::size_t>(b);
      AffineSums all;  // over the regressors sc * q (of d) and m (of -dmin)
      for (std::size_t g = i * static_cast<std::size_t>(turns.per_block); g < (i + 1) * static_cast<std::size_t>(turns.per_block); ++g) {
        all.rr += rr[g];
        all.rq += sc[g] * rq[g];
        all.qq += sc[g] * sc[g] * qq[g];
        all.r += m[g] * r[g];
        all.q += sc[g] * m[g] * q[g];
        all.w += m[g] * m[g] * w[g];
      }
      if (turns.done[b] || all.rr >= turns.error[i]) {
        turns.done[b] = true;
        continue;
      }
      turns.error[i] = all.rr;
      out[b].d = turns.d[i], out[b].dmin = turns.dmin[i];
      for (int g = 0; g < turns.per_block; ++g) {
        const auto at = static_cast<std::size_t>(b * turns.per_block + g);
        out[b].sc[g] = static_cast<std::int8_t>(sc[at]), out[b].m[g] = static_cast<std::int8_t>(m[at]);
      }
      const AffineStep step = refit_affine(all, turns.d[i], -turns.dmin[i], 0.0f);
      const float next = to_f16(step.scale), next_min = to_f16(-step.offset);
      turns.done[b] = next == turns.d[i] && next_min == turns.dmin[i];
      turns.d[i] = next > 0 ? next : 0;
      turns.dmin[i] = next_min > 0 ? next_min : 0;
    }
  }
}

template <class F>
bool all_nothing(const float* x, int n) {
  if (std::fabs(*x) >= kNothing) return false;  // as good as always
  F largest{};
  for (int i = 0; i < n; i += kWidth<F>) largest = most(largest, magnitude(load<F>(x + i)));
  float lanes[kWidth<F>];
  store(largest, lanes);
  return *std::max_element(lanes, lanes + kWidth<F>) < kNothing;
}

template <class F, class Levels>
void nearest_codes(const Levels& levels, const SearchTask& t, const BlockScales* scales, std::uint8_t* codes) {
  const int n = t.group;
  for (int g = 0; g < kSearchGroups; ++g) {
    const BlockScales& s = scales[g / t.groups_per_block];
    const int own = g % t.groups_per_block;
    const float scale = s.d * static_cast<float>(s.sc[own]), offset = -(s.dmin * static_cast<float>(s.m[own]));
    const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
    std::int32_t found[32];
    for (int i = 0; i < n; i += kWidth<F>) store_integers(levels.code((load<F>(t.x + g * n + i) - offset) * inverse), found + i);
    for (int i = 0; i < n; ++i) codes[g * n + i] = static_cast<std::uint8_t>(found[i]);
  }
}

template <class F, bool kWeighted, class Levels>
void search_scales(const Levels& levels, const SearchTask& t, BlockScales* out) {
  switch (t.kind) {
    case SearchKind::kScale: return batch_scale<F, kWeighted>(levels, t, out);
    case SearchKind::kScales: return batch_scales<F, kWeighted>(levels, t, out);
    case SearchKind::kAffine: return batch_affine<F, kWeighted>(t, out);
    case SearchKind::kAffines: return batch_affines<F, kWeighted>(t, out);
  }
}

template <class F, class Levels>
void search_levels(const Levels& levels, const SearchTask& t, BlockScales* out, std::uint8_t* codes) {
  if (t.w != nullptr) search_scales<F, true>(levels, t, out);
  else search_scales<F, false>(levels, t, out);
  const int block = t.group * t.groups_per_block;
  for (int b = 0; b < kSearchGroups / t.groups_per_block; ++b)
    if (all_nothing<F>(t.x + b * block, block)) out[b] = BlockScales{};
  nearest_codes<F>(levels, t, out, codes);
}

template <class F>
void search_batch(const SearchTask& t, BlockScales* out, std::uint8_t* codes) {
  for (int b = 0; b < kSearchGroups / t.groups_per_block; ++b) out[b] = BlockScales{};
  if (t.codebook) return search_levels<F>(Iq4{}, t, out, codes);
  search_levels<F>(Uniform{t.low, t.high}, t, out, codes);
}

}  // namespace
}  // namespace attar::search
