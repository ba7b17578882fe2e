// BPE over characters with U+2581 for space: Llama 2's, Mistral's, Gemma's SentencePiece model written as a
// tokenizer.json.
#include <algorithm>

#include "base/console.h"
#include "datasets/encoder.h"
#include "datasets/metaspace.h"
#include "datasets/workspace_pool.h"

namespace attar {
namespace {

class MetaspaceEncoder : public Encoder {
 public:
  explicit MetaspaceEncoder(const TokenizerData& data)
      : data_(data),
        vocabulary_(make_vocabulary(data)),
        merger_(ranked_merges(data, vocabulary_)),
        unknown_(data, vocabulary_, data.fuse_unk),
        prefix_(data.add_prefix_space),
        prefix_unless_space_(data.prefix_unless_space),
        prefix_first_only_(data.prefix_first_only),
        ignore_merges_(data.ignore_merges) {
    // A merge across "letter, space" would make words depend on each other; no known tokenizer has one.
    words_stand_alone_ =
        id_of(kMetaspace) != kNoToken && std::none_of(data.merges.begin(), data.merges.end(), [](const auto& merge) {
          return merge.second.starts_with(kMetaspace) && !merge.first.ends_with(kMetaspace);
        });
  }

  // Prepend and Replace are normalizers, seen by added tokens; the Metaspace pre-tokenizer comes after them.
  std::string normalize(std::string_view text) const override {
    if (prefix_unless_space_) return std::string(text);
    return prefixed(text, prefix_ && !text.empty());
  }

  void encode(std::string_view text, bool first, Ids& ids) const override {
    if (!prefix_unless_space_) return encode_normal(text, ids);
    const bool starts_with_space = text[0] == ' ' || text.starts_with(kMetaspace);
    encode_normal(prefixed(text, prefix_ && !starts_with_space && (first || !prefix_first_only_)), ids);
  }

  std::vector<TokenId> parts(TokenId id) const override {
    const std::string& text = data_.tokens[static_cast<std::size_t>(id)];
    if (text.size() == utf8_length(text[0])) return {};
    std::vector<TokenId> word;
    characters(text, word);
    merger_.merge_short_of(id, word, pool_.borrow()->merge);
    return word;
  }

 private:
  struct Workspace {
    BpeMerger::Workspace merge;
    WordCache cache;
    std::vector<TokenId> word;
  };

  static std::string prefixed(std::string_view text, bool prefix) {
    return (prefix ? std::string(kMetaspace) : std::string()) + spaces_to_metaspace(text);
  }

  TokenId id_of(std::string_view token) const {
    const auto found = vocabulary_.find(token);
    return found == vocabulary_.end() ? kNoToken : found->second;
  }

  void encode_normal(std::string_view text, Ids& ids) const {
    if (const TokenId whole = ignore_merges_ ? id_of(text) : kNoToken; whole != kNoToken) {
      ids.push_back(whole);
      return;
    }
    auto workspace = pool_.borrow();
    std::uint64_t words = 0;
    for (std::size_t begin = 0; begin < text.size();) {
      if (++words % 65536 == 0) check_interrupt();
      const std::size_t end = words_stand_alone_ ? metaspace_word_end(text, begin) : text.size();
      const std::string_view word = text.substr(begin, end - begin);
      const std::vector<TokenId>* tokens = workspace->cache.find(word);
      if (tokens == nullptr) tokens = &encode_word(word, *workspace);
      ids.insert(ids.end(), tokens->begin(), tokens->end());
      begin = end;
    }
  }

  void characters(std::string_view word, std::vector<TokenId>& tokens) const {
    tokens.clear();
    for (std::size_t i = 0; i < word.size();) {
      const std::string_view character = word.substr(i, utf8_length(word[i]));
      i += character.size();
      if (const TokenId id = id_of(character); id != kNoToken)
        tokens.push_back(id);
      else
        unknown_.append(character, tokens);
    }
  }

  const std::vector<TokenId>& encode_word(std::string_view word, Workspace& workspace) const {
    auto& tokens = workspace.word;
    characters(word, tokens);
    merger_.merge(tokens, workspace.merge);
    workspace.cache.put(word, tokens);
    return tokens;
  }

  const TokenizerData& data_;
  Vocabulary vocabulary_;
  BpeMerger merger_;
  UnknownCharacters unknown_;
  bool prefix_, prefix_unless_space_, prefix_first_only_, ignore_merges_, words_stand_alone_;
  mutable WorkspacePool<Workspace> pool_;
};

}  // namespace

std::unique_ptr<Encoder> make_metaspace_encoder(const TokenizerData& data) {
  return std::make_unique<MetaspaceEncoder>(data);
}

}  // namespace attar
