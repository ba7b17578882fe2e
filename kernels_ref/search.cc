// The affine fit: many starting points, then least squares for scale and offset together.
#include "kernels_ref/search.h"

namespace attar::search {

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

}  // namespace attar::search
