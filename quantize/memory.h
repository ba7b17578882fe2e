// How much memory calibrated quantization takes, worked out from the model's shape before it starts.
#pragma once

#include <cstdint>

#include "convert/model_config.h"

namespace attar {

// Weights of the matrices.
double weights_of(const ModelConfig& config);
// Floats of a thread that trains one layer on a chunk of so many tokens.
double training_pass(const ModelConfig& config, double tokens);

// Bytes at the peak, an upper estimate, for GPTQ with a corrected target, which takes the most. length: tokens of a chunk. Neither the
// number of layers nor that of chunks plays a part: finished layers and hidden states are on disk.
std::uint64_t calibrated_memory(const ModelConfig& config, std::int64_t length, int threads);

// The same with the outputs' metric (output_metric.h): measuring it, or tying the rows of the largest matrix by it.
std::uint64_t metric_memory(const ModelConfig& config, std::int64_t length, int threads);

// What a rotated model takes on top (rotate.h): the matrix that was made whole last, and the rotation of the residual stream if it was learned.
std::uint64_t rotated_memory(const ModelConfig& config, bool learned);
// Learning rotations (learn_rotations.h) of all matrices, once their inputs are known.
std::uint64_t learning_memory(const ModelConfig& config);

// Steps that hold whole models as floats, whatever --max-memory would like. Text that the model writes itself; the sensitivities that types are
// chosen by; the divergence of a finished model from the original.
std::uint64_t self_text_memory(const ModelConfig& config, std::int64_t length, int threads);
std::uint64_t sensitivity_memory(const ModelConfig& config, std::int64_t length, int threads);
std::uint64_t divergence_memory(const ModelConfig& config, std::int64_t length, int threads);

// What AutoRound takes on top.
std::uint64_t autoround_memory(const ModelConfig& config, std::int64_t length, int threads);

}  // namespace attar
