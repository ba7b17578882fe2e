#include "datasets/train_bpe.h"

#include <algorithm>
#include <cstdint>
#include <queue>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"
#include "convert/pretokenizers.h"
#include "datasets/split_regex.h"
#include "datasets/unicode.h"

namespace attar {
namespace {

using Id = std::int32_t;
constexpr std::string_view kEndOfText = "<|endoftext|>";
constexpr Id kFirstByte = 1;

struct Word {
  std::vector<Id> symbols;
  std::int64_t count;  // how often the text has it
};

std::uint64_t key_of(Id left, Id right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
}
Id left_of(std::uint64_t key) { return static_cast<Id>(key >> 32); }
Id right_of(std::uint64_t key) { return static_cast<Id>(key & 0xffffffffu); }

std::vector<Word> count_words(const std::vector<std::string>& documents, const std::vector<std::string>& regexes) {
  const SplitRegexes split(regexes);
  SplitRegexes::Workspace workspace;
  std::unordered_map<std::string, std::int64_t> counts;
  for (const std::string& document : documents) {
    split.split(document, workspace, [&](std::string_view word) { ++counts[std::string(word)]; });
  }
  std::vector<Word> words;
  words.reserve(counts.size());
  for (const auto& [text, count] : counts) {
    Word word{{}, count};
    for (const char c : text) word.symbols.push_back(kFirstByte + static_cast<unsigned char>(c));
    words.push_back(std::move(word));
  }
  return words;
}

// The paper's get_stats and merge_vocab, kept up to date instead of recounted: a pair's count, the words that may hold
// it, and a heap in which an entry is stale if its count is no longer the pair's.
class PairTable {
 public:
  explicit PairTable(std::vector<Word> words) : words_(std::move(words)) {
    for (std::size_t w = 0; w < words_.size(); ++w) add_pairs(w, +1);
    for (const auto& [key, count] : counts_) heap_.push({count, key});
    touched_.clear();
  }

  // The most frequent pair; false when no pair is left.
  bool best(std::uint64_t& key) {
    while (!heap_.empty()) {
      const Entry top = heap_.top();
      heap_.pop();
      if (top.count > 0 && counts_[top.key] == top.count) {
        key = top.key;
        return true;
      }
    }
    return false;
  }

  void merge(std::uint64_t key, Id merged) {
    const std::unordered_set<std::size_t> holders = std::move(holders_[key]);
    holders_.erase(key);
    touched_.clear();
    for (const std::size_t w : holders) {
      add_pairs(w, -1);
      std::vector<Id>& symbols = words_[w].symbols;
      std::size_t to = 0;
      for (std::size_t i = 0; i < symbols.size(); ++to) {
        const bool pair = i + 1 < symbols.size() && key_of(symbols[i], symbols[i + 1]) == key;
        symbols[to] = pair ? merged : symbols[i];
        i += pair ? 2 : 1;
      }
      symbols.resize(to);
      add_pairs(w, +1);
    }
    for (const std::uint64_t changed : touched_) heap_.push({counts_[changed], changed});
  }

 private:
  struct Entry {
    std::int64_t count;
    std::uint64_t key;
    bool operator<(const Entry& other) const {  // "worse than"
      return count != other.count ? count < other.count : key > other.key;
    }
  };

  void add_pairs(std::size_t w, int sign) {
    const Word& word = words_[w];
    for (std::size_t i = 0; i + 1 < word.symbols.size(); ++i) {
      const std::uint64_t key = key_of(word.symbols[i], word.symbols[i + 1]);
      counts_[key] += sign * word.count;
      if (sign > 0) holders_[key].insert(w);
      touched_.insert(key);
    }
  }

  std::vector<Word> words_;
  std::unordered_map<std::uint64_t, std::int64_t> counts_;
  std::unordered_map<std::uint64_t, std::unordered_set<std::size_t>> holders_;
  std::unordered_set<std::uint64_t> touched_;
  std::priority_queue<Entry> heap_;
};

}  // namespace

TokenizerData train_bpe(const std::vector<std::string>& documents, int vocab_size) {
  constexpr int kLeast = kFirstByte + 256;
  if (vocab_size < kLeast) {
    fail("[train_bpe] ", vocab_size, " tokens asked for, but a byte-level vocabulary has at least ", kLeast);
  }
  const Pretokenizer& gpt2 = find_pretokenizer("gpt-2");
  TokenizerData data;
  data.kind = TokenizerKind::kByteBpe;
  data.pre = gpt2.name;
  data.split_regexes = gpt2.regexes;
  data.ignore_merges = gpt2.ignore_merges;
  data.add_bos = true;
  data.bos_id = data.eos_id = 0;
  data.tokens.emplace_back(kEndOfText);
  data.added.push_back({0, std::string(kEndOfText), true});
  for (const std::string& character : byte_alphabet()) data.tokens.push_back(character);

  std::unordered_map<std::string, Id> ids;
  for (std::size_t id = kFirstByte; id < data.tokens.size(); ++id) ids.emplace(data.tokens[id], static_cast<Id>(id));
  PairTable pairs(count_words(documents, data.split_regexes));
  while (std::cmp_less(data.tokens.size(), vocab_size)) {
    std::uint64_t key = 0;
    if (!pairs.best(key)) {
      fail("[train_bpe] the documents give only ", data.tokens.size(), " tokens, ", vocab_size,
           " asked for; give more text");
    }
    const std::string& left = data.tokens[static_cast<std::size_t>(left_of(key))];
    const std::string& right = data.tokens[static_cast<std::size_t>(right_of(key))];
    data.merges.emplace_back(left, right);
    // Two merges may spell the same token ("a"+"bc", "ab"+"c"); it keeps its first id.
    const auto [at, fresh] = ids.emplace(left + right, static_cast<Id>(data.tokens.size()));
    if (fresh) data.tokens.push_back(at->first);
    pairs.merge(key, at->second);
  }
  data.types.assign(data.tokens.size(), TokenType::kNormal);
  data.types[0] = TokenType::kControl;
  return data;
}

}  // namespace attar
