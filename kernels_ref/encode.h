// Block searches: from 32 or 256 weights to scales and levels. Internal; encode_row in encode.cc drives them.
#pragma once

#include <span>

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

// One scale: Q4_0, Q5_0, Q8_0, IQ4_NL.
template <class Levels>
BlockScales search_scale(const Levels& levels, const BlockTask& task, std::span<const float> targets);

// One scale and one offset: Q4_1, Q5_1.
BlockScales search_affine(float top, const BlockTask& task);

// A scale per group: Q3_K, Q6_K, IQ4_XS.
template <class Levels>
BlockScales search_scales(const Levels& levels, const BlockTask& task, std::span<const float> targets);

// A scale and an offset per group: Q2_K, Q4_K, Q5_K.
BlockScales search_affines(float top, const BlockTask& task);

}  // namespace attar
