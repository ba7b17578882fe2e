#include "convert/vocabulary.h"

#include <string_view>
#include <unordered_set>

#include "base/console.h"
#include "base/error.h"
#include "convert/tokenizer_parts.h"

namespace attar {
namespace {

using Json = nlohmann::ordered_json;

// Old ids to new ones.
class Renumbering {
 public:
  Renumbering(const std::vector<std::int64_t>& kept, std::size_t size) : ids_(size, -1) {
    std::int64_t before = -1;
    for (std::size_t i = 0; i < kept.size(); ++i) {
      if (kept[i] <= before || kept[i] >= static_cast<std::int64_t>(size))
        fail("select tokens: id ", kept[i], " after ", before, "; expected ascending ids of a vocabulary of ", size);
      before = kept[i];
      ids_[static_cast<std::size_t>(kept[i])] = static_cast<std::int64_t>(i);
    }
  }
  std::int64_t operator()(std::int64_t id) const {  // -1: not kept, or none before
    return id < 0 || id >= static_cast<std::int64_t>(ids_.size()) ? -1 : ids_[static_cast<std::size_t>(id)];
  }

 private:
  std::vector<std::int64_t> ids_;
};

template <class T>
std::vector<T> pick(const std::vector<T>& values, const std::vector<std::int64_t>& kept) {
  std::vector<T> picked;
  for (const auto id : kept)
    if (static_cast<std::size_t>(id) < values.size()) picked.push_back(values[static_cast<std::size_t>(id)]);
  return picked;
}

void renumber_post_processor(Json& post, const Renumbering& renumber) {
  if (!post.is_object()) return;
  const std::string type = post.value("type", "");
  if (type == "Sequence") {
    for (Json& part : post["processors"]) renumber_post_processor(part, renumber);
  } else if (type == "TemplateProcessing") {
    for (auto& [token, special] : post["special_tokens"].items())
      for (Json& id : special["ids"]) id = renumber(id.get<std::int64_t>());
  } else if (type != "ByteLevel") {
    fail("select tokens: the ids inside tokenizer.json's post-processor '", type, "' cannot be renumbered");
  }
}

std::string cut_tokenizer_json(const TokenizerData& part, const Renumbering& renumber) {
  const auto all_but_vocab = [](int depth, Json::parse_event_t event, Json& parsed) {
    return depth != 2 || event != Json::parse_event_t::key || parsed != "vocab";
  };
  Json file = Json::parse(part.tokenizer_json, all_but_vocab);
  Json added = Json::array();
  for (Json& token : file["added_tokens"]) {
    const std::int64_t id = renumber(token.at("id").get<std::int64_t>());
    if (id < 0) continue;
    token["id"] = id;
    added.push_back(std::move(token));
  }
  file["added_tokens"] = std::move(added);
  renumber_post_processor(file["post_processor"], renumber);
  if (Json& padding = file["padding"]; padding.is_object() && part.pad_id >= 0) padding["pad_id"] = part.pad_id;
  Json& model = file["model"];
  const bool pairs = model["merges"].empty() || model["merges"][0].is_array();  // or one text with a space
  Json merges = Json::array();
  for (const auto& [left, right] : part.merges)
    pairs ? merges.push_back({left, right}) : merges.push_back(left + " " + right);
  model.erase("merges");
  model["vocab"] = Json::object();
  model["merges"] = std::move(merges);
  return with_vocabulary(file, part);
}

std::string cut_tokenizer_config(const std::string& text, const Renumbering& renumber) {
  Json config = Json::parse(text);
  if (!config.contains("added_tokens_decoder")) return text;
  Json decoder = Json::object();
  for (auto& [id, token] : config["added_tokens_decoder"].items())
    if (const std::int64_t now = renumber(std::stoll(id)); now >= 0) decoder[std::to_string(now)] = std::move(token);
  config["added_tokens_decoder"] = std::move(decoder);
  return config.dump(2) + "\n";
}

void renumber_config(ModelConfig& config, const Renumbering& renumber) {
  const auto drop = [&](const char* key) {
    if (config.hf.is_object()) config.hf.erase(key);
  };
  if ((config.bos_id = renumber(config.bos_id)) < 0) drop("bos_token_id");
  if ((config.pad_id = renumber(config.pad_id)) < 0) drop("pad_token_id");
  for (std::int64_t& id : config.eos_ids) id = renumber(id);
  std::erase(config.eos_ids, -1);
  if (config.eos_ids.empty()) drop("eos_token_id");
}

Tensor pick_rows(const Tensor& source, const std::vector<std::int64_t>& kept) {
  Tensor tensor = source;
  tensor.shape[0] = static_cast<std::int64_t>(kept.size());
  const std::size_t stride = row_bytes(source.type, static_cast<std::uint64_t>(source.columns()));
  tensor.read_rows = [read = source.read_rows, kept, stride](std::int64_t begin, std::int64_t end, std::byte* out) {
    for (std::int64_t i = begin; i < end; ++i, out += stride) {
      const std::int64_t row = kept[static_cast<std::size_t>(i)];
      read(row, row + 1, out);
    }
  };
  return tensor;
}

}  // namespace

TokenizerData select_tokens(const TokenizerData& whole, const std::vector<std::int64_t>& kept) {
  const Renumbering renumber(kept, whole.tokens.size());
  TokenizerData part = whole;
  part.tokens = pick(whole.tokens, kept);
  part.types = pick(whole.types, kept);
  part.scores = pick(whole.scores, kept);
  const std::unordered_set<std::string_view> tokens(part.tokens.begin(), part.tokens.end());
  std::erase_if(part.merges, [&](const auto& merge) {
    return !tokens.contains(merge.first) || !tokens.contains(merge.second) || !tokens.contains(merge.first + merge.second);
  });
  for (AddedToken& token : part.added) token.id = renumber(token.id);
  std::erase_if(part.added, [](const AddedToken& token) { return token.id < 0; });
  for (std::int64_t* id : {&part.bos_id, &part.eos_id, &part.unk_id, &part.pad_id}) *id = renumber(*id);
  part.add_bos = whole.add_bos && part.bos_id >= 0;
  part.add_eos = whole.add_eos && part.eos_id >= 0;
  if (!part.tokenizer_json.empty()) part.tokenizer_json = cut_tokenizer_json(part, renumber);
  if (!part.tokenizer_config_json.empty())
    part.tokenizer_config_json = cut_tokenizer_config(part.tokenizer_config_json, renumber);
  if (!part.tokenizer_model.empty()) {
    part.tokenizer_model = cut_sentencepiece(whole, kept);
    if (part.tokenizer_model.empty() && part.kind != TokenizerKind::kSentencePiece)
      warn("tokenizer.model numbers its pieces differently from tokenizer.json and is left out; tokenizer.json says it all");
  }
  return part;
}

Checkpoint select_tokens(const Checkpoint& model, const std::vector<std::int64_t>& kept) {
  Checkpoint part = model;
  part.tokenizer = select_tokens(model.tokenizer, kept);
  part.config.vocab_size = static_cast<std::int64_t>(kept.size());
  renumber_config(part.config, Renumbering(kept, model.tokenizer.size()));
  for (Tensor& tensor : part.tensors)
    if (tensor.name == "model.embed_tokens.weight" || tensor.name == "lm_head.weight") tensor = pick_rows(tensor, kept);
  return part;
}

}  // namespace attar
