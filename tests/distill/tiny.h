// Models and data small enough that a test trains them in a second.
#pragma once

#include <torch/torch.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/random.h"
#include "convert/checkpoint.h"
#include "datasets/tokenizer.h"
#include "distill/data.h"
#include "model/decoder.h"

namespace attar::test {

inline nlohmann::json tiny_json() {
  return {{"architectures", {"LlamaForCausalLM"}}, {"model_type", "llama"},      {"hidden_size", 32},
          {"intermediate_size", 64},               {"num_hidden_layers", 3},     {"num_attention_heads", 4},
          {"num_key_value_heads", 2},              {"head_dim", 8},              {"vocab_size", 256},
          {"max_position_embeddings", 64},         {"rms_norm_eps", 1e-5},       {"rope_theta", 10000.0},
          {"tie_word_embeddings", true},           {"hidden_act", "silu"},       {"torch_dtype", "float32"}};
}

inline std::shared_ptr<Decoder> tiny_decoder(std::uint64_t seed, const nlohmann::json& json = tiny_json()) {
  auto decoder = std::make_shared<Decoder>(parse_config(json, "tiny"));
  initialise(*decoder, seed);
  return decoder;
}

// Chunks with something to learn: each token is one of two that may follow the one before.
inline std::vector<Ids> tiny_chunks(std::int64_t count, std::int64_t length, std::uint64_t seed) {
  Random random(seed);
  std::vector<Ids> chunks(static_cast<std::size_t>(count));
  for (Ids& chunk : chunks) {
    std::int64_t token = static_cast<std::int64_t>(random.below(64));
    for (std::int64_t i = 0; i < length; ++i) {
      chunk.push_back(token);
      token = (token * 5 + 7 + 11 * static_cast<std::int64_t>(random.below(2))) % 64;
    }
  }
  return chunks;
}

// A byte-level BPE tokenizer of the 256 bytes, without merges, as a tokenizer.json.
inline std::string byte_tokenizer_json() {
  nlohmann::json vocab;
  int next = 0;  // GPT-2's alphabet: printable bytes stand for themselves, the others for U+0100 upwards
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174);
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
  const nlohmann::json json = {
      {"version", "1.0"},
      {"added_tokens", nlohmann::json::array()},
      {"normalizer", nullptr},
      {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}}},
      {"post_processor", nullptr},
      {"decoder", {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}}},
      {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", nlohmann::json::array()}}}};
  return json.dump();
}

// A folder with config.json and tokenizer.json, and weights from the seed unless it is negative.
inline void write_tiny_model(const std::filesystem::path& folder, int seed, const nlohmann::json& json = tiny_json()) {
  std::filesystem::create_directories(folder);
  write_text_file(folder / "config.json", json.dump());
  write_text_file(folder / "tokenizer.json", byte_tokenizer_json());
  if (seed < 0) return;
  const auto decoder = tiny_decoder(static_cast<std::uint64_t>(seed), json);
  write_hf(to_checkpoint(*decoder, read_tokenizer_data(folder)), folder);
}

inline std::string tiny_text(int sentences) {
  const char* names[] = {"Ana", "Ben", "Cleo", "Dan"};
  const char* verbs[] = {"sees", "likes", "finds", "takes"};
  const char* things[] = {"a cat", "the ball", "a red hat", "the old book"};
  Random random(3);
  std::string text;
  for (int i = 0; i < sentences; ++i)
    text += std::string(names[random.below(4)]) + " " + verbs[random.below(4)] + " " + things[random.below(4)] +
            (i % 8 == 7 ? ".\n\n" : ". ");
  return text;
}

}  // namespace attar::test
