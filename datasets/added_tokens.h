// Finds added and special tokens in text before anything else looks at it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "convert/tokenizer_data.h"
#include "datasets/byte_trie.h"

namespace attar {

// Matches the leftmost, there the longest token, as Hugging Face's AddedVocabulary does, with its flags: single_word
// asks for no word character on either side, lstrip and rstrip swallow the white space before and after.
class AddedTokenMatcher {
 public:
  void add(const AddedToken& token, std::string_view pattern);
  bool empty() const { return tokens_.empty(); }

  // Calls plain(text) and token(id) in the order of text; plain text is never empty.
  void split(std::string_view text, const std::function<void(std::string_view)>& plain,
             const std::function<void(std::int64_t)>& token) const;

 private:
  std::vector<AddedToken> tokens_;
  ByteTrie trie_;
};

}  // namespace attar
