#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "base/console.h"
#include "convert/gguf_model.h"
#include "convert/pretokenizers.h"
#include "convert/tokenizer_parts.h"

namespace attar {
namespace {

constexpr const char* kSpaceMark = "\xe2\x96\x81";
constexpr float kUnusedScore = -10000.0f;
const std::string kPrefix = "tokenizer.ggml.";

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  for (std::size_t at; (at = text.find(from)) != std::string_view::npos; text.remove_prefix(at + from.size()))
    out.append(text.substr(0, at)).append(to);
  return out.append(text);
}

std::int64_t token_id(const GgufFile& file, const char* key, std::int64_t otherwise, std::size_t size) {
  const std::int64_t id = file.integer(kPrefix + key, -1, UINT32_MAX, otherwise);
  if (id == -1 || id == std::int64_t{UINT32_MAX}) return -1;
  if (id >= static_cast<std::int64_t>(size)) {
    if (!file.has(kPrefix + key)) return -1;
    fail(file.source(), ": ", kPrefix, key, " is ", id, ", the vocabulary has ", size, " tokens");
  }
  return id;
}

void read_types(const GgufFile& file, TokenizerData& data) {
  data.types.assign(data.tokens.size(), TokenType::kNormal);
  if (!file.has(kPrefix + "token_type")) return;
  const std::vector<double> types = file.numbers(kPrefix + "token_type");
  if (types.size() != data.tokens.size())
    fail(file.source(), ": ", data.tokens.size(), " tokens, but ", types.size(), " token types");
  for (std::size_t i = 0; i < types.size(); ++i) {
    if (!(types[i] >= 0 && types[i] <= 6)) fail(file.source(), ": token ", i, " has the unknown type ", types[i]);
    data.types[i] = types[i] == 0 ? TokenType::kNormal : static_cast<TokenType>(static_cast<int>(types[i]));
  }
}

void read_sentencepiece(const GgufFile& file, TokenizerData& data) {
  data.kind = TokenizerKind::kSentencePiece;
  const std::vector<double> scores = file.numbers(kPrefix + "scores");
  if (scores.size() != data.tokens.size())
    fail(file.source(), ": ", data.tokens.size(), " tokens, but ", scores.size(), " scores");
  for (const double score : scores) {
    if (!std::isfinite(score)) fail(file.source(), ": a token's score is not finite");
    data.scores.push_back(static_cast<float>(score));
  }
  data.byte_fallback = std::find(data.types.begin(), data.types.end(), TokenType::kByte) != data.types.end();
  data.add_prefix_space = file.boolean(kPrefix + "add_space_prefix", true);
  data.remove_extra_spaces = file.boolean(kPrefix + "remove_extra_whitespaces", false);
  data.charsmap = file.raw_bytes(kPrefix + "precompiled_charsmap");
  // llama.cpp matches user-defined tokens in plain text, SentencePiece in text whose spaces are marks.
  for (std::size_t i = 0; i < data.tokens.size(); ++i)
    if (data.types[i] == TokenType::kUserDefined) data.tokens[i] = replace_all(data.tokens[i], " ", kSpaceMark);
}

void read_byte_bpe(const GgufFile& file, TokenizerData& data) {
  data.kind = TokenizerKind::kByteBpe;
  data.pre = file.text(kPrefix + "pre", "default");
  const Pretokenizer& pre = find_pretokenizer(data.pre);
  data.split_regexes = pre.regexes;
  data.ignore_merges = pre.ignore_merges;
  data.nfc = pre.nfc;
  data.add_prefix_space = file.boolean(kPrefix + "add_space_prefix", false);
  for (const std::string& merge : file.texts(kPrefix + "merges")) {
    const std::size_t space = merge.find(' ', 1);
    if (space == std::string::npos)
      fail(file.source(), ": merge ", data.merges.size(), " is not two tokens: '", merge.substr(0, 60), "'");
    data.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
  }
}

// Scores under which llama.cpp's merging does what the ranks of the merges say: the best score first.
std::vector<float> scores_from_merges(const TokenizerData& data) {
  std::unordered_map<std::string_view, std::size_t> ids;
  for (std::size_t i = 0; i < data.tokens.size(); ++i) ids.emplace(data.tokens[i], i);
  std::vector<float> scores(data.tokens.size(), 0.0f);
  for (std::size_t i = 0; i < scores.size(); ++i)
    if (data.types[i] == TokenType::kNormal) scores[i] = -static_cast<float>(data.merges.size());
  std::vector<bool> ranked(scores.size(), false);
  for (std::size_t rank = 0; rank < data.merges.size(); ++rank) {
    const auto found = ids.find(data.merges[rank].first + data.merges[rank].second);
    if (found == ids.end() || ranked[found->second]) continue;
    ranked[found->second] = true;
    scores[found->second] = -static_cast<float>(rank);
  }
  return scores;
}

}  // namespace

TokenizerData read_gguf_tokenizer(const GgufFile& file) {
  TokenizerData data;
  const std::string model = file.text(kPrefix + "model", "no_vocab");
  if (model == "no_vocab" || model == "none") return data;
  if (model != "llama" && model != "gpt2")
    fail(file.source(), ": tokenizer.ggml.model '", model.substr(0, 40), "' is not supported; expected llama or gpt2");
  const GgufValue* tokens = file.find(kPrefix + "tokens");
  if (tokens != nullptr && tokens->count > static_cast<std::uint64_t>(kMaxTokens))
    fail(file.source(), ": ", tokens->count, " tokens; at most ", kMaxTokens, " are read");
  data.tokens = file.texts(kPrefix + "tokens");
  read_types(file, data);
  const bool sentencepiece = model == "llama";
  sentencepiece ? read_sentencepiece(file, data) : read_byte_bpe(file, data);
  data.bos_id = token_id(file, "bos_token_id", sentencepiece ? 1 : -1, data.size());
  data.eos_id = token_id(file, "eos_token_id", sentencepiece ? 2 : -1, data.size());
  data.unk_id = token_id(file, "unknown_token_id", sentencepiece ? 0 : -1, data.size());
  data.pad_id = token_id(file, "padding_token_id", -1, data.size());
  // Where the file is silent llama.cpp adds BOS for these.
  const bool adds_bos = sentencepiece || data.pre == "llama-bpe" || data.pre == "llama3" || data.pre == "llama-v3" ||
                        data.pre == "falcon3" || data.pre == "tekken";
  data.add_bos = file.boolean(kPrefix + "add_bos_token", adds_bos) && data.bos_id >= 0;
  data.add_eos = file.boolean(kPrefix + "add_eos_token", false) && data.eos_id >= 0;
  data.chat_template = file.text("tokenizer.chat_template", "");
  for (std::size_t i = 0; i < data.tokens.size(); ++i) {
    const auto id = static_cast<std::int64_t>(i);
    const bool control = data.types[i] == TokenType::kControl;
    // SentencePiece finds its user-defined pieces by itself, and its own BOS and EOS are not read from text.
    const bool own = sentencepiece && (!control || id == data.bos_id || id == data.eos_id || id == data.pad_id);
    if (data.tokens[i].empty() || own || !(control || data.types[i] == TokenType::kUserDefined)) continue;
    data.added.push_back({id, data.tokens[i], control, false, false, false, false});
  }
  return data;
}

void write_gguf_tokenizer(const TokenizerData& data, const ModelConfig& config, GgufWriter& writer) {
  if (data.kind == TokenizerKind::kNone) {
    warn("the model has no tokenizer; the GGUF is written without one, and llama.cpp will not take text for it");
    writer.add_text(kPrefix + "model", "no_vocab");
    return;
  }
  const auto vocab = static_cast<std::size_t>(config.vocab_size);
  if (data.size() > vocab)
    fail("write GGUF: the tokenizer does not match the vocabulary: it has ", data.size(), " tokens, the model ", vocab);
  const bool bytes = data.kind == TokenizerKind::kByteBpe;
  if (data.unigram) warn("llama.cpp merges where this SentencePiece unigram model weighs; its tokens will differ");
  if (!data.charsmap.empty())
    warn("GGUF cannot say how this SentencePiece model replaces characters; its tokens will differ");
  std::string pre = "default";
  if (bytes) {
    const Pretokenizer* known = match_pretokenizer(data);
    if (known == nullptr) {
      std::string regexes;
      for (const std::string& regex : data.split_regexes) regexes += (regexes.empty() ? "" : "  then  ") + regex;
      fail("write GGUF: the tokenizer splits text in a way that GGUF has no name for (tokenizer.ggml.pre): ", regexes);
    }
    pre = data.pre.empty() ? known->name : data.pre;
  }
  std::vector<std::string> tokens = data.tokens;
  std::vector<float> scores = data.kind == TokenizerKind::kMetaspaceBpe ? scores_from_merges(data) : data.scores;
  std::vector<std::int32_t> types;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (!bytes && data.types[i] == TokenType::kUserDefined) tokens[i] = replace_all(tokens[i], kSpaceMark, " ");
    types.push_back(static_cast<std::int32_t>(data.types[i]));
  }
  while (tokens.size() < vocab) {
    tokens.push_back(cat("[PAD", tokens.size(), "]"));
    types.push_back(static_cast<std::int32_t>(TokenType::kUnused));
    if (!bytes) scores.push_back(kUnusedScore);
  }
  writer.add_text(kPrefix + "model", bytes ? "gpt2" : "llama");
  writer.add_text(kPrefix + "pre", pre);
  writer.add_texts(kPrefix + "tokens", tokens);
  if (!bytes) writer.add_f32s(kPrefix + "scores", scores);
  writer.add_i32s(kPrefix + "token_type", types);
  if (bytes) {
    std::vector<std::string> merges;
    merges.reserve(data.merges.size());
    for (const auto& [left, right] : data.merges) merges.push_back(left + " " + right);
    writer.add_texts(kPrefix + "merges", merges);
  }
  const auto id = [&](const char* key, std::int64_t value) {
    if (value >= 0) writer.add_u32(kPrefix + key, static_cast<std::uint64_t>(value));
  };
  const std::int64_t eos = data.eos_id >= 0 ? data.eos_id : config.eos_ids.empty() ? -1 : config.eos_ids[0];
  id("bos_token_id", data.bos_id >= 0 ? data.bos_id : config.bos_id);
  id("eos_token_id", eos);
  for (const std::int64_t other : config.eos_ids) {
    if (other == eos) continue;
    id("eot_token_id", other);
    break;
  }
  id("unknown_token_id", data.unk_id);
  id("padding_token_id", data.pad_id >= 0 ? data.pad_id : config.pad_id);
  writer.add_bool(kPrefix + "add_bos_token", data.add_bos);
  writer.add_bool(kPrefix + "add_eos_token", data.add_eos);
  if (!bytes || data.add_prefix_space) writer.add_bool(kPrefix + "add_space_prefix", data.add_prefix_space);
  if (data.remove_extra_spaces) writer.add_bool(kPrefix + "remove_extra_whitespaces", true);
  if (!data.charsmap.empty()) {
    warn("llama.cpp does not normalise characters as this SentencePiece model asks; its tokens can differ");
    writer.add_bytes(kPrefix + "precompiled_charsmap", data.charsmap);
  }
  if (!data.chat_template.empty()) writer.add_text("tokenizer.chat_template", data.chat_template);
}

}  // namespace attar
