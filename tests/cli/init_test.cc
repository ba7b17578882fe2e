#include <cmath>

#include "base/files.h"
#include "convert/checkpoint.h"
#include "tests/cli/random_model.h"
#include "tests/support.h"

namespace attar {
namespace {

using test::run_attar;

class Init : public ::testing::Test {
 protected:
  Init() {
    nlohmann::json config = test::random_model().config.hf;
    config["vocab_size"] = 300;
    write_text_file(folder_ / "config.json", config.dump());
    write_hf(test::random_model(), folder_ / "other");
  }
  test::RunResult init(const std::string& name, const std::string& more) {
    return run_attar("init --config " + (folder_ / "config.json").string() + " -o " + (folder_ / name).string() + " " + more);
  }
  std::string other() const { return "--tokenizer " + (folder_ / "other").string(); }
  test::TempFolder folder_;
};

TEST_F(Init, TrainsATokenizerAndLeavesWeightsToTheTrainer) {
  const test::RunResult result = init("student", "");
  ASSERT_EQ(result.code, 0) << result.output;
  EXPECT_EQ(read_tokenizer_data(folder_ / "student").size(), 300u);
  EXPECT_FALSE(fs::exists(folder_ / "student" / "model.safetensors"));
}

TEST_F(Init, RandomWeightsOfItsSeed) {
  ASSERT_EQ(init("a", other() + " --weights bf16 --seed 3").code, 0);
  ASSERT_EQ(init("b", other() + " --weights bf16 --seed 3").code, 0);
  ASSERT_EQ(init("c", other() + " --weights bf16 --seed 4").code, 0);
  const Checkpoint a = open_checkpoint(folder_ / "a");
  EXPECT_EQ(a.tokenizer.tokens, test::byte_tokenizer_data().tokens);
  EXPECT_EQ(checkpoint_hash(a), checkpoint_hash(open_checkpoint(folder_ / "b")));
  EXPECT_NE(checkpoint_hash(a), checkpoint_hash(open_checkpoint(folder_ / "c")));
  const Tensor& matrix = a.at("model.layers.0.self_attn.q_proj.weight");
  EXPECT_EQ(matrix.type, Type::kBF16);
  double squares = 0;
  const std::vector<float> values = read_floats(matrix);
  for (const float value : values) squares += value * value;
  EXPECT_NEAR(std::sqrt(squares / static_cast<double>(values.size())), 0.02, 0.002);
}

TEST_F(Init, BadInputIsTwoAndLeavesNothing) {
  const auto refused = [&](const std::string& more, const char* part) {
    const test::RunResult result = init("bad", more);
    EXPECT_EQ(result.code, 2);
    EXPECT_HAS(result.output, part);
    EXPECT_FALSE(fs::exists(folder_ / "bad"));
  };
  refused(other() + " --weights q4_0", "'q4_0' is not a plain type");
  refused("--tokenizer " + folder_.path().string(), "no tokenizer.json");
  nlohmann::json config = nlohmann::json::parse(read_text_file(folder_ / "config.json"));
  config["vocab_size"] = 200;
  write_text_file(folder_ / "config.json", config.dump());
  refused(other(), "257 tokens, but");
}

}  // namespace
}  // namespace attar
