// What all encoders share. Internal.
#pragma once

#include "base/span.h"
#include "kernels_ref/packing.h"
#include "kernels_ref/search.h"

namespace attar {

// Importance of a block scaled to a mean of 1, so that sums neither overflow nor vanish. Weights whose activations were
// never seen keep a millionth of the mean: they cost nothing by the measure, but should not become noise.
void normalize(const float* importance, int n, float* w);

// All are below half of the smallest step any format has (2^-24, the smallest f16): zero is the best there is.
bool all_nothing(const float* x, int n);

template <class Levels>
void nearest_codes(const Levels& levels, const float* x, int n, float scale, float offset, std::uint8_t* codes) {
  const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
  for (int i = 0; i < n; ++i) codes[i] = static_cast<std::uint8_t>(levels.code((x[i] - offset) * inverse));
}

}  // namespace attar
