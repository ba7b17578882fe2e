#include <unordered_set>

#include "base/error.h"
#include "convert/json.h"
#include "convert/pretokenizers.h"
#include "convert/tokenizer_parts.h"

namespace attar {
namespace {

using nlohmann::json;

constexpr const char* kSpaceMark = "\xe2\x96\x81";  // U+2581

std::string type_of(const JsonReader& part) { return part.text("type"); }

// Calls use(part) for the part itself, or for each part of a Sequence.
template <class Use>
void for_each_part(const JsonReader& part, const char* list, const Use& use) {
  if (type_of(part) != "Sequence") return use(part);
  const json* items = part.find(list);
  if (items == nullptr || !items->is_array()) fail(part.source(), ": a Sequence needs the list '", list, "'");
  for (const json& item : *items) {
    const JsonReader inner(item, part.source());
    if (type_of(inner) == "Sequence") fail(part.source(), ": a Sequence within a Sequence is not supported");
    use(inner);
  }
}

void parse_normalizer(const JsonReader& normalizer, TokenizerData& data) {
  for_each_part(normalizer, "normalizers", [&](const JsonReader& part) {
    const std::string type = type_of(part);
    if (type == "NFC") {
      data.nfc = true;
    } else if (type == "Prepend" && part.text("prepend") == kSpaceMark) {
      data.add_prefix_space = true;
    } else if (type == "Replace" && part.text("content") == kSpaceMark &&
               part.object("pattern").text("String", "") == " ") {
      // The metaspace itself.
    } else {
      fail(part.source(), ": normalizer '", type, "' is not supported here");
    }
  });
}

void parse_split(const JsonReader& part, TokenizerData& data) {
  const JsonReader pattern = part.object("pattern");
  std::string regex = pattern.text("Regex", "");
  if (pattern.has("String")) {
    // Gemma's split at spaces: its normalizer has already turned every space into the mark, so it never splits.
    if (data.kind == TokenizerKind::kMetaspaceBpe && pattern.text("String") == " ") return;
    for (const char c : pattern.text("String")) {
      if (std::string_view("\\^$.|?*+()[]{}").find(c) != std::string_view::npos) regex += '\\';
      regex += c;
    }
  }
  const std::string behavior = part.text("behavior");
  const bool inverted = part.boolean("invert", false);
  // "Removed" with invert keeps the matches and drops the rest, of which a regex that matches everything leaves none.
  if (regex.empty() || !((behavior == "Isolated" && !inverted) || (behavior == "Removed" && inverted)))
    fail(part.source(), ": a Split with behavior '", behavior, "' is not supported here");
  data.split_regexes.push_back(regex);
}

void parse_pre_tokenizer(const JsonReader& pre, TokenizerData& data) {
  bool byte_level = false;
  for_each_part(pre, "pretokenizers", [&](const JsonReader& part) {
    const std::string type = type_of(part);
    if (type == "ByteLevel") {
      byte_level = true;
      data.add_prefix_space = part.boolean("add_prefix_space", true);
      if (part.boolean("use_regex", true)) data.split_regexes.push_back(find_pretokenizer("gpt-2").regexes.front());
    } else if (type == "Split") {
      parse_split(part, data);
    } else if (type == "Digits") {
      data.split_regexes.emplace_back(part.boolean("individual_digits", false) ? R"(\p{N})" : R"(\p{N}+)");
    } else if (type == "Metaspace") {
      if (part.text("replacement", kSpaceMark) != kSpaceMark || part.boolean("split", false))
        fail(part.source(), ": only a Metaspace with U+2581 and without split is supported");
      const std::string scheme =
          part.text("prepend_scheme", part.boolean("add_prefix_space", true) ? "always" : "never");
      data.add_prefix_space = scheme != "never";
      data.prefix_unless_space = true;
      data.prefix_first_only = scheme == "first";
    } else {
      fail(part.source(), ": pre-tokenizer '", type, "' is not supported here");
    }
  });
  if (byte_level) data.kind = TokenizerKind::kByteBpe;
}

void parse_vocab(const JsonReader& model, TokenizerData& data) {
  const JsonReader vocab = model.object("vocab");
  const auto count = static_cast<std::int64_t>(vocab.json().size());
  if (count == 0 || count > kMaxTokens) fail(vocab.source(), " holds ", count, " tokens; expected 1 to ", kMaxTokens);
  std::int64_t largest = -1;
  for (const auto& [token, value] : vocab.json().items()) {
    if (!value.is_number_integer() || value.get<std::int64_t>() < 0 || value.get<std::int64_t>() > count + 65536)
      fail(vocab.source(), ": token id ", value.dump(-1, ' ', true).substr(0, 40), " is not within the ", count,
           " tokens");
    largest = std::max(largest, value.get<std::int64_t>());
  }
  data.tokens.resize(static_cast<std::size_t>(largest) + 1);
  data.types.assign(data.tokens.size(), TokenType::kUnused);
  for (const auto& [token, value] : vocab.json().items()) {
    const auto id = value.get<std::size_t>();
    if (data.types[id] != TokenType::kUnused) fail(vocab.source(), ": two tokens have the id ", id);
    data.tokens[id] = token;
    data.types[id] = TokenType::kNormal;
  }
  for (std::size_t id = 0; id < data.tokens.size(); ++id)
    if (data.types[id] == TokenType::kUnused) data.tokens[id] = cat("[PAD", id, "]");
}

void parse_merges(const JsonReader& model, TokenizerData& data) {
  const json* merges = model.find("merges");
  if (merges == nullptr || !merges->is_array()) fail(model.source(), ": the key 'merges' must be a list");
  data.merges.reserve(merges->size());
  for (const json& merge : *merges) {
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      data.merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
      continue;
    }
    const std::size_t space = merge.is_string() ? merge.get_ref<const std::string&>().find(' ', 1) : std::string::npos;
    if (space == std::string::npos)
      fail(model.source(), ": merge ", data.merges.size(), " must be two tokens, found ",
           merge.dump(-1, ' ', true).substr(0, 60));
    const auto& text = merge.get_ref<const std::string&>();
    data.merges.emplace_back(text.substr(0, space), text.substr(space + 1));
  }
}

AddedToken parse_added(const JsonReader& token, std::int64_t id) {
  return {id,
          token.text("content"),
          token.boolean("special", false),
          token.boolean("lstrip", false),
          token.boolean("rstrip", false),
          token.boolean("single_word", false),
          token.boolean("normalized", false)};
}

// Which tokens stand before and after a text: TemplateProcessing's "single".
void parse_post_processor(const JsonReader& post, TokenizerData& data) {
  for_each_part(post, "processors", [&](const JsonReader& part) {
    if (type_of(part) != "TemplateProcessing") return;
    const json* single = part.find("single");
    if (single == nullptr || !single->is_array()) fail(part.source(), ": TemplateProcessing needs the list 'single'");
    bool after = false;
    for (const json& item : *single) {
      const JsonReader entry(item, part.source());
      if (entry.has("Sequence")) {
        after = true;
      } else if (entry.has("SpecialToken")) {
        const std::int64_t id = find_token(data, entry.object("SpecialToken").text("id"));
        if (id < 0)
          fail(part.source(), ": special token '", entry.object("SpecialToken").text("id"),
               "' is not in the vocabulary");
        (after ? data.add_eos : data.add_bos) = true;
        (after ? data.eos_id : data.bos_id) = id;
      }
    }
  });
}

}  // namespace

TokenizerData parse_tokenizer_json(std::string_view text, std::string_view source) {
  const json file = parse_json(text, source);
  const JsonReader root(file, std::string(source));
  const JsonReader model = root.object("model");
  const std::string type = model.text("type", "BPE");
  if (type != "BPE")
    fail(source, ": a tokenizer of type '", type.substr(0, 40),
         "' is not supported; expected BPE, or use tokenizer.model");
  if (!model.text("continuing_subword_prefix", "").empty() || !model.text("end_of_word_suffix", "").empty())
    fail(source, ": BPE with subword prefixes or suffixes is not supported");

  TokenizerData data;
  data.kind = TokenizerKind::kMetaspaceBpe;  // unless a ByteLevel pre-tokenizer says otherwise
  data.byte_fallback = model.boolean("byte_fallback", false);
  data.ignore_merges = model.boolean("ignore_merges", false);
  data.fuse_unk = model.boolean("fuse_unk", false);
  parse_vocab(model, data);
  parse_merges(model, data);
  if (root.has("normalizer")) parse_normalizer(root.object("normalizer"), data);
  if (root.has("pre_tokenizer")) parse_pre_tokenizer(root.object("pre_tokenizer"), data);
  if (const json* added = root.find("added_tokens"); added != nullptr) {
    if (!added->is_array()) fail(source, ": 'added_tokens' must be a list");
    for (const json& item : *added) {
      const JsonReader token(item, cat(source, ": added_tokens"));
      add_token(data, parse_added(token, token.integer("id", 0, kMaxTokens)), source);
    }
  }
  if (const std::string unknown = model.text("unk_token", ""); !unknown.empty())
    data.unk_id = find_token(data, unknown);
  if (data.unk_id >= 0) data.types[static_cast<std::size_t>(data.unk_id)] = TokenType::kUnknown;
  if (data.byte_fallback)
    for (std::size_t id = 0; id < data.tokens.size(); ++id)
      if (const auto& token = data.tokens[id]; token.size() == 6 && token.starts_with("<0x") && token.back() == '>')
        data.types[id] = TokenType::kByte;
  if (root.has("post_processor")) parse_post_processor(root.object("post_processor"), data);
  if (data.kind == TokenizerKind::kByteBpe)
    if (const Pretokenizer* known = match_pretokenizer(data)) data.pre = known->name;
  data.tokenizer_json = std::string(text);
  return data;
}

void apply_tokenizer_config(const json& config, std::string_view source, TokenizerData& data) {
  const JsonReader root(config, std::string(source));
  if (root.has("added_tokens_decoder")) {
    const JsonReader decoder = root.object("added_tokens_decoder");
    for (const auto& [key, value] : decoder.json().items()) {
      std::int64_t id = -1;
      if (!key.empty() && key.size() < 9 && key.find_first_not_of("0123456789") == std::string::npos)
        id = std::stoll(key);
      if (id < 0) fail(decoder.source(), ": '", key.substr(0, 40), "' is not a token id");
      add_token(data, parse_added(JsonReader(value, decoder.source()), id), source);
    }
  }
  // A special token is a string, or an object with "content".
  const auto special = [&](const char* key, std::int64_t& id) {
    const json* value = root.find(key);
    if (value == nullptr) return;
    const std::string text = value->is_object() ? JsonReader(*value, root.source()).text("content") : root.text(key);
    if (const std::int64_t found = find_token(data, text); found >= 0) id = found;
  };
  special("bos_token", data.bos_id);
  special("eos_token", data.eos_id);
  special("unk_token", data.unk_id);
  special("pad_token", data.pad_id);
  data.add_bos = root.boolean("add_bos_token", data.add_bos);
  data.add_eos = root.boolean("add_eos_token", data.add_eos);
  if (const json* chat = root.find("chat_template"); chat != nullptr) {
    if (chat->is_string()) data.chat_template = chat->get<std::string>();
    if (chat->is_array())  // several templates by name; the one called default is the chat's
      for (const json& item : *chat)
        if (item.is_object() && item.contains("name") && item["name"] == "default")
          data.chat_template = JsonReader(item, root.source()).text("template");
  }
}

}  // namespace attar
