// What all encoders share. Internal.
#pragma once

#include "base/span.h"
#include "kernels_ref/packing.h"
#include "kernels_ref/search.h"

namespace attar {

// Importance of a block scaled to a mean of 1, so that sums neither overflow nor vanish. Weights whose activations were
// never seen keep a millionth of the mean: they cost nothing by the measure, but should not become noise.
void normalize(const float* importance, int n, float* w);

}  // namespace attar
