// Text from a model: sampling, stopping, streaming, and how fast it goes.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "datasets/tokenizer.h"
#include "runtime/text_model.h"

namespace attar {

struct SamplingOptions {
  double temperature = 0.0;  // 0: the likeliest token
  std::int64_t top_k = 0;    // only the k likeliest; 0: all
  double top_p = 1.0;        // only the likeliest that together reach this probability
};

// One token id from logits (vocab,). Deterministic given random's state; ties go to the lowest id. Throws Error for
// logits that are not finite.
std::int64_t sample(std::span<const float> logits, const SamplingOptions& options, Random& random);

struct GenerateOptions {
  SamplingOptions sampling;
  std::int64_t max_tokens = 256;
  std::uint64_t seed = 0;
  std::vector<std::string> stop;           // text that ends generation and is not part of the result
  std::vector<std::int64_t> stop_ids;      // tokens that do, beside the config's eos_ids and the tokenizer's eos_id
};

// "the likeliest token each time", or "temperature 0.8, seed 3": texts of the same words are alike in how they were made if these are.
std::string description(const GenerateOptions& options);

struct Generated {
  Ids ids;                  // new tokens, without the one that stopped
  std::string text;         // of ids, cut where a stop string begins
  std::string stopped_by;   // "eos", "stop", "length"
  double prompt_seconds = 0.0, decode_seconds = 0.0;
};

// In a context that is emptied first. prompt: at least one id. on_text: called with every piece of text as soon as it is certain, whole
// UTF-8 characters. Throws Error for an empty prompt or options out of range, Interrupted at Ctrl-C.
Generated generate(TextModel& model, const Tokenizer& tokenizer, const Ids& prompt, const GenerateOptions& options,
                   const std::function<void(std::string_view)>& on_text = {});

// Tokens per second, of a prompt taken at once and of decoding one by one after it.
struct DecodeRate {
  std::int64_t prompt_tokens = 0, decode_tokens = 0;
  double prompt_seconds = 0.0, decode_seconds = 0.0;
  double token_seconds = 0.0;  // the median of the tokens decoded, which other work on the machine moves less than the mean
  double prompt() const { return static_cast<double>(prompt_tokens) / prompt_seconds; }
  double decode() const { return static_cast<double>(decode_tokens) / decode_seconds; }
};
DecodeRate measure_rates(TextModel& model, std::int64_t prompt_tokens = 128, std::int64_t decode_tokens = 64);

}  // namespace attar
