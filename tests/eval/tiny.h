// A small decoder whose predictions are far from uniform, and a thread count for a scope.
#pragma once

#include <cmath>
#include <memory>

#include "base/threads.h"
#include "model/decoder.h"

namespace attar::test {

inline ModelConfig tiny_config(std::int64_t vocab = 61) {
  ModelConfig c;
  c.hidden_size = 24, c.intermediate_size = 40, c.layers = 2, c.vocab_size = vocab, c.max_positions = 64;
  c.heads = 4, c.kv_heads = 2, c.head_dim = 6;
  c.attention_scale = 1.0 / std::sqrt(6.0);
  c.sliding_layers.assign(2, false);
  return c;
}

inline std::shared_ptr<Decoder> tiny_decoder(std::uint64_t seed, const ModelConfig& config = tiny_config()) {
  auto decoder = std::make_shared<Decoder>(config);
  initialise(*decoder, seed);
  const at::NoGradGuard no_grad;
  for (const std::string& name : decoder->parameter_names())
    if (name.find("norm") == std::string::npos) decoder->parameter(name).mul_(8);
  return decoder;
}

struct ThreadCount {
  explicit ThreadCount(int count) { set_thread_count(count); }
  ~ThreadCount() { set_thread_count(0); }
};

}  // namespace attar::test
