// The affine fit: least squares for scale and offset together.
#include "kernels_ref/search.h"

namespace attar::search {

AffineStep refit_affine(const AffineSums& s, float scale, float offset, float max_offset) {
  // [qq q; q w] [ds; do] = [rq; r]
  const float determinant = s.qq * s.w - s.q * s.q;
  AffineStep step{scale, offset, s.rr};
  if (determinant > 1e-6f * s.qq * s.w) {
    const float ds = (s.rq * s.w - s.r * s.q) / determinant;
    const float dm = (s.qq * s.r - s.q * s.rq) / determinant;
    step = {scale + ds, offset + dm, s.rr - ds * s.rq - dm * s.r};
  } else if (s.w > 0) {  // all weights on one level: only the offset can move
    step = {scale, offset + s.r / s.w, s.rr - s.r * s.r / s.w};
  }
  if (step.offset <= max_offset) return step;

  // The offset stops at its bound: move it there, then the scale alone.
  const float shift = max_offset - offset;
  const float rq = s.rq - shift * s.q;
  const float ds = s.qq > 0 ? rq / s.qq : 0.0f;
  const float rr = s.rr - 2 * shift * s.r + shift * shift * s.w;
  return {scale + ds, max_offset, rr - ds * rq};
}

AffineFit fit_affine(float top, const float* x, const float* w, int n, float max_offset, const AffineSearch& search) {
  const auto [low_it, high_it] = std::minmax_element(x, x + n);
  const float low = std::min(*low_it, max_offset), high = std::max(*high_it, low);
  AffineFit best{0, low, 0, measure_affine(top, x, w, n, 0, low)};
  // One value for all: the weighted mean.
  best.offset = std::min(best.sums.w > 0 ? low + best.sums.r / best.sums.w : low, max_offset);
  best.sums = measure_affine(top, x, w, n, 0, best.offset);
  best.error = best.sums.rr;
  const float range = high - low;
  if (!(range >= 0x1p-30f)) return best;

  // The share of the range that the levels span, and which end the rest is cut from.
  const float per_cut = 1.0f / static_cast<float>(search.cuts);
  AffineStep start{0, 0, best.error};
  for (int step = 0;; ++step) {
    const float share = 1.08f - 0.035f * static_cast<float>(step);
    if (share < search.least_share) break;
    for (int cut = 0; cut <= search.cuts; ++cut) {
      const float offset = std::min(low + (1 - share) * range * per_cut * static_cast<float>(cut), max_offset);
      const float scale = share * range / top;
      const AffineStep refit = refit_affine(measure_affine(top, x, w, n, scale, offset), scale, offset, max_offset);
      if (refit.error < start.error && refit.scale > 0) start = refit;
    }
  }
  for (int turn = 0; turn < 5 && start.scale > 0; ++turn) {
    const AffineSums sums = measure_affine(top, x, w, n, start.scale, start.offset);
    if (sums.rr >= best.error) break;
    best = {start.scale, start.offset, sums.rr, sums};
    start = refit_affine(sums, start.scale, start.offset, max_offset);
  }
  return best;
}

}  // namespace attar::search
