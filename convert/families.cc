// The one table of architectures, and which parameters a config asks for.
#include "base/error.h"
#include "convert/model_config.h"

namespace attar {

const std::vector<FamilyInfo>& all_families() {
  static const std::vector<FamilyInfo> kFamilies = {
      {Family::kLlama, "llama", "LlamaForCausalLM", "llama"},
      {Family::kMistral, "mistral", "MistralForCausalLM", "llama"},
      {Family::kQwen2, "qwen2", "Qwen2ForCausalLM", "qwen2"},
      {Family::kQwen3, "qwen3", "Qwen3ForCausalLM", "qwen3"},
      {Family::kPhi3, "phi3", "Phi3ForCausalLM", "phi3"},
      {Family::kGemma2, "gemma2", "Gemma2ForCausalLM", "gemma2"},
      {Family::kGemma3, "gemma3_text", "Gemma3ForCausalLM", "gemma3"},
  };
  return kFamilies;
}

const FamilyInfo& info(Family family) {
  for (const FamilyInfo& entry : all_families())
    if (entry.family == family) return entry;
  fail("no such model family");
}

std::vector<ParameterSpec> parameters(const ModelConfig& config) {
  std::vector<ParameterSpec> all;
  const std::int64_t hidden = config.hidden_size, q = config.heads * config.head_dim,
                     kv = config.kv_heads * config.head_dim;
  all.push_back({"model.embed_tokens.weight", {config.vocab_size, hidden}});
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    const auto norm = [&](const char* name, std::int64_t size) { all.push_back({layer + name + ".weight", {size}}); };
    const auto linear = [&](const char* name, std::int64_t out, std::int64_t in, bool bias) {
      all.push_back({layer + name + ".weight", {out, in}});
      if (bias) all.push_back({layer + name + ".bias", {out}});
    };
    norm("input_layernorm", hidden);
    if (config.fused_qkv) {
      linear("self_attn.qkv_proj", q + 2 * kv, hidden, config.qkv_bias);
    } else {
      linear("self_attn.q_proj", q, hidden, config.qkv_bias);
      linear("self_attn.k_proj", kv, hidden, config.qkv_bias);
      linear("self_attn.v_proj", kv, hidden, config.qkv_bias);
    }
    linear("self_attn.o_proj", hidden, q, config.output_bias);
    if (config.qk_norm) {
      norm("self_attn.q_norm", config.head_dim);
      norm("self_attn.k_norm", config.head_dim);
    }
    norm("post_attention_layernorm", hidden);
    if (config.post_norms) {
      norm("pre_feedforward_layernorm", hidden);
      norm("post_feedforward_layernorm", hidden);
    }
    if (config.fused_gate_up) {
      linear("mlp.gate_up_proj", 2 * config.intermediate_size, hidden, config.mlp_bias);
    } else {
      linear("mlp.gate_proj", config.intermediate_size, hidden, config.mlp_bias);
      linear("mlp.up_proj", config.intermediate_size, hidden, config.mlp_bias);
    }
    linear("mlp.down_proj", hidden, config.intermediate_size, config.mlp_bias);
  }
  all.push_back({"model.norm.weight", {hidden}});
  if (!config.tied_embeddings) all.push_back({"lm_head.weight", {config.vocab_size, hidden}});
  return all;
}

}  // namespace attar
