// Block searches: from 32 or 256 weights to scales and levels. Internal; encode_row in encode.cc drives them.
#pragma once

#include "base/span.h"
#include "kernels_ref/packing.h"
#include "kernels_ref/search.h"

namespace attar {

// What a search works on. x: weights; w: importance, mean about 1.
struct BlockTask {
  const float* x;
  const float* w;
  int weights, group;
  int scale_min = 1, scale_max = 1;  // of sc and, in affine formats, 0 .. scale_max of m
};

// Importance of a block scaled to a mean of 1, so that sums neither overflow nor vanish. Weights whose activations were
// never seen keep a millionth of the mean: they cost nothing by the measure, but should not become noise.
void normalize(const float* importance, int n, float* w);

// All are below half of the smallest step any format has (2^-24, the smallest f16): zero is the best there is.
bool all_nothing(const float* x, int n);

template <class Levels>
void nearest_codes(const Levels& levels, const float* x, int n, float scale, float offset, std::uint8_t* codes) {
  const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
  for (int i = 0; i < n; ++i) codes[i] = levels.code(levels.nearest((x[i] - offset) * inverse));
}

// One scale: Q4_0, Q5_0, Q8_0, IQ4_NL, plain groups.
template <class Levels>
BlockScales search_scale(const Levels& levels, const BlockTask& task, Span<const float> targets);

// One scale and one offset: Q4_1, Q5_1, plain groups.
BlockScales search_affine(float top, const BlockTask& task, const search::AffineSearch& search = {});

// A scale per group: Q3_K, Q6_K, IQ4_XS.
template <class Levels>
BlockScales search_scales(const Levels& levels, const BlockTask& task, Span<const float> targets);

// A scale and an offset per group: Q2_K, Q4_K, Q5_K.
BlockScales search_affines(float top, const BlockTask& task);

}  // namespace attar
