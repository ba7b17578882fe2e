#include "base/files.h"
#include "base/text.h"
#include "tests/cli/random_model.h"
#include "tests/support.h"

namespace attar {
namespace {

class GenerateCommand : public testing::Test {
 protected:
  void SetUp() override { write_hf(test::random_model(), folder_ / "model"); }
  test::RunResult run(const std::string& more, const std::string& model = "model") {
    return test::run_attar("generate " + (folder_ / model).string() + " " + more, "2>/dev/null");
  }
  nlohmann::json json() { return nlohmann::json::parse(read_text_file(folder_ / "r.json")); }
  std::string json_option() { return " --json " + (folder_ / "r.json").string(); }
  test::TempFolder folder_;
};

TEST_F(GenerateCommand, ContinuesThePromptAndRepeatsItself) {
  const test::RunResult first = run("--prompt 'Once upon' --max-tokens 12" + json_option());
  ASSERT_EQ(first.code, 0) << first.output;
  EXPECT_TRUE(first.output.starts_with("Once upon")) << first.output;
  EXPECT_TRUE(first.output.ends_with("\n")) << first.output;
  EXPECT_EQ(json()["ids"].size(), 12u);
  const test::RunResult ids = run("--prompt 'Once upon' --max-tokens 12 --ids");
  EXPECT_EQ(nlohmann::json::parse(ids.output), json()["ids"]);
  EXPECT_EQ(run("--prompt 'Once upon' --max-tokens 12").output, first.output);
}

TEST_F(GenerateCommand, SeedDecidesAtATemperature) {
  const std::string options = "--prompt a --ids --max-tokens 16 --temperature 1 --top-k 50 --top-p 0.95 --seed ";
  const test::RunResult first = run(options + "3");
  ASSERT_EQ(first.code, 0) << first.output;
  EXPECT_TRUE(nlohmann::json::parse(first.output).is_array());
  EXPECT_EQ(run(options + "3").output, first.output);
  EXPECT_NE(run(options + "4").output, first.output);
}

TEST_F(GenerateCommand, ReadsThePromptFromAFileAndStops) {
  write_text_file(folder_ / "prompt.txt", "Once upon");
  const std::string prompt = "--prompt-file " + (folder_ / "prompt.txt").string() + " --max-tokens 20 ";
  ASSERT_EQ(run(prompt + json_option()).code, 0);
  const std::string whole = json()["text"];
  std::size_t at = 0;  // some printable character of the answer
  while (at < whole.size() && (whole[at] <= ' ' || whole[at] == '\'' || whole[at] == '-' || whole[at] >= 0x7f)) ++at;
  ASSERT_LT(at, whole.size()) << "the random model wrote nothing printable";
  ASSERT_EQ(run(prompt + "--stop 'never in there' --stop '" + whole[at] + "'" + json_option()).code, 0);
  EXPECT_EQ(json()["text"], whole.substr(0, at));
  EXPECT_EQ(json()["stopped_by"], "stop");
}

TEST_F(GenerateCommand, RunsQuantizedModelsThroughTheKernels) {
  GgufOptions options;
  write_gguf(test::random_model(Type::kQ8_0), folder_ / "model.gguf", options);
  const test::RunResult kernels = run("--prompt Once --max-tokens 8 --ids", "model.gguf");
  ASSERT_EQ(kernels.code, 0) << kernels.output;
  EXPECT_EQ(nlohmann::json::parse(kernels.output).size(), 8u);
  EXPECT_EQ(run("--prompt Once --max-tokens 8 --ids --float", "model.gguf").code, 0);
  EXPECT_EQ(run("--prompt Once --max-tokens 8 --ids --kv-cache f16", "model.gguf").output, kernels.output);
  EXPECT_EQ(run("--prompt Once --max-tokens 8 --float --kv-cache f16", "model.gguf").code, 2);
}

TEST_F(GenerateCommand, RefusesWhatItCannotDo) {
  for (const char* options : {"", "--prompt a --prompt-file b", "--prompt a --temperature -1", "--prompt a --top-p 0",
                              "--prompt-file /missing/file", "--prompt a --device tpu", "--prompt a --kv-cache q8_0",
                              "--batch builtin:train -o /tmp/none.jsonl --kv-cache q8_0"}) {
    EXPECT_EQ(run(options).code, 2) << options;
  }
}

TEST(GenerateShared, AStoryFromARealModel) {
  const fs::path model = test::shared("models/stories15M");
  SKIP_WITHOUT(model);
  const test::RunResult result =
      test::run_attar("generate " + model.string() + " --prompt 'Once upon a time' --max-tokens 40", "2>/dev/null");
  ASSERT_EQ(result.code, 0) << result.output;
  EXPECT_TRUE(result.output.starts_with("Once upon a time, there was a")) << result.output;
  EXPECT_FALSE(find_invalid_utf8(result.output));
  const test::RunResult dog = test::run_attar("generate " + model.string() + " --prompt 'There was a dog' --max-tokens 3", "2>/dev/null");
  EXPECT_TRUE(dog.output.starts_with("There was a dog named Max")) << dog.output;
}

}  // namespace
}  // namespace attar
