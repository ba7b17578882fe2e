// Byte-pair encoding: merging neighbours by rank.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "convert/tokenizer_data.h"

namespace attar {

using TokenId = std::int32_t;
inline constexpr TokenId kNoToken = -1;

using Vocabulary = std::unordered_map<std::string_view, TokenId>;  // views into the TokenizerData it was made from
Vocabulary make_vocabulary(const TokenizerData& data);

struct BpeMerge {
  TokenId left, right, result;
  std::uint32_t rank;  // lowest first
};
// The merges of a tokenizer.json or GGUF. Throws Error for one whose parts or whole are not in the vocabulary.
std::vector<BpeMerge> ranked_merges(const TokenizerData& data, const Vocabulary& vocabulary);

// Sennrich, Haddow, Birch: "Neural Machine Translation of Rare Words with Subword Units", 2016,
// https://arxiv.org/abs/1508.07909, section 3.2: of all neighbouring pairs the one that was learnt first is merged
// first, the leftmost of equals. A heap over a linked list makes it O(n log n) in the length of the word.
class BpeMerger {
 public:
  explicit BpeMerger(const std::vector<BpeMerge>& merges);  // of several for one pair the last counts

  // Memory that calls reuse; one per thread at a time.
  struct Workspace {
    struct Symbol {
      TokenId id;
      std::int64_t previous, next;  // -1: none
    };
    struct Candidate {
      std::uint32_t rank;
      TokenId result;
      std::int64_t left;
    };
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
    std::array<TokenId, 2> last;  // the two that were merged last
  };

  // Merges the word in place.
  void merge(std::vector<TokenId>& word, Workspace& workspace) const;
  // The same, but a word that would become the token `whole` stays the two that it is made of.
  void merge_short_of(TokenId whole, std::vector<TokenId>& word, Workspace& workspace) const;

 private:
  struct Entry {
    std::uint64_t key = ~std::uint64_t{0};  // left << 32 | right
    std::uint32_t rank = 0;
    TokenId result = kNoToken;
  };
  const Entry* find(TokenId left, TokenId right) const;
  std::vector<Entry> table_;  // open addressing, a power of two long
  std::uint64_t mask_ = 0;
};

// The tokens of words seen lately, so that common words are merged once. Direct-mapped: bounded in size, and what is
// lost is only time.
class WordCache {
 public:
  // nullptr if the word is not there.
  const std::vector<TokenId>* find(std::string_view word) const;
  void put(std::string_view word, const std::vector<TokenId>& ids);

 private:
  static constexpr std::size_t kSlots = 1 << 15;
  static constexpr std::size_t kLongestWord = 64;  // bytes
  struct Slot {
    std::string word;
    std::vector<TokenId> ids;
  };
  static std::size_t slot_of(std::string_view word) { return std::hash<std::string_view>()(word) % kSlots; }
  std::vector<Slot> slots_ = std::vector<Slot>(kSlots);
};

}  // namespace attar
