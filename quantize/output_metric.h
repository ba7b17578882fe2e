// How much each output of each linear matters: two rows of a matrix may be wrong in ways that cancel out in the model's predictions,
// and some directions of its output hardly reach them at all.
//
//   Tseng, Sun, Hou, De Sa, "Model-Preserving Adaptive Rounding" (YAQA), 2025, https://arxiv.org/abs/2505.22988;
//   Martens, Grosse, "Optimizing Neural Networks with Kronecker-factored Approximate Curvature", 2015,
//   https://arxiv.org/abs/1503.05671.
//
// To second order, replacing W by W - E raises the KL divergence by the mean of <G, E>^2 / 2, G the gradient of -log p(y) of a whole chunk of
// text with respect to W, y drawn from the model's own distribution: the Fisher information. With H given for the inputs, the nearest
// A in  tr(A E H E^T)  is, up to a factor, the mean of  G H^-1 G^T. Kept of it are blocks on the diagonal.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/files.h"
#include "convert/checkpoint.h"
#include "datasets/tokenizer.h"
#include "quantize/gptq.h"

namespace attar {

// Of the linears of a layer, by their weights' names: A (rows, min(kMetricRows, rows)) float32, entry k of row r standing for row
// r - r % kMetricRows + k; mean of the diagonal 1, then damped. reached: from where measuring can go on; null without a folder.
using LayerMetrics = std::function<void(std::int64_t layer, std::map<std::string, at::Tensor> A, const nlohmann::json& reached)>;

// Returns what the rows of the embedding are good for: (hidden, hidden) float32, the sum over all tokens (as many as there are, by those that
// are used) of g g^T, g the gradient of -log p(y) of the whole chunk with respect to the token's row.
//
// take is given the layers from the last to the first. At most the first 256 tokens of each chunk are used. The model runs layer by layer,
// forwards and backwards: in memory are one layer, A and H of its linears and the table of the output head. Hidden states are kept in a
// file in `folder`, which is removed; folder empty: in memory too. The same at any number of threads.
// reached: what came with the last layer of a measurement of the same that was broken off and left its folder. Throws ResumeError if the file
// there is damaged.
at::Tensor measure_output_metrics(const Checkpoint& model, const std::vector<Ids>& chunks, std::uint64_t seed, const fs::path& folder,
                                  const LayerMetrics& take, const nlohmann::json& reached = {});

}  // namespace attar
