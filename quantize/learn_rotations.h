// Rotations that are learned: those under which the model's matrices lose the least when they are rounded, by what that does to their outputs
// on calibration text.
//
//   Liu, Zhao, Fedorov, Soran, Choudhary, Krishnamoorthi, Chandra, Tian, Blankevoort, "SpinQuant: LLM Quantization with Learned
//   Rotations", 2024, https://arxiv.org/abs/2405.16406 (section 3.2: steps on the orthogonal matrices by the Cayley transform; there the loss is
//   the model's, here that of its matrices, so that the model need not be run again)
//   Kingma, Ba, "Adam: A Method for Stochastic Optimization", 2014, https://arxiv.org/abs/1412.6980 (algorithm 1: their size)
//
// docs/methods/rotate.md.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "base/files.h"
#include "convert/checkpoint.h"
#include "quantize/pipeline.h"

namespace attar {

// An orthogonal matrix, or several of one size, on the way to less loss.
class RotationSteps {
 public:
  RotationSteps(std::int64_t count, std::int64_t n);  // they start as the identity

  const at::Tensor& R() const { return R_; }  // (count, n, n) float64
  // gradient: (count, n, n) in any float type, of the loss by the entries of R, which need not know that R is orthogonal. share: of the full rate.
  void step(const at::Tensor& gradient, double share);

 private:
  at::Tensor R_, mean_, square_;
  std::int64_t steps_ = 0;
};

// What is behind the rotations that a model has been through already.
struct LearnedRotations {
  at::Tensor stream;              // R1 (hidden, hidden) float64; undefined: not asked for
  std::vector<at::Tensor> heads;  // R2 of each layer (key-value heads, head_dim, head_dim) float64
  double error_before = 0, error_after = 0;  // mean of the losses of all matrices that the rotations meet; after: never above before
};

// model: in float32, its norms without weights where the stream is to be rotated. options.calibration is run through it once, half a layer at a
// time. With options.folder, the result is kept in learned_folder(), where options.resume finds it; the caller removes it. Same result at
// any number of threads. Throws ResumeError for the folder of another run.
LearnedRotations learn_rotations(const Checkpoint& model, const QuantizeOptions& options, bool stream);
fs::path learned_folder(const QuantizeOptions& options);  // empty: nothing is kept

}  // namespace attar
