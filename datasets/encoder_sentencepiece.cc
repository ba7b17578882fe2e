// SentencePiece models: Kudo & Richardson, "SentencePiece: A simple and language independent subword tokenizer and
// detokenizer", 2018, https://arxiv.org/abs/1808.06226. Google's library is not used: Debian's carries its own copy of
// protobuf, whose symbols clash with the protobuf that LibTorch links.
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/console.h"
#include "base/error.h"
#include "base/text.h"
#include "datasets/encoder.h"
#include "datasets/metaspace.h"
#include "datasets/sentencepiece_normalizer.h"
#include "datasets/workspace_pool.h"

namespace attar {
namespace {

bool is_text(TokenType type) { return type == TokenType::kNormal || type == TokenType::kUserDefined; }

// Merging starts from single characters, and one that is no piece may still be part of one: it gets an id in [begin,
// end), past the vocabulary.
class Characters {
 public:
  Characters(const TokenizerData& data, const Vocabulary& pieces) : first_(static_cast<TokenId>(data.tokens.size())) {
    for (const auto& [piece, id] : pieces)
      for (std::size_t i = 0; i < piece.size(); i += utf8_length(piece[i]))
        if (const auto character = piece.substr(i, utf8_length(piece[i])); !pieces.contains(character)) {
          const auto [entry, added] = ids_.try_emplace(character, first_ + static_cast<TokenId>(texts_.size()));
          if (added) texts_.push_back(character);
        }
  }
  TokenId begin() const { return first_; }
  TokenId end() const { return first_ + static_cast<TokenId>(texts_.size()); }
  std::string_view text(TokenId id) const { return texts_[static_cast<std::size_t>(id - first_)]; }
  TokenId find(std::string_view character) const {
    const auto found = ids_.find(character);
    return found == ids_.end() ? kNoToken : found->second;
  }

 private:
  TokenId first_;
  Vocabulary ids_;
  std::vector<std::string_view> texts_;
};

// Every way to make a piece of two; SentencePiece's BPE joins the pair whose whole has the highest score first.
std::vector<BpeMerge> scored_merges(const TokenizerData& data, const Vocabulary& pieces, const Characters& characters) {
  std::vector<float> scores;
  for (const auto& [piece, id] : pieces) scores.push_back(data.scores[static_cast<std::size_t>(id)]);
  std::sort(scores.begin(), scores.end(), std::greater<>());
  scores.erase(std::unique(scores.begin(), scores.end()), scores.end());
  const auto id_of = [&](std::string_view text) {
    const auto found = pieces.find(text);
    if (found != pieces.end()) return found->second;
    return text.size() == utf8_length(text[0]) ? characters.find(text) : kNoToken;
  };
  std::vector<BpeMerge> merges;
  for (const auto& [piece, id] : pieces) {
    const auto rank = static_cast<std::uint32_t>(
        std::lower_bound(scores.begin(), scores.end(), data.scores[static_cast<std::size_t>(id)], std::greater<>()) -
        scores.begin());
    for (std::size_t cut = utf8_length(piece[0]); cut < piece.size(); cut += utf8_length(piece[cut])) {
      const TokenId left = id_of(piece.substr(0, cut)), right = id_of(piece.substr(cut));
      if (left != kNoToken && right != kNoToken) merges.push_back({left, right, id, rank});
    }
  }
  return merges;
}

Vocabulary text_pieces(const TokenizerData& data) {
  if (data.scores.size() != data.tokens.size() || data.types.size() != data.tokens.size())
    fail("tokenizer: a SentencePiece vocabulary of ", data.tokens.size(), " tokens with ", data.scores.size(),
         " scores and ", data.types.size(), " types; each token needs both");
  Vocabulary pieces;
  for (std::size_t id = 0; id < data.tokens.size(); ++id) {
    if (!is_text(data.types[id])) continue;
    if (data.tokens[id].empty() || find_invalid_utf8(data.tokens[id]))
      fail("tokenizer: SentencePiece's piece ", id, " is empty or not UTF-8");
    if (!std::isfinite(data.scores[id])) fail("tokenizer: SentencePiece's piece ", id, " has no finite score");
    pieces.try_emplace(data.tokens[id], static_cast<TokenId>(id));
  }
  return pieces;
}

class SentencePieceEncoder : public Encoder {
 public:
  explicit SentencePieceEncoder(const TokenizerData& data)
      : data_(data),
        pieces_(text_pieces(data)),
        characters_(data, pieces_),
        merger_(data.unigram ? std::vector<BpeMerge>() : scored_merges(data, pieces_, characters_)),
        unknown_(data, make_vocabulary(data), true),
        normalizer_(data, user_defined_) {
    for (const auto& [piece, id] : pieces_) {
      // Pieces with a space after something else would make words depend on each other; no known model has one.
      for (std::size_t i = 1; i < piece.size(); ++i)
        if (piece.substr(i).starts_with(kMetaspace) && !piece.substr(0, i).ends_with(kMetaspace))
          words_stand_alone_ = false;
      const auto index = static_cast<std::size_t>(id);
      if (data.types[index] == TokenType::kUserDefined) {
        user_defined_.insert(piece, static_cast<std::uint32_t>(id));
      } else {
        lowest_ = std::min(lowest_, data.scores[index]);
        highest_ = std::max(highest_, data.scores[index]);
      }
      if (data.unigram) trie_.insert(piece, static_cast<std::uint32_t>(id));
    }
  }

  std::string normalize(std::string_view text) const override { return std::string(text); }

  void encode(std::string_view text, bool, Ids& ids) const override {
    const std::string normal = normalizer_.normalize(text);
    const std::string_view rest = normal;
    auto workspace = pool_.borrow();
    std::uint64_t words = 0;
    for (std::size_t begin = 0; begin < rest.size();) {
      if (++words % 65536 == 0) check_interrupt();
      const std::size_t end = words_stand_alone_ ? metaspace_word_end(rest, begin) : rest.size();
      const std::string_view word = rest.substr(begin, end - begin);
      const std::vector<TokenId>* tokens = workspace->cache.find(word);
      if (tokens == nullptr) tokens = &encode_word(word, *workspace);
      ids.insert(ids.end(), tokens->begin(), tokens->end());
      begin = end;
    }
  }

  std::vector<TokenId> parts(TokenId id) const override {
    const auto index = static_cast<std::size_t>(id);
    const std::string_view piece = data_.tokens[index];
    if (data_.types[index] != TokenType::kNormal || piece.size() == utf8_length(piece[0])) return {};
    auto workspace = pool_.borrow();
    if (data_.unigram) {
      workspace->tokens.clear();
      encode_unigram(piece, *workspace, id);
      return workspace->tokens;
    }
    split_bpe(piece, *workspace);
    merger_.merge_short_of(id, workspace->symbols, workspace->merge);
    std::erase_if(workspace->symbols, [&](TokenId symbol) { return symbol >= characters_.begin(); });
    return workspace->symbols;
  }

 private:
  struct Best {  // of all ways to write the word up to here
    float score;
    std::size_t begin;  // of the last piece
    TokenId id;         // kNoToken: an unknown character
  };
  struct Loose {  // never merged: a user-defined piece, or a character that occurs in no piece
    std::string_view text;
    TokenId id;  // kNoToken for such a character
  };
  struct Workspace {
    BpeMerger::Workspace merge;
    WordCache cache;
    std::vector<TokenId> symbols, tokens;
    std::vector<Loose> loose;
    std::vector<Best> best;
  };

  const std::vector<TokenId>& encode_word(std::string_view word, Workspace& workspace) const {
    workspace.tokens.clear();
    if (data_.unigram)
      encode_unigram(word, workspace);
    else
      encode_bpe(word, workspace);
    workspace.cache.put(word, workspace.tokens);
    return workspace.tokens;
  }

  // What merging starts from.
  void split_bpe(std::string_view word, Workspace& workspace) const {
    auto& symbols = workspace.symbols;
    auto& loose = workspace.loose;
    symbols.clear();
    loose.clear();
    const auto add_loose = [&](std::string_view text, TokenId id) {
      symbols.push_back(characters_.end() + static_cast<TokenId>(loose.size()));
      loose.push_back({text, id});
    };
    for (std::size_t i = 0; i < word.size();) {
      if (const auto match = user_defined_.longest_at(word, i); match.length > 0) {
        add_loose(word.substr(i, match.length), static_cast<TokenId>(match.value));
        i += match.length;
        continue;
      }
      const std::string_view character = word.substr(i, utf8_length(word[i]));
      i += character.size();
      const auto piece = pieces_.find(character);
      if (const TokenId id = piece != pieces_.end() ? piece->second : characters_.find(character); id != kNoToken)
        symbols.push_back(id);
      else
        add_loose(character, kNoToken);
    }
  }

  void encode_bpe(std::string_view word, Workspace& workspace) const {
    auto& symbols = workspace.symbols;
    auto& loose = workspace.loose;
    split_bpe(word, workspace);
    merger_.merge(symbols, workspace.merge);
    for (const TokenId symbol : symbols) {
      if (symbol < characters_.begin()) {
        workspace.tokens.push_back(symbol);
      } else if (symbol < characters_.end()) {
        unknown_.append(characters_.text(symbol), workspace.tokens);
      } else if (const Loose& item = loose[static_cast<std::size_t>(symbol - characters_.end())]; item.id != kNoToken) {
        workspace.tokens.push_back(item.id);
      } else {
        unknown_.append(item.text, workspace.tokens);
      }
    }
  }

  // Kudo, "Subword Regularization", 2018, https://arxiv.org/abs/1804.10959, section 3.1: of all ways to write the word
  // in pieces the one with the highest sum of scores, by Viterbi's algorithm.
  // without: a piece not to use.
  void encode_unigram(std::string_view word, Workspace& workspace, TokenId without = kNoToken) const {
    auto& best = workspace.best;
    best.assign(word.size() + 1, {-std::numeric_limits<float>::infinity(), 0, kNoToken});
    best[0].score = 0;
    const float unknown_score = lowest_ - 10;
    const auto offer = [&](std::size_t begin, std::size_t length, float score, TokenId id) {
      Best& end = best[begin + length];
      if (best[begin].score + score > end.score) end = {best[begin].score + score, begin, id};
    };
    for (std::size_t begin = 0; begin < word.size(); begin += utf8_length(word[begin])) {
      const std::size_t character = utf8_length(word[begin]);
      bool alone = false;
      trie_.for_each_at(word, begin, [&](const ByteTrie::Match& match) {
        if (static_cast<TokenId>(match.value) == without) return;
        const bool user_defined = data_.types[match.value] == TokenType::kUserDefined;
        const float score = user_defined ? static_cast<float>(static_cast<float>(match.length) * highest_ - 0.1)
                                         : data_.scores[match.value];
        offer(begin, match.length, score, static_cast<TokenId>(match.value));
        alone = alone || match.length == character;
      });
      if (!alone) offer(begin, character, unknown_score, kNoToken);
    }
    auto& path = workspace.symbols;  // ends of the pieces, last first
    path.clear();
    for (std::size_t end = word.size(); end > 0; end = best[end].begin) path.push_back(static_cast<TokenId>(end));
    for (auto end = path.rbegin(); end != path.rend(); ++end) {
      const Best& piece = best[static_cast<std::size_t>(*end)];
      if (piece.id != kNoToken)
        workspace.tokens.push_back(piece.id);
      else
        unknown_.append(word.substr(piece.begin, static_cast<std::size_t>(*end) - piece.begin), workspace.tokens);
    }
  }

  const TokenizerData& data_;
  Vocabulary pieces_;
  Characters characters_;
  BpeMerger merger_;
  UnknownCharacters unknown_;
  ByteTrie user_defined_, trie_;
  SentencePieceNormalizer normalizer_;
  bool words_stand_alone_ = true;
  float lowest_ = std::numeric_limits<float>::max(), highest_ = std::numeric_limits<float>::lowest();
  mutable WorkspacePool<Workspace> pool_;
};

}  // namespace

std::unique_ptr<Encoder> make_sentencepiece_encoder(const TokenizerData& data) {
  return std::make_unique<SentencePieceEncoder>(data);
}

}  // namespace attar
