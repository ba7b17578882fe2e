// The block searches of encode.h: group fits, then the integers and f16 numbers that a block can store.
#include <array>
#include <limits>

#include "kernels_ref/encode.h"

namespace attar {

using search::AffineFit;
using search::AffineStep;
using search::AffineSums;
using search::f16_neighbour;
using search::fit_affine;
using search::fit_scale;
using search::measure;
using search::measure_affine;
using search::refit_affine;
using search::ScaleFit;
using search::ScaleSums;
using search::to_f16;
using search::Uniform;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Where the largest of a vector of scales may go on the integer grid: its ends, and further in and out.
template <int kCount>
constexpr std::array<float, kCount> scale_targets(float end) {
  std::array<float, kCount> targets{};
  for (int i = 0; i < kCount; ++i)
    targets[static_cast<std::size_t>(i)] = end * (1.06f - 0.02f * static_cast<float>(i));
  return targets;
}

// Rounds a vector of scales to integers times one f16: the scale of the scales. curvature: what an error of each costs.
float fit_super_scale(const std::array<float, 16>& scales, const std::array<float, 16>& curvature, int groups, int low,
                      int high) {
  const Uniform levels{static_cast<float>(low), static_cast<float>(high)};
  const auto up = scale_targets<16>(levels.high);
  float d = 0, error = kInfinity;
  const auto consider = [&](const ScaleFit& fit) {
    if (fit.error < error) {
      error = fit.error;
      d = fit.scale;
    }
  };
  consider(fit_scale(levels, scales.data(), curvature.data(), groups, up));
  if (low < 0) consider(fit_scale(levels, scales.data(), curvature.data(), groups, scale_targets<16>(levels.low)));
  return to_f16(d);
}

int clamp_to(float value, int low, int high) {
  return static_cast<int>(std::nearbyint(std::clamp(value, static_cast<float>(low), static_cast<float>(high))));
}

}  // namespace

template <class Levels>
BlockScales search_scale(const Levels& levels, const BlockTask& task, Span<const float> targets) {
  const ScaleFit fit = fit_scale(levels, task.x, task.w, task.weights, targets);
  BlockScales best;  // zero, unless something is better
  best.sc[0] = 1;
  float error = measure(levels, task.x, task.w, task.weights, 0.0f).rr;
  const float rounded = to_f16(fit.scale);
  for (const int steps : {0, -1, 1}) {
    const float d = f16_neighbour(rounded, steps);
    const ScaleSums sums = measure(levels, task.x, task.w, task.weights, d);
    if (sums.rr < error) {
      error = sums.rr;
      best.d = d;
    }
  }
  return best;
}

BlockScales search_affine(float top, const BlockTask& task, const search::AffineSearch& search) {
  const AffineFit fit = fit_affine(top, task.x, task.w, task.weights, kInfinity, search);
  BlockScales best;  // zero, unless something is better
  best.sc[0] = best.m[0] = 1;
  float error = measure_affine(top, task.x, task.w, task.weights, 0, 0).rr;
  const float rounded = to_f16(fit.offset);
  for (const int steps : {0, -1, 1}) {
    const float offset = f16_neighbour(rounded, steps);
    float scale = to_f16(fit.scale);
    for (int turn = 0; turn < 3; ++turn) {
      const AffineSums sums = measure_affine(top, task.x, task.w, task.weights, scale, offset);
      if (sums.rr < error) {
        error = sums.rr;
        best.d = scale;
        best.dmin = -offset;
      }
      if (sums.qq <= 0) break;
      const float refit = to_f16(scale + sums.rq / sums.qq);
      if (refit == scale) break;
      scale = refit;
    }
  }
  return best;
}

template <class Levels>
BlockScales search_scales(const Levels& levels, const BlockTask& task, Span<const float> targets) {
  const int groups = task.weights / task.group;
  std::array<float, 16> scale{}, curvature{};
  for (int g = 0; g < groups; ++g) {
    const ScaleFit fit = fit_scale(levels, task.x + g * task.group, task.w + g * task.group, task.group, targets);
    scale[static_cast<std::size_t>(g)] = fit.scale;
    curvature[static_cast<std::size_t>(g)] = fit.curvature;
  }

  BlockScales best, trial;  // zero, unless something is better
  float best_error = measure(levels, task.x, task.w, task.weights, 0.0f).rr;
  trial.d = fit_super_scale(scale, curvature, groups, task.scale_min, task.scale_max);
  for (int turn = 0; turn < 4; ++turn) {
    // d is fixed: every group tries the integers around its own scale.
    float error = 0, rl = 0, ll = 0;
    for (int g = 0; g < groups; ++g) {
      const float* x = task.x + g * task.group;
      const float* w = task.w + g * task.group;
      const float wanted = trial.d != 0 ? scale[static_cast<std::size_t>(g)] / trial.d : 0.0f;
      const int middle = clamp_to(wanted, task.scale_min, task.scale_max);
      ScaleSums group;
      group.rr = kInfinity;
      for (int sc = std::max(middle - 1, task.scale_min); sc <= std::min(middle + 1, task.scale_max); ++sc) {
        const ScaleSums sums = measure(levels, x, w, task.group, trial.d * static_cast<float>(sc));
        if (sums.rr < group.rr) {
          group = sums;
          trial.sc[g] = sc;
        }
      }
      const auto sc = static_cast<float>(trial.sc[g]);
      error += group.rr;
      rl += sc * group.rl;
      ll += sc * sc * group.ll;
    }
    if (error >= best_error) break;
    best_error = error;
    best = trial;
    // The levels and integers are fixed: least squares for d.
    if (ll <= 0) break;
    const float d = to_f16(trial.d + rl / ll);
    if (d == trial.d) break;
    trial.d = d;
  }
  return best;
}

namespace {

// The best integers (sc, m) of one group for given d and dmin, around what the group would like best.
AffineSums choose_integers(float top, const float* x, const float* w, int n, const AffineFit& wish, int max,
                           const BlockScales& scales, int& best_sc, int& best_m) {
  AffineSums best;
  best.rr = kInfinity;
  const int middle = scales.d != 0 ? clamp_to(wish.scale / scales.d, 0, max) : 0;
  for (int sc = std::max(middle - 1, 0); sc <= std::min(middle + 1, max); ++sc) {
    const float scale = scales.d * static_cast<float>(sc);
    float offset = wish.offset;
    int last = -1;
    for (int turn = 0; turn < 2; ++turn) {
      const int m = scales.dmin != 0 ? clamp_to(-offset / scales.dmin, 0, max) : 0;
      if (m == last) break;
      last = m;
      const float rounded = -(scales.dmin * static_cast<float>(m));
      const AffineSums sums = measure_affine(top, x, w, n, scale, rounded);
      if (sums.rr < best.rr) {
        best = sums;
        best_sc = sc;
        best_m = m;
      }
      offset = sums.w > 0 ? rounded + sums.r / sums.w : rounded;
    }
  }
  return best;
}

}  // namespace

BlockScales search_affines(float top, const BlockTask& task) {
  const int groups = task.weights / task.group;
  std::array<AffineFit, 16> wish;
  std::array<float, 16> scale{}, minimum{}, scale_cost{}, minimum_cost{};
  for (int g = 0; g < groups; ++g) {
    const auto i = static_cast<std::size_t>(g);
    wish[i] = fit_affine(top, task.x + g * task.group, task.w + g * task.group, task.group, 0.0f);
    scale[i] = wish[i].scale;
    minimum[i] = -wish[i].offset;
    scale_cost[i] = wish[i].sums.qq;
    minimum_cost[i] = wish[i].sums.w;
  }

  BlockScales best, trial;  // zero, unless something is better
  float best_error = measure_affine(top, task.x, task.w, task.weights, 0, 0).rr;
  trial.d = fit_super_scale(scale, scale_cost, groups, 0, task.scale_max);
  trial.dmin = fit_super_scale(minimum, minimum_cost, groups, 0, task.scale_max);
  for (int turn = 0; turn < 4; ++turn) {
    // The sums of all groups over the regressors sc * q (of d) and m (of -dmin).
    AffineSums all;
    for (int g = 0; g < groups; ++g) {
      const AffineSums s = choose_integers(top, task.x + g * task.group, task.w + g * task.group, task.group,
                                           wish[static_cast<std::size_t>(g)], task.scale_max, trial, trial.sc[g],
                                           trial.m[g]);
      const auto sc = static_cast<float>(trial.sc[g]), m = static_cast<float>(trial.m[g]);
      all.rr += s.rr;
      all.rq += sc * s.rq;
      all.qq += sc * sc * s.qq;
      all.r += m * s.r;
      all.q += sc * m * s.q;
      all.w += m * m * s.w;
    }
    if (all.rr >= best_error) break;
    best_error = all.rr;
    best = trial;
    const AffineStep step = refit_affine(all, trial.d, -trial.dmin, 0.0f);
    const float d = to_f16(step.scale), dmin = to_f16(-step.offset);
    if (d == trial.d && dmin == trial.dmin) break;
    trial.d = std::max(d, 0.0f);
    trial.dmin = std::max(dmin, 0.0f);
  }
  return best;
}

template BlockScales search_scale(const Uniform&, const BlockTask&, Span<const float>);
template BlockScales search_scale(const search::Iq4&, const BlockTask&, Span<const float>);
template BlockScales search_scales(const Uniform&, const BlockTask&, Span<const float>);
template BlockScales search_scales(const search::Iq4&, const BlockTask&, Span<const float>);

}  // namespace attar
