// Byte-level BPE: normalise, cut into words, write each word's bytes as tokens, merge.
#include <algorithm>
#include <array>
#include <optional>

#include "base/console.h"
#include "base/error.h"
#include "convert/pretokenizers.h"
#include "datasets/encoder.h"
#include "datasets/split_regex.h"
#include "datasets/unicode.h"
#include "datasets/workspace_pool.h"

namespace attar {
namespace {

struct Pieces {
  std::vector<std::string> regexes;
  bool ignore_merges, nfc;
};

// A tokenizer.json says how it cuts; a GGUF only names it.
Pieces resolve(const TokenizerData& data) {
  if (!data.split_regexes.empty() || !data.tokenizer_json.empty())
    return {data.split_regexes, data.ignore_merges, data.nfc};
  if (data.pre.empty()) {
    warn(
        "tokenizer: nothing says how to cut text into words (tokenizer.ggml.pre is missing); taking 'default', which "
        "the "
        "model was probably not trained with");
  }
  const Pretokenizer& named = find_pretokenizer(data.pre.empty() ? "default" : data.pre);
  return {named.regexes, named.ignore_merges || data.ignore_merges, named.nfc || data.nfc};
}

class ByteEncoder : public Encoder {
 public:
  explicit ByteEncoder(const TokenizerData& data) : ByteEncoder(data, resolve(data), make_vocabulary(data)) {}

  std::string normalize(std::string_view text) const override {
    if (nfc_)
      if (auto normal = normalize_nfc(text)) return *std::move(normal);
    return std::string(text);
  }

  void encode(std::string_view text, bool, Ids& ids) const override {
    if (add_prefix_space_ && text[0] != ' ') return encode(' ' + std::string(text), true, ids);
    auto workspace = pool_.borrow();
    std::uint64_t words = 0;
    splitter_.split(text, workspace->split, [&](std::string_view word) {
      if (++words % 65536 == 0) check_interrupt();
      const std::vector<TokenId>* tokens = workspace->cache.find(word);
      if (tokens == nullptr) tokens = &encode_word(word, *workspace);
      ids.insert(ids.end(), tokens->begin(), tokens->end());
    });
  }

  std::vector<TokenId> parts(TokenId id) const override {
    std::vector<TokenId> word;
    for (const char c : from_byte_alphabet(data_.tokens[static_cast<std::size_t>(id)]).value_or(""))
      word.push_back(byte_tokens_[static_cast<unsigned char>(c)]);
    if (word.size() < 2 || std::count(word.begin(), word.end(), kNoToken) > 0) return {};
    merger_.merge_short_of(id, word, pool_.borrow()->merge);
    return word;
  }

 private:
  struct Workspace {
    SplitRegexes::Workspace split;
    BpeMerger::Workspace merge;
    WordCache cache;
    std::vector<TokenId> word;
  };

  ByteEncoder(const TokenizerData& data, const Pieces& pieces, const Vocabulary& vocabulary)
      : data_(data),
        splitter_(pieces.regexes),
        merger_(ranked_merges(data, vocabulary)),
        nfc_(pieces.nfc),
        add_prefix_space_(data.add_prefix_space) {
    const auto id_of = [&](std::string_view token) {
      const auto found = vocabulary.find(token);
      return found == vocabulary.end() ? kNoToken : found->second;
    };
    for (std::size_t byte = 0; byte < 256; ++byte) byte_tokens_[byte] = id_of(byte_alphabet()[byte]);
    if (pieces.ignore_merges) {
      std::vector<bool> added(data.tokens.size());
      for (const auto& token : data.added) added[static_cast<std::size_t>(token.id)] = true;
      for (std::size_t id = 0; id < data.tokens.size(); ++id)
        if (auto bytes = added[id] ? std::nullopt : from_byte_alphabet(data.tokens[id]))
          whole_words_.try_emplace(*std::move(bytes), static_cast<TokenId>(id));
    }
  }

  const std::vector<TokenId>& encode_word(std::string_view word, Workspace& workspace) const {
    auto& tokens = workspace.word;
    tokens.clear();
    if (const auto whole = whole_words_.empty() ? whole_words_.end() : whole_words_.find(std::string(word));
        whole != whole_words_.end()) {
      tokens.push_back(whole->second);
    } else {
      for (const char c : word) {
        const TokenId token = byte_tokens_[static_cast<unsigned char>(c)];
        if (token == kNoToken)
          fail("tokenize: the vocabulary has no token for byte ", int{static_cast<unsigned char>(c)}, " of '",
               word.substr(0, 40), "'");
        tokens.push_back(token);
      }
      merger_.merge(tokens, workspace.merge);
    }
    workspace.cache.put(word, tokens);
    return tokens;
  }

  const TokenizerData& data_;
  SplitRegexes splitter_;
  BpeMerger merger_;
  bool nfc_, add_prefix_space_;
  std::array<TokenId, 256> byte_tokens_;
  std::unordered_map<std::string, TokenId> whole_words_;  // by their bytes; filled if they skip the merges
  mutable WorkspacePool<Workspace> pool_;
};

}  // namespace

std::unique_ptr<Encoder> make_byte_encoder(const TokenizerData& data) { return std::make_unique<ByteEncoder>(data); }

}  // namespace attar
