// Text to token ids and back, for every kind of TokenizerData.
#pragma once

#include <cstdint>
#include <filesystem>
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
  explicit Tokenizer(TokenizerData data);  // throws Error for what it cannot build or what contradicts itself
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;

  // add_special: BOS/EOS as the model would. Special and added tokens in the text are recognised. Throws Error with the
  // offset if text is not UTF-8.
  Ids encode(std::string_view text, bool add_special) const;
  // Special tokens are left out unless keep_special. Bytes that are not UTF-8 come back as they were.
  // Throws Error for an id outside the vocabulary.
  std::string decode(std::span<const std::int64_t> ids, bool keep_special = false) const;
  // The bytes that one id stands for, inside a text; maybe a part of a character.
  std::string_view bytes_of(std::int64_t id) const;
  bool is_special(std::int64_t id) const;
  bool strips_leading_space() const;  // decode() drops one space at the start, which encode() put there

  const TokenizerData& data() const;
  std::int64_t vocab_size() const;
  // Of what the tokenizer does: of the ids it gives to its own vocabulary's text, alone and joined, and to many
  // scripts. Two of equal hash tokenize alike, whatever files they came from (a folder and the GGUF made of it, padded
  // or not).
  std::string hash() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The tokenizer of a Hugging Face folder, a .gguf, a tokenizer.json or a tokenizer.model. Throws Error if there is
// none, or if it knows ids that the model beside it (config.json, GGUF) has no embedding for.
Tokenizer load_tokenizer(const std::filesystem::path& path);
// Throws Error if the tokenizer has ids that a model of vocab_size rows cannot take. subject names the model in the
// message.
void check_vocabulary(const TokenizerData& data, std::int64_t vocab_size, std::string_view subject);

// Decodes one id at a time, without special tokens; returns text as soon as it is whole UTF-8, and the rest at
// finish(). All pieces together are decode() of all ids.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  std::string push(std::int64_t id);
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  std::string pending_;  // the first bytes of a character whose last ones have not come yet
  bool at_start_ = true;
};

}  // namespace attar
