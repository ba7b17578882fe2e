// Matrices that stay packed: multiplied by the reference kernels, a token at a time.
#pragma once

#include <ATen/ATen.h>

#include "convert/tensor.h"

namespace attar {

// W: (out_features, in_features); x: (..., in_features) float32 on the CPU. Returns (..., out_features).
at::Tensor packed_linear(const QuantizedTensor& W, const at::Tensor& x);

// Rows of W (vocab, hidden) by ids (batch, time), each inside the vocabulary. Returns (batch, time, hidden).
at::Tensor packed_embedding(const QuantizedTensor& W, const at::Tensor& ids);

}  // namespace attar
