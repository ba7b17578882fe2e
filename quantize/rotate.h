// Outliers spread by rotations that are folded into the weights, so that the rotated model costs nothing when it runs.
//
//   Ashkboos, Mohtashami, Croci, Li, Cameron, Jaggi, Alistarh, Hoefler, Hensman, "QuaRot: Outlier-Free 4-Bit Inference in Rotated LLMs",
//   2024, https://arxiv.org/abs/2404.00456 (section 4, stage 1)
//   Liu, Zhao, Fedorov, Soran, Choudhary, Krishnamoorthi, Chandra, Tian, Blankevoort, "SpinQuant: LLM Quantization with Learned
//   Rotations", 2024, https://arxiv.org/abs/2405.16406 (section 3: R1 and R2; random, and learned from calibration text in learn_rotations.h)
//
// docs/methods/rotate.md.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "convert/checkpoint.h"
#include "quantize/pipeline.h"

namespace attar {

struct RotateReport {
  std::string left_out;  // why the residual stream is as it was; empty: it is rotated
  // Mean over the matrices that were rotated of |Q - W|^2 / |W|^2, rounded to nearest in the types of the plan.
  double error_before = 0, error_after = 0;
  // Learned: mean over those of the error of their outputs on calibration text, rounded to nearest, as the random rotations leave it and as
  // the learned ones do; -1: there was no text.
  double random_error = -1, learned_error = -1;
  double seconds = 0;
};
nlohmann::json to_json(const RotateReport& report);

// Why the residual stream of such a model cannot be rotated; empty if it can.
std::string stream_obstacle(const ModelConfig& config);

// The same function in other weights, float32, made as they are read. The heads' values are always rotated; the residual stream where
// nothing forbids it. The rotations are random, by options.seed, and with options.calibration then learned. One matrix is held at a time.
Checkpoint rotate(const Checkpoint& model, const QuantizeOptions& options, RotateReport& report);

}  // namespace attar
