// Tokenizers small enough to know every answer by hand.
#pragma once

#include <string>
#include <vector>

#include "datasets/tokenizer.h"
#include "datasets/unicode.h"

namespace attar::test {

inline void add_merge(TokenizerData& data, const std::string& left, const std::string& right) {
  data.merges.emplace_back(left, right);
  data.tokens.push_back(left + right);
  data.types.push_back(TokenType::kNormal);
}

inline std::int64_t add_special(TokenizerData& data, const std::string& text, bool special = true) {
  const auto id = static_cast<std::int64_t>(data.tokens.size());
  data.tokens.push_back(text);
  data.types.push_back(special ? TokenType::kControl : TokenType::kUserDefined);
  data.added.push_back({id, text, special});
  return id;
}

// Ids 0-255 are the bytes; then he, ll, hell, hello, (space)w, wo in the order of their merges: 256-261; "<|end|>" is
// 262.
inline TokenizerData small_byte_bpe() {
  TokenizerData data;
  data.kind = TokenizerKind::kByteBpe;
  for (const auto& letter : byte_alphabet()) {
    data.tokens.push_back(letter);
    data.types.push_back(TokenType::kNormal);
  }
  add_merge(data, "h", "e");
  add_merge(data, "l", "l");
  add_merge(data, "he", "ll");
  add_merge(data, "hell", "o");
  add_merge(data, byte_alphabet()[' '], "w");
  add_merge(data, "w", "o");
  data.eos_id = add_special(data, "<|end|>");
  data.pre = "gpt-2";
  return data;
}

// <unk> 0, <s> 1, </s> 2, bytes 3-258, then U+2581 259, a 260, b 261, c 262 and the merges ab 263, _a 264, _ab 265, __
// 266.
inline TokenizerData small_metaspace_bpe() {
  TokenizerData data;
  data.kind = TokenizerKind::kMetaspaceBpe;
  add_special(data, "<unk>");
  data.unk_id = 0;
  data.bos_id = add_special(data, "<s>");
  data.eos_id = add_special(data, "</s>");
  data.add_bos = data.byte_fallback = data.add_prefix_space = data.fuse_unk = true;
  char name[8];
  for (unsigned byte = 0; byte < 256; ++byte) {
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    data.tokens.emplace_back(name);
    data.types.push_back(TokenType::kByte);
  }
  const std::string space(kMetaspace);
  for (const std::string& token : {space, std::string("a"), std::string("b"), std::string("c")}) {
    data.tokens.push_back(token);
    data.types.push_back(TokenType::kNormal);
  }
  add_merge(data, "a", "b");
  add_merge(data, space, "a");
  add_merge(data, space, "ab");
  add_merge(data, space, space);
  return data;
}

}  // namespace attar::test
