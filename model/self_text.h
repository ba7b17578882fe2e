// Text that a model writes itself: calibration without data. What it was trained on it is likely to write (Liu et al., "LLM-QAT:
// Data-Free Quantization Aware Training for Large Language Models", 2023, section 2.1, https://arxiv.org/abs/2305.17888).
#pragma once

#include <cstdint>
#include <vector>

#include "convert/checkpoint.h"
#include "datasets/tokenizer.h"

namespace attar {

// `count` chunks of `length` tokens, each begun with BOS (EOS if the tokenizer has none) and sampled from all of the model's
// distribution at temperature 1; after an end of text the next begins. Chunks are the same at any number of threads, and the first
// of many those of few. The model is held as floats. Throws Error: neither BOS nor EOS; Interrupted.
std::vector<Ids> write_self_text(const Checkpoint& model, std::int64_t count, std::int64_t length, std::uint64_t seed);

}  // namespace attar
