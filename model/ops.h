// The decoder's own differentiable operations, each one pass over its data on the CPU and plain LibTorch elsewhere.
#pragma once

#include <ATen/ATen.h>

namespace attar {

// y = x / sqrt(mean(x^2) + eps) * (offset + weight) over the last dimension (Zhang & Sennrich, "Root Mean Square Layer
// Normalization", https://arxiv.org/abs/1910.07467). x: (..., n); weight: (n).
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, double offset);

// Turns the pairs (j, j + r) of every head by the position's angle, and multiplies everything by scale.
// x: (batch, heads, time, head_dim), last dimension dense; cos, sin: (time, r), 2r <= head_dim. Dimensions from 2r on do not
// turn. Returns (batch, heads, time, head_dim), contiguous.
at::Tensor rotate_heads(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, double scale);

}  // namespace attar
