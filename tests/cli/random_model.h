// A folder with a small random Llama and a tokenizer of bytes, for tests of commands.
#pragma once

#include <string>

#include "base/random.h"
#include "convert/checkpoint.h"
#include "convert/pretokenizers.h"

namespace attar::test {

constexpr std::int64_t kRandomVocab = 257;

// Byte-level BPE without merges: id b is byte b in GPT-2's alphabet, id 256 ends the text.
inline TokenizerData byte_tokenizer_data() {
  TokenizerData data;
  data.kind = TokenizerKind::kByteBpe;
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    const int code = printable ? byte : next++;
    std::string text(1, static_cast<char>(code));
    if (code >= 0x80) {
      text[0] = static_cast<char>(0xc0 | code >> 6);
      text.push_back(static_cast<char>(0x80 | (code & 0x3f)));
    }
    data.tokens.push_back(text);
    data.types.push_back(TokenType::kNormal);
  }
  data.tokens.emplace_back("<end>");
  data.types.push_back(TokenType::kControl);
  AddedToken end;
  end.id = 256, end.text = "<end>", end.special = true;
  data.added.push_back(end);
  data.eos_id = 256;
  data.pre = "gpt-2";
  data.split_regexes = find_pretokenizer(data.pre).regexes;
  return data;
}

// matrices: the type of 2-D tensors. Hidden size 64.
inline Checkpoint random_model(Type matrices = Type::kF32) {
  Checkpoint checkpoint;
  checkpoint.format = "hf";
  checkpoint.config = parse_config(
      nlohmann::json{{"architectures", {"LlamaForCausalLM"}}, {"model_type", "llama"}, {"hidden_size", 64},
                     {"intermediate_size", 96}, {"num_hidden_layers", 2}, {"num_attention_heads", 4},
                     {"num_key_value_heads", 2}, {"vocab_size", kRandomVocab}, {"max_position_embeddings", 128},
                     {"rms_norm_eps", 1e-5}, {"tie_word_embeddings", false}, {"eos_token_id", 256}, {"hidden_act", "silu"}},
      "random_model");
  checkpoint.tokenizer = byte_tokenizer_data();
  Random random(1);
  for (const ParameterSpec& spec : parameters(checkpoint.config)) {
    std::vector<float> values(element_count(spec.shape));
    for (float& value : values)
      value = spec.shape.size() == 1 ? 1.0f : static_cast<float>(random.uniform() - 0.5) * 0.6f;
    checkpoint.tensors.push_back(
        make_tensor(spec.name, spec.shape, std::move(values), spec.shape.size() == 2 ? matrices : Type::kF32));
  }
  return checkpoint;
}

}  // namespace attar::test
