// Columns that meet large inputs made larger before rounding, and what feeds them smaller: they then lose less to the grid.
//
//   Lin, Tang, Tang, Yang, Chen, Wang, Xiao, Dang, Gan, Han, "AWQ: Activation-aware Weight Quantization for LLM Compression and
//   Acceleration", 2023, https://arxiv.org/abs/2306.00978 (section 3.2, equations 4 and 5)
//
// docs/methods/awq.md.
#pragma once

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "base/files.h"
#include "convert/checkpoint.h"
#include "quantize/pipeline.h"

namespace attar {

// Matrices that see the same input, and what that input is.
struct ScaledGroup {
  std::vector<at::Tensor> W;        // (rows, columns) float32 each
  std::vector<Type> types;          // of each
  at::Tensor H;                     // (columns, columns) float32: sum of x x^T over `tokens` inputs
  double tokens = 0;
  // By column: which scale it takes. Columns fed by one row of the matrix before share a scale; else 0, 1, 2, ...
  std::vector<std::int64_t> scale_of;
};

struct Scaling {
  std::vector<float> s;             // by scale
  double exponent = 0;              // s = (rms of x)^exponent, up to a factor
  double error_before = 0, error = 0;  // sum |(Q(W s) / s - W) X^T|^2 / sum |W X^T|^2 with exponent 0 and with this one
};
// Of 20 exponents from 0 on the one with the least error in the types of the matrices, rounded to nearest. Never worse than no scaling.
Scaling search_scaling(const ScaledGroup& group);

struct AwqReport {
  struct Entry {
    std::vector<std::string> names;  // of the matrices
    double exponent = 0, error_before = 0, error_after = 0;
  };
  std::vector<Entry> groups;
  double seconds = 0;
  double mean(double Entry::*error) const;  // over the groups
};
nlohmann::json to_json(const AwqReport& report);

// The same function in other weights, float32, made as they are read. Runs the model half a layer at a time over the calibration text. With
// options.folder, scales of finished layers and hidden states are kept in awq_folder(), from where options.resume goes on; the caller
// removes it. Same result at any number of threads. Throws ResumeError for the folder of another run.
Checkpoint awq(const Checkpoint& model, const QuantizeOptions& options, AwqReport& report);
fs::path awq_folder(const QuantizeOptions& options);  // empty: nothing is kept

}  // namespace attar
