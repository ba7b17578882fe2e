#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support.h"

namespace attar {
namespace {

using nlohmann::json;
using test::run_attar;

std::string write(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
  return path.string();
}

// Lower-case letters, space (Ġ), é's two bytes and the merge he; <s> goes first.
std::string small_tokenizer_json() {
  json vocab = json::object();
  for (char c = 'a'; c <= 'z'; ++c) vocab[std::string(1, c)] = c - 'a';
  vocab["Ġ"] = 26;
  vocab["Ã"] = 27;  // 0xc3
  vocab["©"] = 28;  // 0xa9
  vocab["he"] = 29;
  const json bos = {{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}},
             body = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  return json{{"version", "1.0"},
              {"added_tokens",
               {{{"id", 30},
                 {"content", "<s>"},
                 {"single_word", false},
                 {"lstrip", false},
                 {"rstrip", false},
                 {"normalized", false},
                 {"special", true}}}},
              {"normalizer", nullptr},
              {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
              {"post_processor",
               {{"type", "TemplateProcessing"},
                {"single", json::array({bos, body})},
                {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {30}}, {"tokens", {"<s>"}}}}}}}},
              {"decoder", {{"type", "ByteLevel"}}},
              {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", {"h e"}}}}}
      .dump();
}

class TokenizeCommand : public testing::Test {
 protected:
  test::TempFolder folder_;
  std::string tokenizer_ = write(folder_ / "tokenizer.json", small_tokenizer_json());
  std::string text_ = write(folder_ / "text.txt", "he<s> cé");

  std::string stdout_of(const std::string& arguments) {
    return run_attar("tokenize " + arguments, "2>/dev/null").output;
  }
  void expect_error(const std::string& arguments, const std::string& part) {
    const auto result = run_attar("tokenize " + arguments);
    EXPECT_EQ(result.code, 2) << result.output;
    EXPECT_NE(result.output.find(part), std::string::npos) << result.output;
    EXPECT_EQ(stdout_of(arguments), "");
  }
};

TEST_F(TokenizeCommand, PrintsOneArray) {
  EXPECT_EQ(stdout_of(tokenizer_ + " --file " + text_), "[29, 30, 26, 2, 27, 28]\n");
  EXPECT_EQ(stdout_of(tokenizer_ + " --ids --file " + text_), "[29, 30, 26, 2, 27, 28]\n");
  EXPECT_EQ(stdout_of(folder_.path().string() + " --special --file " + text_), "[30, 29, 30, 26, 2, 27, 28]\n");
  EXPECT_EQ(stdout_of(tokenizer_ + " --file - < " + text_), "[29, 30, 26, 2, 27, 28]\n");
  EXPECT_EQ(stdout_of(tokenizer_ + " --file /dev/null"), "[]\n");
}

TEST_F(TokenizeCommand, DecodesWhatItPrinted) {
  const auto ids = write(folder_ / "ids.json", "[30, 29, 30, 26, 2, 27, 28]");
  EXPECT_EQ(stdout_of(tokenizer_ + " --decode --file " + ids), "he cé");
  EXPECT_EQ(stdout_of(tokenizer_ + " --decode --special --file " + ids), "<s>he<s> cé");
}

TEST_F(TokenizeCommand, Result) {
  const auto out = folder_ / "result.json";
  ASSERT_EQ(run_attar("tokenize " + tokenizer_ + " --file " + text_ + " --json " + out.string()).code, 0);
  std::ifstream file(out);
  const json result = json::parse(file);
  EXPECT_EQ(result["command"], "tokenize");
  EXPECT_EQ(result["tokens"], 6);
  EXPECT_EQ(result["vocabulary"], 31);
}

TEST_F(TokenizeCommand, BadInput) {
  expect_error(tokenizer_ + " --file " + write(folder_ / "latin.txt", "ca\xe9"), "byte 2");
  expect_error(tokenizer_ + " --file " + write(folder_ / "upper.txt", "A"), "byte 65");
  expect_error(tokenizer_ + " --file " + (folder_ / "none.txt").string(), "none.txt");
  expect_error((folder_ / "none").string() + " --file " + text_, "does not exist");
  expect_error(tokenizer_ + " --decode --file " + write(folder_ / "a.json", "[1, 31]"), "id 31");
  expect_error(tokenizer_ + " --decode --file " + write(folder_ / "b.json", "[1, -1]"), "id -1");
  expect_error(tokenizer_ + " --decode --file " + write(folder_ / "c.json", "[1, \"a\"]"), "entry 1");
  expect_error(tokenizer_ + " --decode --file " + write(folder_ / "d.json", "{}"), "array");
  expect_error(tokenizer_ + " --decode --file " + write(folder_ / "e.json", "[18446744073709551615]"), "entry 0");
  expect_error(tokenizer_ + " --file " + text_ + " --specail", "--special");
}

TEST_F(TokenizeCommand, TokenizerThatIsNotTheModels) {
  write(folder_ / "config.json", R"({"model_type": "llama", "vocab_size": 30})");
  expect_error(folder_.path().string() + " --file " + text_, "not this model's");
  const test::TempFolder empty;
  expect_error(empty.path().string() + " --file " + text_, "no tokenizer");
}

TEST_F(TokenizeCommand, RealModelFolderAndItsTokenizerAlone) {
  const auto model = test::shared("models/stories15M");
  SKIP_WITHOUT(model);
  const auto text = write(folder_ / "once.txt", "Once upon a time");
  EXPECT_EQ(stdout_of(model.string() + " --special --file " + text), "[1, 9038, 2501, 263, 931]\n");
  EXPECT_EQ(stdout_of((model / "tokenizer.model").string() + " --file " + text), "[9038, 2501, 263, 931]\n");
}

}  // namespace
}  // namespace attar
