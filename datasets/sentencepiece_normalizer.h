// SentencePiece's text normalisation: its compiled table of replacements, spaces, the dummy prefix.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "convert/tokenizer_data.h"
#include "datasets/byte_trie.h"

namespace attar {

class SentencePieceNormalizer {
 public:
  // user_defined: pieces that stay as they are. Throws Error for a table that is cut off or points outside itself.
  SentencePieceNormalizer(const TokenizerData& data, const ByteTrie& user_defined);
  std::string normalize(std::string_view text) const;

 private:
  struct Prefix {
    std::size_t length;  // bytes of text
    std::string_view replacement;
  };
  Prefix normalize_prefix(std::string_view text, std::size_t begin) const;

  const ByteTrie& user_defined_;
  bool add_prefix_, remove_extra_;
  std::vector<std::uint32_t> trie_;  // a double array; empty: nothing is replaced
  std::string replacements_;         // strings that end with a zero byte
};

}  // namespace attar
