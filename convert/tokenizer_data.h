// What a tokenizer is made of, free of the file it came from. datasets/tokenizer.h turns it into a working one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace attar {

enum class TokenizerKind {
  kNone,
  kByteBpe,        // byte-level BPE: tokens are text in GPT-2's byte alphabet
  kMetaspaceBpe,   // BPE over characters with U+2581 for space and <0xNN> byte fallback (Llama-2 as tokenizer.json)
  kSentencePiece,  // SentencePiece unigram/BPE with scores
};

enum class TokenType : std::uint8_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

struct AddedToken {
  std::int64_t id = 0;
  std::string text;
  bool special = false, lstrip = false, rstrip = false, single_word = false, normalized = false;
};

struct TokenizerData {
  TokenizerKind kind = TokenizerKind::kNone;
  std::vector<std::string> tokens;   // by id
  std::vector<float> scores;         // SentencePiece; else empty
  std::vector<TokenType> types;      // by id
  std::vector<std::pair<std::string, std::string>> merges;  // BPE, by rank
  std::vector<AddedToken> added;     // matched in the text before anything else
  std::vector<std::string> split_regexes;  // byte-level BPE, applied in order, each isolating its matches
  bool ignore_merges = false;        // a whole word that is a token stays whole (Llama-3)
  std::string charsmap;              // SentencePiece's precompiled_charsmap: replacements of characters; empty: none
  bool byte_fallback = false;
  bool add_prefix_space = false;     // GPT-2 style or SentencePiece's dummy prefix
  // tokenizer.json's Metaspace pre-tokenizer differs from the normalizer (Prepend, Replace): it puts no space before text
  // that starts with one and, with prepend_scheme "first", only at the very start of the whole text.
  bool prefix_unless_space = false;
  bool prefix_first_only = false;
  bool fuse_unk = false;             // BPE: neighbouring unknown characters become one unknown token
  bool unigram = false;              // SentencePiece: segmented by likelihood, not by merging
  bool remove_extra_spaces = false;  // SentencePiece
  bool nfc = false;                  // Unicode normalisation form C first (Qwen)
  bool add_bos = false, add_eos = false;
  std::int64_t bos_id = -1, eos_id = -1, unk_id = -1, pad_id = -1;
  std::string pre;                   // GGUF's tokenizer.ggml.pre: "llama-bpe", "qwen2", "gpt-2", ...
  std::string chat_template;
  // The files it came from, carried along untouched when the output is again a Hugging Face folder.
  std::string tokenizer_json, tokenizer_model, tokenizer_config_json;  // empty: not there

  std::size_t size() const { return tokens.size(); }
};

// No model has more tokens; files that claim more lie.
constexpr std::int64_t kMaxTokens = std::int64_t{1} << 22;

// path: a Hugging Face folder, a tokenizer.json, or a SentencePiece tokenizer.model. kind == kNone if a folder holds none.
TokenizerData read_tokenizer_data(const std::filesystem::path& path);
// tokenizer.json or tokenizer.model, and tokenizer_config.json, as a Hugging Face folder holds them; none for kNone.
struct TextFile {
  std::string name, text;
};
std::vector<TextFile> tokenizer_files(const TokenizerData& tokenizer);
// Writes them into a folder.
void write_tokenizer_files(const TokenizerData& tokenizer, const std::filesystem::path& folder);
// SentencePiece's ModelProto, serialized, for a kSentencePiece tokenizer that has no tokenizer_model (came from GGUF).
std::string sentencepiece_model(const TokenizerData& tokenizer);

}  // namespace attar
