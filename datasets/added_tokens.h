// Finds added and special tokens in text before anything else looks at it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "convert/tokenizer_data.h"

namespace attar {

// Matches the leftmost, there the longest token, as Hugging Face's AddedVocabulary does, with its flags: single_word asks
// for no word character on either side, lstrip and rstrip swallow the white space before and after.
class AddedTokenMatcher {
 public:
  void add(const AddedToken& token, std::string_view pattern);
  bool empty() const { return tokens_.empty(); }

  // Calls plain(text) and token(id) in the order of text; plain text is never empty.
  void split(std::string_view text, const std::function<void(std::string_view)>& plain,
             const std::function<void(std::int64_t)>& token) const;

 private:
  struct Match {
    std::size_t length = 0;
    std::size_t token = 0;
  };
  Match longest_at(std::string_view text, std::size_t begin) const;

  static constexpr std::uint32_t kNone = 0xffffffffu;
  std::vector<AddedToken> tokens_;
  std::vector<std::uint32_t> token_of_node_ = {kNone};        // a trie of bytes; node 0 is its root
  std::unordered_map<std::uint64_t, std::uint32_t> children_;  // node * 256 + byte -> node
  bool starts_[256] = {};
};

}  // namespace attar
