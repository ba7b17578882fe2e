// Real tokenizers against what Hugging Face tokenizers and SentencePiece give.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "convert/gguf_model.h"
#include "datasets/tokenizer.h"
#include "tests/support.h"

namespace attar {
namespace {

class TokenizerGolden : public testing::TestWithParam<std::string> {
 protected:
  test::fs::path folder() const { return test::shared("tokenizers/" + GetParam()); }
};

TEST_P(TokenizerGolden, AllCases) {
  SKIP_WITHOUT(folder() / "golden.json");
  const Tokenizer tokenizer = load_tokenizer(folder());
  const auto golden = nlohmann::json::parse(read_text_file(folder() / "golden.json"));
  ASSERT_GT(golden["cases"].size(), 10u);
  for (const auto& entry : golden["cases"]) {
    const auto text = entry["text"].get<std::string>();
    const auto ids = entry["ids"].get<Ids>(), ids_special = entry["ids_special"].get<Ids>();
    EXPECT_EQ(tokenizer.encode(text, false), ids) << text;
    EXPECT_EQ(tokenizer.encode(text, true), ids_special) << text;
    // Lossless unless NFC composed something or the text spells special tokens.
    const bool composed = text.find("\u0301") != std::string::npos && tokenizer.data().nfc;
    const bool special = std::any_of(ids.begin(), ids.end(), [&](auto id) { return tokenizer.is_special(id); });
    if (composed || special) continue;
    EXPECT_EQ(tokenizer.decode(ids), text);
    EXPECT_EQ(tokenizer.decode(ids_special), text);
    StreamDecoder stream(tokenizer);
    std::string streamed;
    for (const auto id : ids_special) streamed += stream.push(id);
    EXPECT_EQ(streamed + stream.finish(), text);
  }
}

TEST_P(TokenizerGolden, WholeBooksComeBack) {
  const auto book = test::shared("data/wikitext2.test.raw");
  SKIP_WITHOUT(folder() / "golden.json");
  SKIP_WITHOUT(book);
  const Tokenizer tokenizer = load_tokenizer(folder());
  const std::string text = read_text_file(book);
  const auto start = std::chrono::steady_clock::now();
  const Ids ids = tokenizer.encode(text, false);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  RecordProperty("encode_mb_per_s", std::to_string(static_cast<double>(text.size()) / 1e6 / seconds.count()));
  std::cout << GetParam() << ": " << static_cast<double>(text.size()) / 1e6 / seconds.count() << " MB/s, " << ids.size()
            << " tokens\n";
  const std::string back = tokenizer.decode(ids, true);
  if (tokenizer.data().nfc)
    EXPECT_EQ(tokenizer.encode(back, false), ids);
  else
    EXPECT_TRUE(back == text);  // not printed: it is a book
}

TEST_P(TokenizerGolden, SameThroughGguf) {
  SKIP_WITHOUT(folder() / "golden.json");
  const TokenizerData data = read_tokenizer_data(folder());
  ModelConfig config;
  config.vocab_size = static_cast<std::int64_t>(data.size()) + 100;  // embeddings are often padded
  GgufWriter writer;
  write_gguf_tokenizer(data, config, writer);
  const test::TempFolder temporary;
  writer.write(temporary / "vocabulary.gguf");
  const Tokenizer tokenizer(read_gguf_tokenizer(GgufFile(temporary / "vocabulary.gguf")));
  EXPECT_EQ(tokenizer.vocab_size(), config.vocab_size);
  EXPECT_EQ(tokenizer.hash(), Tokenizer(data).hash());
  const auto golden = nlohmann::json::parse(read_text_file(folder() / "golden.json"));
  for (const auto& entry : golden["cases"]) {
    const auto text = entry["text"].get<std::string>();
    // A GGUF does not say whether the SentencePiece model's own <s> is read from text.
    if (text.find("<s>") != std::string::npos && data.kind == TokenizerKind::kMetaspaceBpe) continue;
    EXPECT_EQ(tokenizer.encode(text, true), entry["ids_special"].get<Ids>()) << text;
  }
}

INSTANTIATE_TEST_SUITE_P(Real, TokenizerGolden, testing::Values("llama2", "llama2_json", "llama3_2", "qwen2_5", "gpt2"),
                         [](const auto& name) { return name.param; });

}  // namespace
}  // namespace attar
