// Searches of a single group of any length, as plain groups have them; blocks are searched sixteen groups at once (searches.h).
// Internal.
#pragma once

#include <limits>

#include "kernels_ref/search.h"
#include "kernels_ref/types.h"

namespace attar::search {
namespace {

// What a search works on. x: weights; w: importance, mean about 1.
struct BlockTask {
  const float* x;
  const float* w;
  int weights;
};

// One scale.
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

// One scale and one offset.
inline BlockScales search_affine(float top, const BlockTask& task, const AffineSearch& search) {
  const AffineFit fit = fit_affine(top, task.x, task.w, task.weights, std::numeric_limits<float>::infinity(), search);
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

}  // namespace
}  // namespace attar::search
