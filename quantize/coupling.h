// Descent for a whole matrix whose rows are tied: the loss is tr(A E H E^T) with A = I + V V^T (output_metric.h), so that an error in one row
// can be made up for in others. docs/methods/gptq.md.
#pragma once

#include <torch/torch.h>

#include "quantize/gptq.h"

namespace attar {

// Q: the matrix, E = T - Q its error, G = E H; all are kept up to date. V: (rows, rank). Sweeps over the rows, at most `sweeps` times, while
// the loss falls by more than a thousandth. The same bytes at any number of threads.
void descend_coupled(QuantizedTensor& Q, at::Tensor& E, at::Tensor& G, const at::Tensor& V, const Curvature& curvature, int sweeps);

}  // namespace attar
