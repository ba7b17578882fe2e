// A tiny model in a folder, written without LibTorch, for tests that run the program.
#pragma once

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/random.h"
#include "convert/checkpoint.h"

namespace attar::test {

inline nlohmann::json tiny_config() {
  return {{"architectures", {"LlamaForCausalLM"}}, {"model_type", "llama"},      {"hidden_size", 32},
          {"intermediate_size", 64},               {"num_hidden_layers", 3},     {"num_attention_heads", 4},
          {"num_key_value_heads", 2},              {"head_dim", 8},              {"vocab_size", 256},
          {"max_position_embeddings", 64},         {"rms_norm_eps", 1e-5},       {"rope_theta", 10000.0},
          {"tie_word_embeddings", true},           {"hidden_act", "silu"},       {"torch_dtype", "float32"}};
}

// A byte-level BPE tokenizer of the 256 bytes, without merges.
inline nlohmann::json byte_tokenizer() {
  nlohmann::json vocab;
  int next = 0;  // GPT-2's alphabet: printable bytes stand for themselves, the others for U+0100 upwards
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    const int code = printable ? byte : 256 + next++;
    std::string text;
    if (code < 0x80) {
      text += static_cast<char>(code);
    } else {
      text += static_cast<char>(0xc0 | (code >> 6));
      text += static_cast<char>(0x80 | (code & 0x3f));
    }
    vocab[text] = byte;
  }
  return {{"version", "1.0"},
          {"added_tokens", nlohmann::json::array()},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}}},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", nlohmann::json::array()}}}};
}

// The same with a few merges for tiny_text(), ids 256 to 268, and "<|end|>", 269, behind every text.
inline nlohmann::json word_tokenizer() {
  nlohmann::json file = byte_tokenizer();
  nlohmann::json& model = file["model"];
  int next = 256;
  const std::string space = "\u0120";
  for (const auto& [left, right] : std::vector<std::pair<std::string, std::string>>{
           {"t", "h"}, {"th", "e"}, {space, "the"}, {space, "a"}, {"e", "e"}, {"s", "ee"}, {"see", "s"}, {space, "sees"},
           {"A", "n"}, {"An", "a"}, {"C", "l"}, {"q", "u"}, {"qu", "x"}}) {
    model["vocab"][left + right] = next++;
    model["merges"].push_back({left, right});
  }
  file["added_tokens"] = {{{"id", 269}, {"content", "<|end|>"}, {"special", true}, {"normalized", false}}};
  file["post_processor"] = {{"type", "TemplateProcessing"},
                            {"single", {{{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
                                        {{"SpecialToken", {{"id", "<|end|>"}, {"type_id", 0}}}}}},
                            {"special_tokens", {{"<|end|>", {{"id", "<|end|>"}, {"ids", {269}}, {"tokens", {"<|end|>"}}}}}}};
  return file;
}
inline nlohmann::json word_config(bool tied) {
  nlohmann::json json = tiny_config();
  json.update({{"vocab_size", 272}, {"tie_word_embeddings", tied}, {"eos_token_id", 269}, {"pad_token_id", 271}});
  return json;
}

// config.json and tokenizer.json, and uniform random weights from the seed unless it is negative.
inline void write_tiny_folder(const std::filesystem::path& folder, int seed = -1, const nlohmann::json& json = tiny_config(),
                              const nlohmann::json& tokenizer = byte_tokenizer()) {
  std::filesystem::create_directories(folder);
  write_text_file(folder / "config.json", json.dump());
  write_text_file(folder / "tokenizer.json", tokenizer.dump());
  if (seed < 0) return;
  Checkpoint checkpoint;
  checkpoint.config = parse_config(json, "tiny");
  checkpoint.tokenizer = read_tokenizer_data(folder);
  Random random(static_cast<std::uint64_t>(seed));
  for (const ParameterSpec& spec : parameters(checkpoint.config)) {
    std::vector<float> values(element_count(spec.shape));
    for (float& value : values)
      value = spec.name.ends_with("norm.weight") ? 1.0f : static_cast<float>(0.2 * (random.uniform() - 0.5));
    checkpoint.tensors.push_back(make_tensor(spec.name, spec.shape, std::move(values)));
  }
  write_hf(checkpoint, folder);
}

// Simple sentences, eight to a paragraph.
inline std::string tiny_text(int sentences, std::uint64_t seed) {
  constexpr const char* kNames[] = {"Ana", "Ben", "Cleo", "Dan"};
  constexpr const char* kVerbs[] = {"sees", "likes", "finds", "takes"};
  constexpr const char* kThings[] = {"a cat", "the ball", "a red hat", "the old book"};
  Random random(seed);
  std::string text;
  for (int i = 0; i < sentences; ++i) {
    text += std::string(kNames[random.below(4)]) + " " + kVerbs[random.below(4)];
    text += std::string(" ") + kThings[random.below(4)] + (i % 8 == 7 ? ".\n\n" : ". ");
  }
  return text;
}

}  // namespace attar::test
