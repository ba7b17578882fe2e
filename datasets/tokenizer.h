// Text to token ids and back, for every kind of TokenizerData.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "convert/tokenizer_data.h"

namespace attar {

using Ids = std::vector<std::int64_t>;

class Tokenizer {
 public:
  explicit Tokenizer(TokenizerData data);  // throws Error for what it cannot build
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;

  // add_special: BOS/EOS as the model would. Special and added tokens in the text are recognised. Throws Error with the
  // offset if text is not UTF-8.
  Ids encode(std::string_view text, bool add_special) const;
  // Special tokens are left out unless keep_special. Bytes that are not UTF-8 come back as they were.
  std::string decode(std::span<const std::int64_t> ids, bool keep_special = false) const;

  const TokenizerData& data() const;
  std::int64_t vocab_size() const;
  std::string hash() const;  // of everything that changes ids

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Decodes one id at a time; returns text as soon as it is whole UTF-8, and the rest at finish().
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  std::string push(std::int64_t id);
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  Ids pending_;        // see tokenizer.cc
  std::string shown_;
};

}  // namespace attar
