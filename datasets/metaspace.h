// What the two encoders of text with U+2581 for space share.
#pragma once

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "convert/tokenizer_data.h"
#include "datasets/bpe.h"
#include "datasets/unicode.h"

namespace attar {

// A word is a run of spaces and the run of other characters after it.
inline std::size_t metaspace_word_end(std::string_view text, std::size_t begin) {
  while (text.substr(begin).starts_with(kMetaspace)) begin += kMetaspace.size();
  return std::min(text.find(kMetaspace, begin), text.size());
}

// What stands for a character that is no token: its bytes, or the unknown token.
class UnknownCharacters {
 public:
  // fuse: neighbours become one unknown token.
  UnknownCharacters(const TokenizerData& data, const Vocabulary& vocabulary, bool fuse);
  void append(std::string_view character, std::vector<TokenId>& tokens) const;  // throws Error: there is neither

 private:
  std::array<TokenId, 256> byte_tokens_;
  TokenId unknown_;
  bool fuse_;
};

}  // namespace attar
