// Weighted least-squares fits of scales, the part of encoding that decides the quality. Internal.
//
// A group of weights x with importance w is written as scale * l (symmetric) or scale * q + offset (affine), l or q taken
// from a few levels. For fixed levels the best scale is linear least squares; for a fixed scale the best levels are the
// nearest ones. Neither knows where to start, so many starting scales are tried and the best are refined by turns.
// The sums are taken over residuals, not over weights, so that 8-bit fits do not drown in cancellation, and in eight
// lanes of fixed order, so that every machine gets the same bits and the loops vectorise.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "base/half.h"
#include "base/span.h"
#include "kernels_ref/blocks.h"

namespace attar::search {
namespace {  // compiled for several processors: each has its own

inline constexpr int kLanes = 8;  // every n below is a multiple

// Several starting points at once: a vector of GCC and clang as wide as registers are where this is compiled. Each element goes through
// the same operations in the same order as a float would.
#if defined(__AVX512F__)
inline constexpr int kAtOnce = 16;
#elif defined(__AVX2__)
inline constexpr int kAtOnce = 8;
#else
inline constexpr int kAtOnce = 4;
#endif
using Floats = float __attribute__((vector_size(kAtOnce * sizeof(float))));

// Integer levels low .. high.
struct Uniform {
  float low, high;
  template <class F>  // float or Floats
  F nearest(F v) const {
    const F least = F{} + low, most = F{} + high;
    v = v < least ? least : v;
    v = v > most ? most : v;
    return within(v);
  }
  // The same for v less than half a level below the first.
  template <class F>
  F nearest_above(F v) const {
    const F most = F{} + high;
    return within(v > most ? most : v);
  }
  // The same for v less than half a level outside.
  template <class F>
  F within(F v) const {
    constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding and subtracting it rounds to an integer
    return (v + kRound) - kRound;
  }
  template <class F>
  F code(F v) const {  // of the nearest level
    return nearest(v) - low;
  }
};

// The codebook of IQ4_NL.
struct Iq4 {
  template <class F>
  F nearest(F v) const {
    F l = F{} + static_cast<float>(kIq4Levels[0]);
    for (int k = 0; k < 15; ++k) l = v > F{} + middle(k) ? F{} + static_cast<float>(kIq4Levels[k + 1]) : l;
    return l;
  }
  template <class F>
  F nearest_above(F v) const {
    return nearest(v);
  }
  template <class F>
  F within(F v) const {
    return nearest(v);
  }
  template <class F>
  F code(F v) const {
    F above{};
    for (int k = 0; k < 15; ++k) above += v > F{} + middle(k) ? F{} + 1.0f : F{};
    return above;
  }

 private:
  static constexpr float middle(int k) { return 0.5f * (static_cast<float>(kIq4Levels[k]) + static_cast<float>(kIq4Levels[k + 1])); }
};

template <class F>
F sum_lanes(const F* lanes) {
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

// The value of f16 nearest to v that is finite.
inline float to_f16(float v) { return round_to_f16(std::min(std::max(v, -65504.0f), 65504.0f)); }

// The f16 value `steps` units in the last place away from v (a value of f16), away from zero for steps > 0.
inline float f16_neighbour(float v, int steps) {
  const std::uint16_t bits = f16_from_f32(v);
  const int magnitude = std::clamp((bits & 0x7fff) + steps, 0, 0x7bff);
  return f32_from_f16(static_cast<std::uint16_t>((bits & 0x8000) | magnitude));
}

// --- symmetric: x ~ scale * l ----------------------------------------------------------------------------------------

// r = x - scale * l with the nearest levels l.
template <class F>
struct ScaleSumsOf {
  F rr{}, rl{}, ll{};  // sums of w r r, w r l, w l l
  // Error and scale after the least-squares correction, levels kept.
  F refitted_error() const { return ll > F{} ? rr - rl * rl / ll : rr; }
  F correction() const { return ll > F{} ? rl / ll : F{}; }
};
using ScaleSums = ScaleSumsOf<float>;

template <class Levels>
ScaleSums measure(const Levels& levels, const float* x, const float* w, int n, float scale) {
  const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
  float rr[kLanes] = {}, rl[kLanes] = {}, ll[kLanes] = {};
  for (int i = 0; i < n; i += kLanes) {
    for (int k = 0; k < kLanes; ++k) {
      const float l = levels.nearest(x[i + k] * inverse);
      const float r = x[i + k] - scale * l;
      const float wr = w[i + k] * r;
      rr[k] += wr * r;
      rl[k] += wr * l;
      ll[k] += w[i + k] * l * l;
    }
  }
  return {sum_lanes(rr), sum_lanes(rl), sum_lanes(ll)};
}

// The same for several scales.
template <class Levels>
ScaleSumsOf<Floats> measure(const Levels& levels, const float* x, const float* w, int n, Floats scale) {
  const Floats inverse = scale != Floats{} ? 1.0f / scale : Floats{};
  Floats rr[kLanes], rl[kLanes], ll[kLanes];
  for (int k = 0; k < kLanes; ++k) {
    ScaleSumsOf<Floats> sums;
    for (int i = k; i < n; i += kLanes) {
      const Floats l = levels.nearest(x[i] * inverse);
      const Floats r = x[i] - scale * l;
      const Floats wr = w[i] * r;
      sums.rr += wr * r;
      sums.rl += wr * l;
      sums.ll += w[i] * l * l;
    }
    rr[k] = sums.rr, rl[k] = sums.rl, ll[k] = sums.ll;
  }
  return {sum_lanes(rr), sum_lanes(rl), sum_lanes(ll)};
}

// Below half of the smallest step any format has (2^-24, the smallest f16): zero is the best there is.
inline constexpr float kNothing = 0x1p-25f;

inline constexpr float kHeavyTargets[] = {1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6, -6, 7, -7};

struct ScaleFit {
  float scale = 0;
  float error = 0;      // sum w (x - scale * l)^2
  float curvature = 0;  // error grows by curvature * (s - scale)^2 for s near scale: sum w l l
};

// Tries the scales that map the weight of largest magnitude to each of the targets, and those that map the weight that
// matters most (if it is another one) to small levels; then refines the best.
template <class Levels>
ScaleFit fit_scale(const Levels& levels, const float* x, const float* w, int n, Span<const float> targets) {
  float extreme = 0, heavy = 0, most = 0;
  for (int i = 0; i < n; ++i) {
    if (std::fabs(x[i]) > std::fabs(extreme)) extreme = x[i];
    if (const float cost = w[i] * x[i] * x[i]; cost > most) {
      most = cost;
      heavy = x[i];
    }
  }
  ScaleFit best;
  const ScaleSums zero = measure(levels, x, w, n, 0.0f);
  best.error = zero.rr;
  best.curvature = zero.ll;
  if (std::fabs(extreme) < 0x1p-30f) return best;  // below anything a product of f16 and integers tells from zero

  float start = 0, start_error = best.error;
  const auto consider = [&](float value, Span<const float> levels_of_value) {
    for (std::size_t begin = 0; begin < levels_of_value.size(); begin += kAtOnce) {
      const int count = static_cast<int>(std::min<std::size_t>(kAtOnce, levels_of_value.size() - begin));
      Floats target = Floats{} + 1.0f;
      for (int c = 0; c < count; ++c) target[c] = levels_of_value[begin + static_cast<std::size_t>(c)];
      const Floats scale = value / target;
      const ScaleSumsOf<Floats> sums = measure(levels, x, w, n, scale);
      const Floats error = sums.refitted_error(), refitted = scale + sums.correction();
      for (int c = 0; c < count; ++c) {
        if (!(error[c] < start_error)) continue;
        start_error = error[c];
        start = refitted[c];
      }
    }
  };
  consider(extreme, targets);
  if (heavy != extreme && std::fabs(heavy) >= 0x1p-30f) consider(heavy, kHeavyTargets);

  for (int turn = 0; turn < 4 && start != 0; ++turn) {
    const ScaleSums sums = measure(levels, x, w, n, start);
    if (sums.rr >= best.error) break;
    best = {start, sums.rr, sums.ll};
    start += sums.correction();
  }
  return best;
}

// --- affine: x ~ scale * q + offset, q = 0 .. top --------------------------------------------------------------------

// r = x - (scale * q + offset) with the nearest q.
template <class F>
struct AffineSumsOf {
  F rr{}, r{}, rq{}, q{}, qq{}, w{};  // sums of w times that; w alone is the sum of w
};
using AffineSums = AffineSumsOf<float>;

inline AffineSums measure_affine(float top, const float* x, const float* w, int n, float scale, float offset) {
  const Uniform levels{0, top};
  const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
  float rr[kLanes] = {}, r1[kLanes] = {}, rq[kLanes] = {}, q1[kLanes] = {}, qq[kLanes] = {}, w1[kLanes] = {};
  for (int i = 0; i < n; i += kLanes) {
    for (int k = 0; k < kLanes; ++k) {
      const float q = levels.nearest((x[i + k] - offset) * inverse);
      const float r = x[i + k] - (scale * q + offset);
      const float wr = w[i + k] * r, wq = w[i + k] * q;
      rr[k] += wr * r;
      r1[k] += wr;
      rq[k] += wr * q;
      q1[k] += wq;
      qq[k] += wq * q;
      w1[k] += w[i + k];
    }
  }
  return {sum_lanes(rr), sum_lanes(r1), sum_lanes(rq), sum_lanes(q1), sum_lanes(qq), sum_lanes(w1)};
}

// The same for several pairs.
inline AffineSumsOf<Floats> measure_affine(float top, const float* x, const float* w, int n, Floats scale, Floats offset) {
  const Uniform levels{0, top};
  const Floats inverse = scale != Floats{} ? 1.0f / scale : Floats{};
  Floats rr[kLanes], r1[kLanes], rq[kLanes], q1[kLanes], qq[kLanes];
  float w1[kLanes] = {};
  for (int k = 0; k < kLanes; ++k) {
    AffineSumsOf<Floats> sums;
    for (int i = k; i < n; i += kLanes) {
      const Floats q = levels.nearest((x[i] - offset) * inverse);
      const Floats r = x[i] - (scale * q + offset);
      const Floats wr = w[i] * r, wq = w[i] * q;
      sums.rr += wr * r;
      sums.r += wr;
      sums.rq += wr * q;
      sums.q += wq;
      sums.qq += wq * q;
      w1[k] += w[i];
    }
    rr[k] = sums.rr, r1[k] = sums.r, rq[k] = sums.rq, q1[k] = sums.q, qq[k] = sums.qq;
  }
  return {sum_lanes(rr), sum_lanes(r1), sum_lanes(rq), sum_lanes(q1), sum_lanes(qq), Floats{} + sum_lanes(w1)};
}

template <class F>
struct AffineStepOf {
  F scale{}, offset{};
  F error{};  // predicted, levels kept
};
using AffineStep = AffineStepOf<float>;

// The least-squares scale and offset for the levels that `sums` was taken with. max_offset: 0 for formats that cannot
// store a positive offset, infinity otherwise.
template <class F>
AffineStepOf<F> refit_affine(const AffineSumsOf<F>& s, F scale, F offset, float max_offset) {
  // [qq q; q w] [ds; do] = [rq; r]
  const F determinant = s.qq * s.w - s.q * s.q;
  const F ds = (s.rq * s.w - s.r * s.q) / determinant;
  const F dm = (s.qq * s.r - s.q * s.rq) / determinant;
  const auto solvable = determinant > 1e-6f * s.qq * s.w;
  const auto shifts = s.w > F{};  // all weights on one level: only the offset can move
  const F both = s.rr - ds * s.rq - dm * s.r, offset_alone = s.rr - s.r * s.r / s.w;
  const F free_scale = solvable ? scale + ds : scale;
  const F free_offset = solvable ? offset + dm : (shifts ? offset + s.r / s.w : offset);
  const F free_error = solvable ? both : (shifts ? offset_alone : s.rr);

  // The offset stops at its bound: move it there, then the scale alone.
  const F bound = F{} + max_offset;
  const F shift = max_offset - offset;
  const F rq = s.rq - shift * s.q;
  const F ds_alone = s.qq > F{} ? rq / s.qq : F{};
  const F rr = s.rr - 2.0f * shift * s.r + shift * shift * s.w;
  const auto within = free_offset <= bound;
  return {within ? free_scale : scale + ds_alone, within ? free_offset : bound, within ? free_error : rr - ds_alone * rq};
}

struct AffineFit {
  float scale = 0, offset = 0, error = 0;
  AffineSums sums;
};

// Where the search starts from.
struct AffineSearch {
  float least_share = 0.62f;  // of the range of x, the part that the levels span at least; the rest is clipped
  int cuts = 2;               // in so many steps the clipped part moves from the top to the bottom
};
// Many starting points, then least squares for scale and offset together.
inline AffineFit fit_affine(float top, const float* x, const float* w, int n, float max_offset, const AffineSearch& search = {}) {
  const auto [low_it, high_it] = std::minmax_element(x, x + n);
  const float low = std::min(*low_it, max_offset), high = std::max(*high_it, low);
  AffineFit best{0, low, 0, measure_affine(top, x, w, n, 0, low)};
  // One value for all: the weighted mean.
  best.offset = std::min(best.sums.w > 0 ? low + best.sums.r / best.sums.w : low, max_offset);
  best.sums = measure_affine(top, x, w, n, 0, best.offset);
  best.error = best.sums.rr;
  const float range = high - low;
  if (!(range >= 0x1p-30f)) return best;

  AffineStep start{0, 0, best.error};
  Floats scale{}, offset{};
  int count = 0;
  const auto consider = [&] {
    const AffineStepOf<Floats> refit = refit_affine(measure_affine(top, x, w, n, scale, offset), scale, offset, max_offset);
    for (int c = 0; c < count; ++c)
      if (refit.error[c] < start.error && refit.scale[c] > 0) start = {refit.scale[c], refit.offset[c], refit.error[c]};
    count = 0;
  };
  // The share of the range that the levels span, and which end the rest is cut from.
  const float per_cut = 1.0f / static_cast<float>(search.cuts);
  for (int step = 0;; ++step) {
    const float share = 1.08f - 0.035f * static_cast<float>(step);
    if (share < search.least_share) break;
    for (int cut = 0; cut <= search.cuts; ++cut) {
      offset[count] = std::min(low + (1 - share) * range * per_cut * static_cast<float>(cut), max_offset);
      scale[count] = share * range / top;
      if (++count == kAtOnce) consider();
    }
  }
  if (count > 0) consider();
  for (int turn = 0; turn < 5 && start.scale > 0; ++turn) {
    const AffineSums sums = measure_affine(top, x, w, n, start.scale, start.offset);
    if (sums.rr >= best.error) break;
    best = {start.scale, start.offset, sums.rr, sums};
    start = refit_affine(sums, start.scale, start.offset, max_offset);
  }
  return best;
}

}  // namespace
}  // namespace attar::search
