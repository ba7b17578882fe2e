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

inline constexpr int kLanes = 8;  // every n below is a multiple

// Integer levels low .. high.
struct Uniform {
  float low, high;
  float nearest(float v) const {
    constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding and subtracting it rounds to an integer
    v = v < low ? low : v;
    v = v > high ? high : v;
    return (v + kRound) - kRound;
  }
  std::uint8_t code(float level) const { return static_cast<std::uint8_t>(static_cast<int>(level - low)); }
};

// The codebook of IQ4_NL.
struct Iq4 {
  float nearest(float v) const {
    float l = kIq4Levels[0];
    for (int k = 0; k < 15; ++k) {
      const auto a = static_cast<float>(kIq4Levels[k]), b = static_cast<float>(kIq4Levels[k + 1]);
      l = v > 0.5f * (a + b) ? b : l;
    }
    return l;
  }
  std::uint8_t code(float level) const {
    return static_cast<std::uint8_t>(std::lower_bound(kIq4Levels, kIq4Levels + 16, static_cast<int>(level)) - kIq4Levels);
  }
};

inline float sum_lanes(const float* lanes) {
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
struct ScaleSums {
  float rr = 0, rl = 0, ll = 0;  // sums of w r r, w r l, w l l
  // Error and scale after the least-squares correction, levels kept.
  float refitted_error() const { return ll > 0 ? rr - rl * rl / ll : rr; }
  float correction() const { return ll > 0 ? rl / ll : 0.0f; }
};

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
  const auto consider = [&](float scale) {
    const ScaleSums sums = measure(levels, x, w, n, scale);
    if (const float error = sums.refitted_error(); error < start_error) {
      start_error = error;
      start = scale + sums.correction();
    }
  };
  for (const float target : targets) consider(extreme / target);
  if (heavy != extreme && std::fabs(heavy) >= 0x1p-30f)
    for (const float target : kHeavyTargets) consider(heavy / target);

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
struct AffineSums {
  float rr = 0, r = 0, rq = 0, q = 0, qq = 0, w = 0;  // sums of w times that; w alone is the sum of w
};

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

struct AffineStep {
  float scale = 0, offset = 0;
  float error = 0;  // predicted, levels kept
};

// The least-squares scale and offset for the levels that `sums` was taken with. max_offset: 0 for formats that cannot
// store a positive offset, infinity otherwise.
AffineStep refit_affine(const AffineSums& sums, float scale, float offset, float max_offset);

struct AffineFit {
  float scale = 0, offset = 0, error = 0;
  AffineSums sums;
};

// Where the search starts from.
struct AffineSearch {
  float least_share = 0.62f;  // of the range of x, the part that the levels span at least; the rest is clipped
  int cuts = 2;               // in so many steps the clipped part moves from the top to the bottom
};
AffineFit fit_affine(float top, const float* x, const float* w, int n, float max_offset, const AffineSearch& search = {});

}  // namespace attar::search
