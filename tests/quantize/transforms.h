// Small random models that a transform must leave the function of.
#pragma once

#include <string>
#include <vector>

#include "base/random.h"
#include "tests/model/models.h"

namespace attar::test {

struct TransformCase {
  std::string name;
  ModelConfig config;
};

// Every family, and what they differ in: heads shared by queries or not, fused matrices, biases, tied and not.
inline std::vector<TransformCase> transform_cases() {
  std::vector<TransformCase> cases;
  const auto add = [&](const std::string& name, Family family, auto change) {
    ModelConfig config = tiny_config(family, 4, 2, 16);
    config.hidden_size = 96;
    config.intermediate_size = 64;
    change(config);
    cases.push_back({name, config});
  };
  const auto as_it_is = [](ModelConfig&) {};
  add("llama", Family::kLlama, as_it_is);
  add("llama_tied", Family::kLlama, [](ModelConfig& c) { c.tied_embeddings = true; });
  add("llama_biases", Family::kLlama, [](ModelConfig& c) { c.qkv_bias = c.output_bias = c.mlp_bias = true; });
  add("llama_head_48", Family::kLlama, [](ModelConfig& c) { c.head_dim = 48, c.kv_heads = 4; });
  add("mistral", Family::kMistral, as_it_is);
  add("qwen2", Family::kQwen2, as_it_is);
  add("qwen3", Family::kQwen3, as_it_is);
  add("phi3", Family::kPhi3, as_it_is);
  add("gemma2", Family::kGemma2, as_it_is);
  add("gemma3", Family::kGemma3, as_it_is);
  return cases;
}

inline Checkpoint transform_model(const ModelConfig& config) {
  const at::NoGradGuard no_grad;
  const auto decoder = tiny_decoder(config);
  for (const std::string& name : decoder->parameter_names())
    if (decoder->parameter(name).dim() == 2) decoder->parameter(name).mul_(0.5);  // attention that is not saturated
  return to_checkpoint(*decoder, {});
}

inline std::vector<std::vector<std::int64_t>> random_chunks(const ModelConfig& config, std::size_t count, std::uint64_t seed = 1) {
  Random random(seed);
  std::vector<std::vector<std::int64_t>> chunks(count, std::vector<std::int64_t>(32));
  for (auto& chunk : chunks)
    for (std::int64_t& id : chunk) id = static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(config.vocab_size)));
  return chunks;
}

// Largest difference of logits, over the largest logit where that is above 1.
inline double logit_difference(const Checkpoint& a, const Checkpoint& b) {
  const at::NoGradGuard no_grad;
  const at::Tensor ids = random_ids(a.config, 2, 24);
  const at::Tensor first = load_decoder(a)->forward(ids), second = load_decoder(b)->forward(ids);
  return max_difference(first, second) / std::max(1.0, first.abs().max().item<double>());
}

}  // namespace attar::test
