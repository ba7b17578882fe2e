#include "convert/tokenizer_data.h"

#include "convert/checkpoint.h"
#include "convert/json.h"
#include "tests/convert/bytes.h"
#include "tests/convert/synthetic.h"

namespace attar {
namespace {

using nlohmann::json;

json small_json() {
  return {{"version", "1.0"},
          {"added_tokens", {{{"id", 4}, {"content", "<|end|>"}, {"special", true}}}},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
          {"model", {{"type", "BPE"}, {"vocab", {{"a", 0}, {"b", 1}, {"ab", 2}, {"c", 3}}}, {"merges", {"a b"}}}}};
}

class TokenizerFiles : public ::testing::Test {
 protected:
  TokenizerData read(const json& file, const json& config = nullptr) {
    test::put(folder_ / "tokenizer.json", file.dump());
    fs::remove(folder_ / "tokenizer_config.json");
    if (!config.is_null()) test::put(folder_ / "tokenizer_config.json", config.dump());
    return read_tokenizer_data(folder_.path());
  }
  std::string error(const json& file, const json& config = nullptr) {
    return test::error_of([&] { read(file, config); });
  }
  void says(const std::string& message, const std::string& part) {
    EXPECT_NE(message.find(part), std::string::npos) << "said: '" << message << "', expected: '" << part << "'";
  }
  test::TempFolder folder_;
};

TEST_F(TokenizerFiles, ByteLevelBpe) {
  const TokenizerData data =
      read(small_json(), {{"eos_token", "<|end|>"}, {"bos_token", {{"content", "<|end|>"}}}, {"chat_template", "x"}});
  EXPECT_EQ(data.kind, TokenizerKind::kByteBpe);
  EXPECT_EQ(data.tokens, (std::vector<std::string>{"a", "b", "ab", "c", "<|end|>"}));
  EXPECT_EQ(data.types[4], TokenType::kControl);
  EXPECT_EQ(data.merges, (std::vector<std::pair<std::string, std::string>>{{"a", "b"}}));
  EXPECT_EQ(data.pre, "gpt-2");
  EXPECT_EQ(data.eos_id, 4);
  EXPECT_EQ(data.bos_id, 4);
  EXPECT_FALSE(data.add_bos);
  EXPECT_EQ(data.chat_template, "x");
}

TEST_F(TokenizerFiles, TemplateSaysWhatStandsBefore) {
  json file = small_json();
  file["post_processor"] = {{"type", "TemplateProcessing"},
                            {"single", {{{"SpecialToken", {{"id", "<|end|>"}}}}, {{"Sequence", {{"id", "A"}}}}}}};
  EXPECT_TRUE(read(file).add_bos);
  EXPECT_EQ(read(file).bos_id, 4);
  EXPECT_FALSE(read(file).add_eos);
  EXPECT_FALSE(read(file, {{"add_bos_token", false}}).add_bos);
}

TEST_F(TokenizerFiles, HolesAreFilled) {
  json file = small_json();
  file["model"]["vocab"]["c"] = 6;
  file["added_tokens"][0]["id"] = 8;
  const TokenizerData data = read(file);
  ASSERT_EQ(data.size(), 9u);
  EXPECT_EQ(data.tokens[3], "[PAD3]");
  EXPECT_EQ(data.types[7], TokenType::kUnused);
  EXPECT_EQ(data.tokens[8], "<|end|>");
}

TEST_F(TokenizerFiles, NamesWhatIsWrong) {
  json file = small_json();
  file["model"]["type"] = "WordPiece";
  says(error(file), "'WordPiece' is not supported");
  file = small_json();
  file["model"]["vocab"]["c"] = 1;
  says(error(file), "two tokens have the id 1");
  file["model"]["vocab"]["c"] = std::int64_t{1} << 40;
  says(error(file), "is not within the 4 tokens");
  file["model"]["vocab"]["c"] = -1;
  says(error(file), "is not within the 4 tokens");
  file["model"]["vocab"]["c"] = "x";
  says(error(file), "is not within the 4 tokens");
  file["model"]["vocab"] = json::object();
  says(error(file), "holds 0 tokens");
  file.erase("model");
  says(error(file), "the key 'model' is missing");
  file = small_json();
  file["model"]["merges"] = {"ab"};
  says(error(file), "merge 0 must be two tokens");
  file["model"]["merges"] = 7;
  says(error(file), "'merges' must be a list");
  file = small_json();
  file["added_tokens"][0]["id"] = 4'000'000;
  says(error(file), "has the id 4000000");
  file = small_json();
  file["normalizer"] = {{"type", "Lowercase"}};
  says(error(file), "normalizer 'Lowercase' is not supported");
  file["normalizer"] = {{"type", "Sequence"},
                        {"normalizers", {{{"type", "Sequence"}, {"normalizers", json::array()}}}}};
  says(error(file), "Sequence within a Sequence");
  file = small_json();
  file["pre_tokenizer"] = {{"type", "BertPreTokenizer"}};
  says(error(file), "pre-tokenizer 'BertPreTokenizer' is not supported");
  says(error(small_json(), {{"added_tokens_decoder", {{"x", {{"content", "y"}}}}}}), "'x' is not a token id");
  test::put(folder_ / "tokenizer.json", "{");
  says(test::error_of([&] { read_tokenizer_data(folder_.path()); }), "not valid JSON");
  says(test::error_of([&] { read_tokenizer_data(folder_ / "absent"); }), "does not exist");
  test::TempFolder model;
  test::put(model / "tokenizer.model", "no protocol buffer");
  says(test::error_of([&] { read_tokenizer_data(model / "tokenizer.model"); }), "not a SentencePiece model");
}

TEST_F(TokenizerFiles, ConstructedFilesReadBack) {
  const TokenizerData made = test::byte_bpe_tokenizer();
  write_tokenizer_files(made, folder_.path());
  const TokenizerData back = read_tokenizer_data(folder_.path());
  EXPECT_EQ(back.tokens, made.tokens);
  EXPECT_EQ(back.types, made.types);
  EXPECT_EQ(back.merges, made.merges);
  EXPECT_EQ(back.split_regexes, made.split_regexes);
  EXPECT_EQ(back.pre, "qwen2");
  EXPECT_EQ(back.eos_id, made.eos_id);
  EXPECT_EQ(back.added.size(), made.added.size());
  EXPECT_EQ(back.chat_template, made.chat_template);
  EXPECT_EQ(back.add_bos, made.add_bos);
}

TEST_F(TokenizerFiles, ConstructedSentencePieceReadsBack) {
  const TokenizerData made = test::sentencepiece_tokenizer();
  write_tokenizer_files(made, folder_.path());
  const TokenizerData back = read_tokenizer_data(folder_.path());
  EXPECT_EQ(back.kind, TokenizerKind::kSentencePiece);
  EXPECT_EQ(back.tokens, made.tokens);
  EXPECT_EQ(back.scores, made.scores);
  EXPECT_EQ(back.types, made.types);
  EXPECT_EQ(back.bos_id, 1);
  EXPECT_TRUE(back.byte_fallback && back.add_prefix_space && back.add_bos && !back.remove_extra_spaces &&
              !back.unigram);
}

TEST_F(TokenizerFiles, ByteBpeThroughGguf) {
  Checkpoint made = test::make_checkpoint(test::base_config("qwen2", {{"vocab_size", 12}, {"eos_token_id", {7, 8}}}));
  made.tokenizer = test::byte_bpe_tokenizer();
  write_gguf(made, folder_ / "m.gguf");
  const Checkpoint back = open_checkpoint(folder_ / "m.gguf");
  EXPECT_EQ(back.tokenizer.kind, TokenizerKind::kByteBpe);
  EXPECT_EQ(back.tokenizer.size(), 12u);
  EXPECT_EQ(back.tokenizer.tokens[11], "[PAD11]");
  EXPECT_EQ(back.tokenizer.types[11], TokenType::kUnused);
  EXPECT_EQ(back.tokenizer.merges, made.tokenizer.merges);
  EXPECT_EQ(back.tokenizer.pre, "qwen2");
  EXPECT_EQ(back.tokenizer.split_regexes, made.tokenizer.split_regexes);
  EXPECT_TRUE(back.tokenizer.nfc);
  EXPECT_EQ(back.tokenizer.added.size(), 2u);
  EXPECT_EQ(back.tokenizer.chat_template, made.tokenizer.chat_template);
  EXPECT_EQ(back.config.eos_ids, (std::vector<std::int64_t>{7, 8}));
  made.tokenizer.split_regexes = {"[a-z]+"};
  EXPECT_ERROR(write_gguf(made, folder_ / "n.gguf"), "GGUF has no name for (tokenizer.ggml.pre): [a-z]+");
  EXPECT_FALSE(fs::exists(folder_ / "n.gguf"));
}

TEST_F(TokenizerFiles, UserDefinedPiecesKeepTheirSpaces) {
  Checkpoint made = test::make_checkpoint(test::base_config("llama"));
  made.tokenizer.charsmap = std::string("\0\xff map", 6);
  made.tokenizer.tokens.push_back("\xe2\x96\x81\xe2\x96\x81");
  made.tokenizer.scores.push_back(0);
  made.tokenizer.types.push_back(TokenType::kUserDefined);
  write_gguf(made, folder_ / "m.gguf");
  const TokenizerData back = open_checkpoint(folder_ / "m.gguf").tokenizer;
  EXPECT_EQ(back.tokens[264], made.tokenizer.tokens[264]);
  EXPECT_EQ(back.charsmap, made.tokenizer.charsmap);
}

TEST(RealTokenizers, AreReadWhole) {
  SKIP_WITHOUT(test::shared("tokenizers"));
  const auto read = [](const char* name) { return read_tokenizer_data(test::shared("tokenizers") / name); };
  const TokenizerData llama3 = read("llama3_2"), qwen = read("qwen2_5"), gpt2 = read("gpt2"), llama2 = read("llama2"),
                      metaspace = read("llama2_json");
  EXPECT_EQ(llama3.size(), 128256u);
  EXPECT_EQ(llama3.pre, "llama-bpe");
  EXPECT_TRUE(llama3.add_bos && llama3.ignore_merges);
  EXPECT_EQ(llama3.bos_id, 128000);
  EXPECT_EQ(llama3.merges.size(), 280147u);
  EXPECT_EQ(qwen.size(), 151665u);
  EXPECT_EQ(qwen.pre, "qwen2");
  EXPECT_TRUE(qwen.nfc && !qwen.add_bos);
  EXPECT_EQ(gpt2.size(), 50257u);
  EXPECT_EQ(gpt2.pre, "gpt-2");
  EXPECT_EQ(llama2.size(), 32000u);
  EXPECT_EQ(llama2.kind, TokenizerKind::kSentencePiece);
  EXPECT_TRUE(llama2.byte_fallback && llama2.add_prefix_space && !llama2.unigram);
  EXPECT_EQ(metaspace.kind, TokenizerKind::kMetaspaceBpe);
  EXPECT_EQ(metaspace.types[0], TokenType::kUnknown);
  EXPECT_EQ(metaspace.types[3], TokenType::kByte);
}

// The scores that stand for merges order the pieces as SentencePiece's own scores do.
TEST(RealTokenizers, MetaspaceBpeBecomesScores) {
  SKIP_WITHOUT(test::shared("tokenizers/llama2_json"));
  const test::TempFolder folder;
  Checkpoint made = test::make_checkpoint(test::base_config("llama", {{"vocab_size", 32000}}));
  made.tokenizer = read_tokenizer_data(test::shared("tokenizers/llama2_json"));
  write_gguf(made, folder / "m.gguf");
  const TokenizerData back = open_checkpoint(folder / "m.gguf").tokenizer,
                      real = read_tokenizer_data(test::shared("tokenizers/llama2"));
  EXPECT_EQ(back.kind, TokenizerKind::kSentencePiece);
  EXPECT_EQ(back.tokens, real.tokens);
  std::vector<std::size_t> merged;
  for (std::size_t i = 0; i < back.size(); ++i)
    if (back.scores[i] > -static_cast<float>(made.tokenizer.merges.size()) && real.types[i] == TokenType::kNormal)
      merged.push_back(i);
  EXPECT_GT(merged.size(), 29000u);
  for (std::size_t i = 1; i < merged.size(); ++i)
    ASSERT_EQ(back.scores[merged[i]] < back.scores[merged[i - 1]], real.scores[merged[i]] < real.scores[merged[i - 1]])
        << merged[i];
}

}  // namespace
}  // namespace attar
