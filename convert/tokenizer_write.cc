#include "base/error.h"
#include "base/files.h"
#include "convert/tokenizer_parts.h"

namespace attar {
namespace {

using Json = nlohmann::ordered_json;

Json special_token(const TokenizerData& tokenizer, std::int64_t id) {
  return {{"SpecialToken", {{"id", tokenizer.tokens.at(static_cast<std::size_t>(id))}, {"type_id", 0}}}};
}

Json post_processor(const TokenizerData& tokenizer) {
  const bool bos = tokenizer.add_bos && tokenizer.bos_id >= 0, eos = tokenizer.add_eos && tokenizer.eos_id >= 0;
  if (!bos && !eos) return nullptr;
  Json single = Json::array(), special = Json::object();
  const auto add = [&](std::int64_t id) {
    single.push_back(special_token(tokenizer, id));
    const std::string& text = tokenizer.tokens.at(static_cast<std::size_t>(id));
    special[text] = {{"id", text}, {"ids", {id}}, {"tokens", {text}}};
  };
  if (bos) add(tokenizer.bos_id);
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  if (eos) add(tokenizer.eos_id);
  Json pair = single;
  for (Json entry : single) {
    if (entry.contains("Sequence")) entry["Sequence"]["id"] = "B";
    entry.begin().value()["type_id"] = 1;
    pair.push_back(entry);
  }
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", special}};
}

Json byte_level(bool add_prefix_space) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", add_prefix_space}, {"trim_offsets", true}, {"use_regex", false}};
}

// Normaliser, pre-tokenizer and decoder of byte-level BPE.
void describe_byte_level(const TokenizerData& tokenizer, Json& file) {
  file["normalizer"] = tokenizer.nfc ? Json{{"type", "NFC"}} : Json();
  Json parts = Json::array();
  for (const std::string& regex : tokenizer.split_regexes)
    parts.push_back({{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}});
  parts.push_back(byte_level(tokenizer.add_prefix_space));
  file["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", parts}};
  file["decoder"] = byte_level(true);
}

void describe_metaspace(const TokenizerData& tokenizer, Json& file) {
  constexpr const char* kMark = "\xe2\x96\x81";
  if (tokenizer.prefix_unless_space) {  // the newer way of saying it, as one pre-tokenizer
    const char* scheme = !tokenizer.add_prefix_space ? "never" : tokenizer.prefix_first_only ? "first" : "always";
    file["normalizer"] = nullptr;
    file["pre_tokenizer"] = {
        {"type", "Metaspace"}, {"replacement", kMark}, {"prepend_scheme", scheme}, {"split", false}};
  } else {
    Json normalizers = Json::array();
    if (tokenizer.add_prefix_space) normalizers.push_back({{"type", "Prepend"}, {"prepend", kMark}});
    normalizers.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kMark}});
    file["normalizer"] = {{"type", "Sequence"}, {"normalizers", normalizers}};
    file["pre_tokenizer"] = nullptr;
  }
  Json decoders = Json::array({{{"type", "Replace"}, {"pattern", {{"String", kMark}}}, {"content", " "}},
                               {{"type", "ByteFallback"}},
                               {{"type", "Fuse"}}});
  if (tokenizer.add_prefix_space) decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  file["decoder"] = {{"type", "Sequence"}, {"decoders", decoders}};
}

std::string make_tokenizer_json(const TokenizerData& tokenizer) {
  Json file = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}, {"added_tokens", Json::array()}};
  for (const AddedToken& token : tokenizer.added)
    file["added_tokens"].push_back({{"id", token.id},
                                    {"content", token.text},
                                    {"single_word", token.single_word},
                                    {"lstrip", token.lstrip},
                                    {"rstrip", token.rstrip},
                                    {"normalized", token.normalized},
                                    {"special", token.special}});
  const bool bytes = tokenizer.kind == TokenizerKind::kByteBpe;
  bytes ? describe_byte_level(tokenizer, file) : describe_metaspace(tokenizer, file);
  file["post_processor"] = post_processor(tokenizer);
  Json model = {{"type", "BPE"}, {"dropout", nullptr}};
  model["unk_token"] =
      tokenizer.unk_id >= 0 && !bytes ? Json(tokenizer.tokens.at(static_cast<std::size_t>(tokenizer.unk_id))) : Json();
  model["continuing_subword_prefix"] = nullptr;
  model["end_of_word_suffix"] = nullptr;
  model["fuse_unk"] = tokenizer.fuse_unk;
  model["byte_fallback"] = tokenizer.byte_fallback;
  model["ignore_merges"] = tokenizer.ignore_merges;
  model["vocab"] = Json::object();
  Json merges = Json::array();
  for (const auto& [left, right] : tokenizer.merges) merges.push_back({left, right});
  model["merges"] = std::move(merges);
  file["model"] = std::move(model);
  return with_vocabulary(file, tokenizer);
}

std::string make_tokenizer_config(const TokenizerData& tokenizer) {
  Json config;
  const auto name = [&](const char* key, std::int64_t id) {
    config[key] = id >= 0 ? Json(tokenizer.tokens.at(static_cast<std::size_t>(id))) : Json();
  };
  name("bos_token", tokenizer.bos_id);
  name("eos_token", tokenizer.eos_id);
  name("unk_token", tokenizer.unk_id);
  name("pad_token", tokenizer.pad_id);
  config["add_bos_token"] = tokenizer.add_bos;
  config["add_eos_token"] = tokenizer.add_eos;
  config["clean_up_tokenization_spaces"] = false;
  if (!tokenizer.chat_template.empty()) config["chat_template"] = tokenizer.chat_template;
  config["tokenizer_class"] = tokenizer.kind == TokenizerKind::kByteBpe ? "PreTrainedTokenizerFast" : "LlamaTokenizer";
  if (tokenizer.kind == TokenizerKind::kSentencePiece) config["legacy"] = true;
  return config.dump(2) + "\n";
}

}  // namespace

std::string with_vocabulary(const Json& file, const TokenizerData& tokenizer) {
  std::string vocab = "{";
  for (std::size_t id = 0; id < tokenizer.tokens.size(); ++id) {
    if (tokenizer.types[id] == TokenType::kUnused) continue;
    if (vocab.size() > 1) vocab += ',';
    vocab += Json(tokenizer.tokens[id]).dump() + ":" + std::to_string(id);
  }
  vocab += '}';
  constexpr std::string_view kEmpty = "\"vocab\":{}";  // a token that reads so would have its quotes escaped
  std::string text = file.dump();
  return text.replace(text.find(kEmpty) + kEmpty.size() - 2, 2, vocab);
}

std::vector<TextFile> tokenizer_files(const TokenizerData& tokenizer) {
  if (tokenizer.kind == TokenizerKind::kNone) return {};
  std::vector<TextFile> files;
  const bool sentencepiece = tokenizer.kind == TokenizerKind::kSentencePiece;
  if (!tokenizer.tokenizer_json.empty())
    files.push_back({"tokenizer.json", tokenizer.tokenizer_json});
  else if (!sentencepiece)
    files.push_back({"tokenizer.json", make_tokenizer_json(tokenizer)});
  if (!tokenizer.tokenizer_model.empty() || sentencepiece)
    files.push_back({"tokenizer.model", sentencepiece_model(tokenizer)});
  if (!tokenizer.tokenizer_config_json.empty())
    files.push_back({"tokenizer_config.json", tokenizer.tokenizer_config_json});
  else if (tokenizer.tokenizer_model.empty() || tokenizer.kind != TokenizerKind::kSentencePiece)
    files.push_back({"tokenizer_config.json", make_tokenizer_config(tokenizer)});
  // A template that came in a file of its own is in none of these.
  if (!tokenizer.chat_template.empty() && !tokenizer.tokenizer_config_json.empty() &&
      !Json::parse(tokenizer.tokenizer_config_json).contains("chat_template"))
    files.push_back({"chat_template.jinja", tokenizer.chat_template});
  return files;
}

void write_tokenizer_files(const TokenizerData& tokenizer, const fs::path& folder) {
  for (const TextFile& file : tokenizer_files(tokenizer)) write_text_file(folder / file.name, file.text);
}

}  // namespace attar
