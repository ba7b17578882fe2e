// Many texts from one model, kept or not by what they are like: data to teach a student with (Y. Kim, A. Rush, "Sequence-Level
// Knowledge Distillation", 2016, https://arxiv.org/abs/1606.07947; sampled and filtered as in DeepSeek-R1, 2025,
// https://arxiv.org/abs/2501.12948, section 2.3.3).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "datasets/tokenizer.h"
#include "model/generate.h"

namespace attar {

struct TextFilter {
  std::int64_t min_tokens = 16;
  double max_repetition = 0.3;
  bool keep_unfinished = false;  // texts that max_tokens ended
};

// Share of runs of four tokens that were there before; 0 for fewer than five tokens.
double repetition(std::span<const std::int64_t> ids);

// Why a text is not kept: "unfinished", "short", "repetitive", "not_text" (bytes that are no UTF-8); empty: it is.
std::string reason_to_drop(const Generated& text, const TextFilter& filter);

// Text `first` and those after it: prompts[i / samples] continued with a seed of its own, so that a text does not depend on
// which others are written or on the number of threads. done(index, text) is called in order. Throws Interrupted.
struct BatchOptions {
  GenerateOptions generate;  // its seed is the whole batch's
  std::int64_t samples = 1;  // of each prompt
};
void generate_batch(Decoder& decoder, const Tokenizer& tokenizer, const std::vector<Ids>& prompts, std::int64_t first,
                    const BatchOptions& options, const std::function<void(std::int64_t, const Generated&)>& done);

}  // namespace attar
