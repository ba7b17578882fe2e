// Steps of reading, writing and cutting a tokenizer, one per file that it can come from.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

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

// The text of a tokenizer.json whose model's "vocab" is empty, with the tokens in it by id: nlohmann's ordered objects take
// quadratic time for so many keys.
std::string with_vocabulary(const nlohmann::ordered_json& file, const TokenizerData& tokenizer);
// tokenizer.model with only these pieces; empty if its pieces are not the tokenizer's tokens of the same ids.
std::string cut_sentencepiece(const TokenizerData& tokenizer, const std::vector<std::int64_t>& kept);

}  // namespace attar
