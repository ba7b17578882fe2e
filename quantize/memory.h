// How much memory calibrated quantization takes, worked out from the model's shape before it starts.
#pragma once

#include <cstdint>

#include "convert/model_config.h"

namespace attar {

// Bytes at the peak, an upper estimate, for GPTQ with a corrected target, which takes the most: `wave_tokens` inputs of one linear, in
// chunks of `length` tokens, on `threads` threads. Neither the number of layers nor that of chunks plays a part: finished layers
// and hidden states are on disk.
std::uint64_t calibrated_memory(const ModelConfig& config, std::int64_t wave_tokens, std::int64_t length, int threads);

// The largest wave, of 8192 tokens at most, that keeps to `limit` bytes (0: no limit). Throws Error with what is needed at least.
std::int64_t fitting_wave(const ModelConfig& config, std::int64_t length, int threads, std::uint64_t limit);

}  // namespace attar
