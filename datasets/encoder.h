// Turns text without special tokens into ids: one encoder per kind of tokenizer.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "convert/tokenizer_data.h"
#include "datasets/bpe.h"

namespace attar {

using Ids = std::vector<std::int64_t>;

class Encoder {
 public:
  virtual ~Encoder() = default;
  // What added tokens with `normalized` are matched against, and encode() takes.
  virtual std::string normalize(std::string_view text) const = 0;
  // Appends the ids. text: normalised, not empty, free of added tokens; first: the whole text starts with it.
  virtual void encode(std::string_view text, bool first, Ids& ids) const = 0;
  // What a token's text would be encoded as if the vocabulary did not have it: for BPE the two that its last merge joins. Empty
  // for one that has no parts: a byte, a character, a token that is not text.
  virtual std::vector<TokenId> parts(TokenId id) const = 0;
};

// Throws Error for kNone and for data that contradicts itself. The encoder keeps views into data.
std::unique_ptr<Encoder> make_encoder(const TokenizerData& data);

std::unique_ptr<Encoder> make_byte_encoder(const TokenizerData& data);
std::unique_ptr<Encoder> make_metaspace_encoder(const TokenizerData& data);
std::unique_ptr<Encoder> make_sentencepiece_encoder(const TokenizerData& data);

}  // namespace attar
