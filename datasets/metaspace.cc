#include "datasets/metaspace.h"

#include <cstdio>

#include "base/error.h"

namespace attar {

UnknownCharacters::UnknownCharacters(const TokenizerData& data, const Vocabulary& vocabulary, bool fuse)
    : unknown_(static_cast<TokenId>(data.unk_id)), fuse_(fuse) {
  for (unsigned byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    const auto found = data.byte_fallback ? vocabulary.find(name) : vocabulary.end();
    byte_tokens_[byte] = found == vocabulary.end() ? kNoToken : found->second;
  }
}

void UnknownCharacters::append(std::string_view character, std::vector<TokenId>& tokens) const {
  const auto token_of = [&](char c) { return byte_tokens_[static_cast<unsigned char>(c)]; };
  if (std::all_of(character.begin(), character.end(), [&](char c) { return token_of(c) != kNoToken; })) {
    for (const char c : character) tokens.push_back(token_of(c));
  } else if (unknown_ == kNoToken) {
    fail("tokenize: the vocabulary has no token for '", character, "', none for its bytes, and no unknown token");
  } else if (!fuse_ || tokens.empty() || tokens.back() != unknown_) {
    tokens.push_back(unknown_);
  }
}

}  // namespace attar
