// Rounding to nearest without calibration text: what it shares with the pipeline, and whole. Nothing here needs LibTorch.
#pragma once

#include <string_view>
#include <vector>

#include "convert/checkpoint.h"
#include "quantize/pipeline.h"

namespace attar {

// One entry for every matrix, with its plan. options.strict: throws Error for a type that does not fit.
std::vector<TensorReport> planned(const Checkpoint& model, const QuantizeOptions& options);

// Biases and norms stay as they are, but must be numbers. Throws Error naming the tensor.
void check_vectors(const Checkpoint& model);

// Throws Error for an importance matrix, if there is one, of a model other than that of these matrices.
void check_importance(const QuantizeOptions& options, const std::vector<TensorReport>& tensors);
// From the importance matrix: mean squares, by column of the matrix; empty if there is none, or if it says nothing of an embedding or a
// head. Throws Error if it should.
std::vector<float> importance_of(const QuantizeOptions& options, const TensorPlan& plan);

// Throws Error: what the matrix meets are no numbers.
[[noreturn]] void refuse_inputs(std::string_view name);
// Mean squares by column of what a matrix meets. Throws Error naming the matrix for NaN and Inf.
void check_inputs(const std::vector<float>& importance, std::string_view name);
// Columns that no token reaches would be left out where scales are searched, and lost for all other text: they count as much as GPTQ's damping lets
// them. Returns how many there are; where no column is reached, nothing changes.
std::int64_t lift_dead_columns(std::vector<float>& importance);
// strict: throws Error if there are any.
void report_dead_columns(TensorReport& tensor, std::int64_t dead, bool strict);

// "convert", "rtn" or "rtn+importance"
const char* rounding_name(Type type, const std::vector<float>& importance);

// What quantize() makes by Method::kRtn without calibration, but every matrix is rounded whenever it is read, and nothing is kept: settle()
// knows what that has lost, once it was. Throws Error as quantize() does, for NaN and Inf in a matrix when it is read.
Checkpoint round_when_read(const Checkpoint& model, const QuantizeOptions& options, QuantizeReport& report);

}  // namespace attar
