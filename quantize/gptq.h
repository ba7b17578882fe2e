// GPTQ inside the block formats: codes chosen so that the layer's output on calibration text stays what it was.
//
//   Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
//   Transformers", 2022, https://arxiv.org/abs/2210.17323 (Algorithm 1).
//
// docs/methods/gptq.md derives what is different here: groups whose scales are the device's own, fixed beforehand; columns
// visited in order of importance while groups stay in place; no inverse; a target that makes up for what the layers before
// have lost; and a descent over the codes at the end.
#pragma once

#include <ATen/ATen.h>

#include <string_view>

#include "convert/tensor.h"
#include "quantize/cholesky.h"
#include "quantize/options.h"

namespace attar {

// What the inputs of a matrix say about it. Prepared once, used for every matrix that sees the same inputs.
struct Curvature {
  at::Tensor H;          // (columns, columns) float32, damped: X_q^T X_q + lambda I
  UnitUpper factor;      // of H in visiting order
  // What moves the target away from W; both undefined: nothing does.
  at::Tensor drift;      // (columns, columns) float32: X_fp^T X_q - X_q^T X_q
  at::Tensor residual;   // (rows, columns) float32: as in InputSums
  std::vector<float> importance;       // mean square input by column; never zero
  std::vector<std::int64_t> order;     // order[k]: the column visited k-th
  double lambda = 0;                   // what was added to the diagonal
  double damping = 0;                  // the same as a share of the mean diagonal
  int damping_raises = 0;              // how often damping had to be raised tenfold for H to be positive definite
  std::int64_t dead_columns = 0;       // columns no calibration token reaches
};

// Sums over calibration tokens of the inputs x of one linear; _q of the model quantized so far, _fp of the original.
struct InputSums {
  at::Tensor XtX;    // (columns, columns) float32: sum of x_q x_q^T
  at::Tensor cross;  // (columns, columns) float32: sum of x_fp x_q^T; undefined: inputs have not drifted, or `residual` has it
  // (rows, columns) float32: sum of r x_q^T, r (rows) what the matrix should give beyond W x_q for its output, or the stream that the
  // output is added to, to be the original's. Undefined: nothing; defined: the sums are of use for that one matrix only.
  at::Tensor residual;
};

// sums are consumed. name: for errors. Throws Error for NaN or Inf, and if no damping up to the mean diagonal itself helps.
Curvature make_curvature(InputSums sums, const GptqOptions& options, std::string_view name);

struct GptqResult {
  QuantizedTensor Q;
  double weight_error = 0;  // |Q - W|^2 / |W|^2
  double output_error = 0;  // |(Q - T) X_q^T|^2 / |T X_q^T|^2, T the target
  double rounded_error = 0; // the same of T rounded to nearest, from where GPTQ starts
  double clipped = 0;       // share of weights whose target lies beyond the grid's ends by more than half a step
};

// Rows that a thread works on at a time, fixed so that sums do not depend on the threads: where rows are independent, and where the errors of
// this many may make up for one another.
constexpr std::int64_t kStepRows = 128, kMetricRows = 256;

// W: (rows, columns) float32, contiguous. A: the linear's output metric (output_metric.h); undefined: every output counts alike, and rows
// are independent. Same bytes at any number of threads. The caller sees to it that LibTorch and its BLAS use one thread (set_up_torch(1)),
// since their sums depend on it.
GptqResult gptq(Type type, const at::Tensor& W, const Curvature& curvature, const GptqOptions& options, std::string_view name,
                const at::Tensor& A = {});

}  // namespace attar
