// What a matrix has lost to quantization, measured the same way whatever chose its codes.
#pragma once

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "convert/checkpoint.h"
#include "quantize/pipeline.h"

namespace attar {

struct MatrixLoss {
  double weight_error = 0;   // |Q - W|^2 / |W|^2
  double output_error = -1;  // |(Q - W) X^T|^2 / |W X^T|^2; -1: inputs are not known
  double clipped = 0;        // share of weights that lie beyond the grid's ends by more than half a step
};

// Q: packed (rows, columns), quantized; W: (rows, columns) float32, contiguous; XtX: (columns, columns) float32, the sum of x x^T over the tokens'
// inputs x, or undefined. Same result at any number of threads, as long as LibTorch uses one for each (OneTorchThread).
MatrixLoss loss_of(const QuantizedTensor& Q, const at::Tensor& W, const at::Tensor& XtX = {});

// A matrix that was changed once more, by `step`: what it has lost now.
void look_again(TensorReport& report, const std::string& step, const MatrixLoss& loss);

// The same of all matrices of a model, on the inputs that they meet in it. original: what quantize() was given; spill: a folder on whose disk hidden
// states are meanwhile, empty: in memory.
void look_again(QuantizeReport& report, const std::string& step, const Checkpoint& original, const Checkpoint& changed, const std::vector<Ids>& chunks,
                const fs::path& spill);

}  // namespace attar
