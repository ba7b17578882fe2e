#include "convert/json.h"
#include "convert/tokenizer_parts.h"
#include "datasets/tokenizer.h"
#include "fuzz/input.h"

// The first byte chooses the reader: tokenizer.json, tokenizer.json with a tokenizer_config.json after a NUL,
// tokenizer.model.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  return attar::fuzz::expect_only_errors([&] {
    const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
    attar::TokenizerData tokenizer;
    if (data[0] % 3 == 2) {
      tokenizer = attar::parse_sentencepiece(text, "fuzz");
    } else {
      const std::size_t end = data[0] % 3 == 1 ? text.find('\0') : std::string_view::npos;
      tokenizer = attar::parse_tokenizer_json(text.substr(0, end), "fuzz");
      if (end != std::string_view::npos)
        attar::apply_tokenizer_config(attar::parse_json(text.substr(end + 1), "config"), "config", tokenizer);
    }
    const attar::Tokenizer working(std::move(tokenizer));
    const std::string sample = "ab abc <|end|> 12 \xc3\xa9\n  x";
    working.decode(working.encode(sample, true), true);
  });
}
