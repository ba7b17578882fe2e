#include "convert/tokenizer_data.h"

#include <unordered_map>

#include "base/error.h"
#include "base/files.h"
#include "convert/json.h"
#include "convert/tokenizer_parts.h"

namespace attar {

std::int64_t find_token(const TokenizerData& tokenizer, std::string_view text) {
  for (const AddedToken& token : tokenizer.added)
    if (token.text == text) return token.id;
  for (std::size_t id = 0; id < tokenizer.tokens.size(); ++id)
    if (tokenizer.tokens[id] == text) return static_cast<std::int64_t>(id);
  return -1;
}

void add_token(TokenizerData& tokenizer, AddedToken token, std::string_view source) {
  const auto size = static_cast<std::int64_t>(tokenizer.tokens.size());
  if (token.text.empty()) fail(source, ": added token ", token.id, " is empty");
  if (token.id < 0 || token.id >= kMaxTokens || token.id > size + 65536)
    fail(source, ": added token '", token.text.substr(0, 60), "' has the id ", token.id, ", the vocabulary has ", size,
         " tokens");
  while (token.id >= static_cast<std::int64_t>(tokenizer.tokens.size())) {
    tokenizer.tokens.push_back(cat("[PAD", tokenizer.tokens.size(), "]"));
    tokenizer.types.push_back(TokenType::kUnused);
    if (!tokenizer.scores.empty()) tokenizer.scores.push_back(0.0f);
  }
  const auto id = static_cast<std::size_t>(token.id);
  TokenType& type = tokenizer.types[id];
  if (type == TokenType::kNormal || type == TokenType::kUnused)
    type = token.special ? TokenType::kControl : TokenType::kUserDefined;
  tokenizer.tokens[id] = token.text;
  for (AddedToken& known : tokenizer.added) {
    if (known.id != token.id) continue;
    known = std::move(token);
    return;
  }
  tokenizer.added.push_back(std::move(token));
}

TokenizerData read_tokenizer_data(const fs::path& path) {
  if (!fs::exists(path)) fail("read tokenizer: ", path.string(), " does not exist");
  const bool folder = fs::is_directory(path);
  const fs::path home = folder ? path : path.parent_path();
  const fs::path json = folder ? path / "tokenizer.json" : path, model = folder ? path / "tokenizer.model" : path;
  const bool is_json = folder ? fs::exists(json) : path.extension() == ".json";
  TokenizerData data;
  if (is_json) {
    data = parse_tokenizer_json(read_text_file(json), json.string());
  } else if (!folder || fs::exists(model)) {
    data = parse_sentencepiece(read_text_file(model), model.string());
  } else {
    return data;
  }
  if (folder && is_json && fs::exists(model)) data.tokenizer_model = read_text_file(model);  // carried along
  if (const fs::path config = home / "tokenizer_config.json"; fs::exists(config)) {
    data.tokenizer_config_json = read_text_file(config);
    apply_tokenizer_config(parse_json(data.tokenizer_config_json, config.string()), config.string(), data);
  }
  if (const fs::path chat = home / "chat_template.jinja"; folder && fs::exists(chat))
    data.chat_template = read_text_file(chat);
  return data;
}

}  // namespace attar
