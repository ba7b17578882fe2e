// Tiny random checkpoints of every family, made in memory.
#pragma once

#include <string>
#include <vector>

#include "base/random.h"
#include "convert/checkpoint.h"

namespace attar::test {

struct Variant {
  std::string name;
  nlohmann::json config;
};

inline nlohmann::json base_config(const std::string& model_type, nlohmann::json more = nlohmann::json::object()) {
  nlohmann::json config = {{"model_type", model_type}, {"hidden_size", 64},        {"intermediate_size", 96},
                           {"num_hidden_layers", 3},   {"num_attention_heads", 4}, {"num_key_value_heads", 2},
                           {"head_dim", 16},           {"vocab_size", 300},        {"max_position_embeddings", 128},
                           {"rms_norm_eps", 1e-5},     {"rope_theta", 10000.0},    {"bos_token_id", 1},
                           {"eos_token_id", 2}};
  config.update(more);
  return config;
}

inline std::vector<Variant> all_variants() {
  std::vector<double> factors;
  for (int i = 0; i < 8; ++i) factors.push_back(1.0 + 0.5 * i);
  return {
      {"llama", base_config("llama")},
      {"llama tied", base_config("llama", {{"tie_word_embeddings", true}})},
      {"llama biases", base_config("llama", {{"attention_bias", true}, {"mlp_bias", true}})},
      {"llama3", base_config("llama", {{"rope_scaling",
                                        {{"rope_type", "llama3"},
                                         {"factor", 8.0},
                                         {"low_freq_factor", 1.0},
                                         {"high_freq_factor", 4.0},
                                         {"original_max_position_embeddings", 8192}}}})},
      {"linear", base_config("llama", {{"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}}})},
      {"dynamic", base_config("llama", {{"rope_scaling", {{"type", "dynamic"}, {"factor", 4.0}}}})},
      {"yarn", base_config("qwen2", {{"rope_scaling",
                                      {{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32}}}})},
      {"mistral", base_config("mistral", {{"sliding_window", nullptr}})},
      {"mistral window", base_config("mistral", {{"sliding_window", 16}})},
      {"qwen2", base_config("qwen2")},
      {"qwen2 window",
       base_config("qwen2", {{"use_sliding_window", true}, {"sliding_window", 16}, {"max_window_layers", 1}})},
      {"qwen3", base_config("qwen3", {{"head_dim", 32}})},
      {"phi3", base_config("phi3")},
      {"phi3 longrope",
       base_config("phi3",
                   {{"original_max_position_embeddings", 32},
                    {"rope_scaling", {{"type", "longrope"}, {"short_factor", factors}, {"long_factor", factors}}}})},
      {"phi3 partial", base_config("phi3", {{"partial_rotary_factor", 0.75}})},
      {"gemma2", base_config("gemma2", {{"query_pre_attn_scalar", 16}, {"sliding_window", 8}})},
      {"gemma3", base_config("gemma3_text", {{"num_hidden_layers", 7},
                                             {"query_pre_attn_scalar", 16},
                                             {"sliding_window", 8},
                                             {"rope_theta", 1e6},
                                             {"rope_local_base_freq", 1e4}})},
      {"gemma3 linear", base_config("gemma3_text", {{"query_pre_attn_scalar", 24},
                                                    {"sliding_window", 8},
                                                    {"rope_theta", 1e6},
                                                    {"rope_scaling", {{"rope_type", "linear"}, {"factor", 8.0}}}})},
  };
}

inline TokenizerData sentencepiece_tokenizer() {
  TokenizerData data;
  data.kind = TokenizerKind::kSentencePiece;
  const auto add = [&](std::string text, float score, TokenType type) {
    data.tokens.push_back(std::move(text));
    data.scores.push_back(score);
    data.types.push_back(type);
  };
  add("<unk>", 0, TokenType::kUnknown);
  add("<s>", 0, TokenType::kControl);
  add("</s>", 0, TokenType::kControl);
  for (int byte = 0; byte < 256; ++byte) {
    char text[8];
    std::snprintf(text, sizeof text, "<0x%02X>", byte);
    add(text, 0, TokenType::kByte);
  }
  const char* pieces[] = {"\u2581", "a", "b", "\u2581a", "ab"};
  for (const char* piece : pieces) add(piece, -static_cast<float>(data.tokens.size()), TokenType::kNormal);
  data.byte_fallback = data.add_prefix_space = data.add_bos = true;
  data.bos_id = 1;
  data.eos_id = 2;
  data.unk_id = 0;
  return data;
}

inline TokenizerData byte_bpe_tokenizer() {
  TokenizerData data;
  data.kind = TokenizerKind::kByteBpe;
  data.tokens = {"a",
                 "b",
                 "c",
                 "\xc4\xa0",
                 "ab",
                 "\xc4\xa0"
                 "a",
                 "abc"};
  data.types.assign(data.tokens.size(), TokenType::kNormal);
  data.merges = {{"a", "b"}, {"\xc4\xa0", "a"}, {"ab", "c"}};
  data.tokens.push_back("<|end|>");
  data.types.push_back(TokenType::kControl);
  data.tokens.push_back("<tool>");
  data.types.push_back(TokenType::kUserDefined);
  data.added = {{7, "<|end|>", true, false, false, false, false}, {8, "<tool>", false, false, false, false, false}};
  data.split_regexes = {
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};
  data.nfc = true;
  data.pre = "qwen2";
  data.eos_id = 7;
  data.chat_template = "{{ messages }}";
  return data;
}

inline Checkpoint make_checkpoint(const nlohmann::json& config, Type type = Type::kF32, std::uint64_t seed = 1) {
  Checkpoint checkpoint;
  checkpoint.path = "synthetic";
  checkpoint.format = "hf";
  checkpoint.config = parse_config(config, "synthetic");
  Random random(seed);
  for (const ParameterSpec& spec : parameters(checkpoint.config)) {
    std::vector<float> values(element_count(spec.shape));
    for (float& value : values) value = static_cast<float>(random.below(512)) / 256.0f - 1.0f;  // exact in every type
    checkpoint.tensors.push_back(
        make_tensor(spec.name, spec.shape, std::move(values), spec.shape.size() > 1 ? type : Type::kF32));
  }
  checkpoint.tokenizer = sentencepiece_tokenizer();
  return checkpoint;
}

}  // namespace attar::test
