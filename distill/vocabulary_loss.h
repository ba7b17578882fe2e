// Output projection, loss and their gradients in one go, a group of rows at a time: the logits of a batch never exist whole,
// so memory does not grow with vocabulary times tokens.
//
//   h   (rows, hidden) what the output projection takes     W   (vocab, hidden) its matrix, which may be the embedding
//   a = h W^T     z = c tanh(a / c) where the family caps its logits, else a
//   dL/dh = (dL/dz * dz/da) W     dL/dW = (dL/dz * dz/da)^T h     dz/da = 1 - (z / c)^2
//
// The idea of fusing them: P.-L. Hsu et al., "Liger Kernel: Efficient Triton Kernels for LLM Training", 2024,
// https://arxiv.org/abs/2410.10989, section 3.2 (FusedLinearCrossEntropy).
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <string>

#include "distill/losses.h"
#include "model/decoder.h"

namespace attar {

struct OutputHead {
  std::string name;    // of the parameter W
  at::Tensor W;        // in the type that the decoder computes in
  double softcap = 0;  // 0: none
};
OutputHead output_head(Decoder& decoder);

std::int64_t logit_rows(const at::Device& device, std::int64_t vocab);  // rows whose logits are made at a time

at::Tensor head_logits(const OutputHead& head, const at::Tensor& h);  // float32, no gradient

// What the teacher says of `count` rows from `begin` on.
using TeacherOfRows = std::function<TeacherRows(std::int64_t begin, std::int64_t count)>;

// Adds scale * dL/dW to W_gradient, and sets h_gradient to scale * dL/dh. Both: of the shapes of W and h. rows: at a time.
LossSums vocabulary_loss(const at::Tensor& h, const OutputHead& student, const TeacherOfRows& teacher, const at::Tensor& targets,
                         const LossOptions& options, double scale, std::int64_t rows, at::Tensor& h_gradient,
                         at::Tensor& W_gradient);

}  // namespace attar
