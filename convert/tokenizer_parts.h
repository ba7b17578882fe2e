// Steps of read_tokenizer_data, one per file that a tokenizer can come from.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "convert/tokenizer_data.h"

namespace attar {

// tokenizer.json (https://github.com/huggingface/tokenizers): byte-level BPE or metaspace BPE.
TokenizerData parse_tokenizer_json(std::string_view text, std::string_view source);
// SentencePiece's tokenizer.model.
TokenizerData parse_sentencepiece(std::string_view bytes, std::string_view source);
// Completes a tokenizer with tokenizer_config.json: bos, eos, added tokens, chat template.
void apply_tokenizer_config(const nlohmann::json& config, std::string_view source, TokenizerData& tokenizer);

// Adds or completes an added token; grows the vocabulary if the id lies just past it.
void add_token(TokenizerData& tokenizer, AddedToken token, std::string_view source);
std::int64_t find_token(const TokenizerData& tokenizer, std::string_view text);  // -1: none

}  // namespace attar
