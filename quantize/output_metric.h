// How much each output of each linear matters: two rows of a matrix may be wrong in ways that cancel out in the model's predictions,
// and some directions of its output hardly reach them at all.
//
//   Tseng, Sun, Hou, De Sa, "Model-Preserving Adaptive Rounding" (YAQA), 2025, https://arxiv.org/abs/2505.22988;
//   Martens, Grosse, "Optimizing Neural Networks with Kronecker-factored Approximate Curvature", 2015,
//   https://arxiv.org/abs/1503.05671.
//
// To second order, replacing W by W - E raises the KL divergence by  tr(A E H E^T) / 2  if inputs (H) and what outputs mean (A) are
// taken as independent. A is the second moment of the gradient of -log p(y) with respect to the linear's output, y drawn from the model's
// own distribution: the output side of the Fisher information.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/files.h"
#include "convert/checkpoint.h"
#include "datasets/tokenizer.h"

namespace attar {

// Of every linear inside the layers, by its weight's name: V (rows, rank) float32; A is a multiple of I + V V^T, damped. At most the first
// 256 tokens of each chunk are used. The model runs layer by layer, forwards and backwards: in memory are one layer, A of its linears and
// the table of the output head. Hidden states are kept in a file in `folder`, which is removed; folder empty: in memory too. The same at any
// number of threads.
std::map<std::string, at::Tensor> measure_output_metrics(const Checkpoint& model, const std::vector<Ids>& chunks, std::uint64_t seed,
                                                         const fs::path& folder);

// A: (rows, rows) float32, symmetric, positive semidefinite; consumed. (rows, rank) as above; no columns if A is zero.
at::Tensor leading_part(at::Tensor A, std::int64_t rank);

}  // namespace attar
