// Small random decoders of every family, for tests that need no files.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "model/decoder.h"

namespace attar::test {

// heads, head_dim: free to be odd and even numbers.
inline ModelConfig tiny_config(Family family, std::int64_t heads = 4, std::int64_t kv_heads = 2,
                               std::int64_t head_dim = 8) {
  ModelConfig c;
  c.family = family;
  c.hidden_size = 24, c.intermediate_size = 40, c.layers = 3, c.vocab_size = 61, c.max_positions = 64;
  c.heads = heads, c.kv_heads = kv_heads, c.head_dim = head_dim;
  c.attention_scale = 1.0 / std::sqrt(static_cast<double>(head_dim));
  c.sliding_layers.assign(static_cast<std::size_t>(c.layers), false);
  const bool gemma = family == Family::kGemma2 || family == Family::kGemma3;
  if (family == Family::kQwen2) c.qkv_bias = true;
  c.qk_norm = family == Family::kQwen3 || family == Family::kGemma3;
  c.fused_qkv = c.fused_gate_up = family == Family::kPhi3;
  c.norm_adds_one = c.post_norms = c.scaled_embeddings = c.tied_embeddings = gemma;
  if (gemma) {
    c.activation = Activation::kGeluTanh;
    c.sliding_window = 5;
    c.sliding_layers = {true, false, true};
  }
  if (family == Family::kGemma2) c.attention_softcap = 20.0, c.final_softcap = 10.0;
  c.rope.theta = c.local_rope.theta = 10000.0;
  if (family == Family::kGemma3) c.rope.theta = 1e6;
  return c;
}

inline std::shared_ptr<Decoder> tiny_decoder(const ModelConfig& config, std::uint64_t seed = 7) {
  auto decoder = std::make_shared<Decoder>(config);
  initialise(*decoder, seed);
  const at::NoGradGuard no_grad;
  at::manual_seed(static_cast<std::int64_t>(seed));
  // Larger than a fresh model's weights, so that every feature shows in the logits.
  for (const auto& name : decoder->parameter_names()) {
    at::Tensor& parameter = decoder->parameter(name);
    if (parameter.dim() == 2) parameter.mul_(10.0);
    else parameter.add_(0.2 * at::randn(parameter.sizes()));
  }
  return decoder;
}

inline at::Tensor random_ids(const ModelConfig& config, std::int64_t batch, std::int64_t time, std::int64_t seed = 3) {
  at::manual_seed(seed);
  return at::randint(config.vocab_size, {batch, time}, at::kLong);
}

inline double max_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

}  // namespace attar::test
