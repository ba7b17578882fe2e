// attar prune as a user meets it.
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "convert/checkpoint.h"
#include "tests/cli/tiny_model.h"
#include "tests/support.h"

namespace attar {
namespace {

using test::run_attar;

class PruneCommand : public ::testing::Test {
 protected:
  void SetUp() override {
    test::write_tiny_folder(folder_ / "teacher", 3);
    write_text_file(folder_ / "text.txt", test::tiny_text(400, 1));
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  test::RunResult prune(const std::string& more) const {
    return run_attar("prune " + path("teacher") + " -o " + path("student") + " --data " + path("text.txt") +
                     " --context 32 --samples 8 " + more);
  }
  test::TempFolder folder_;
};

TEST_F(PruneCommand, CutsToTheGivenSizes) {
  const auto run = prune("--layers 2 --ffn 32 --heads 2 --hidden 16 --json " + path("r.json"));
  ASSERT_EQ(run.code, 0) << run.output;
  EXPECT_NE(run.output.find("layers 3 -> 2, hidden 32 -> 16, ffn 64 -> 32, heads 4 -> 2"), std::string::npos) << run.output;
  const Checkpoint student = open_checkpoint(folder_ / "student");
  EXPECT_EQ(student.config.layers, 2);
  EXPECT_EQ(student.config.hidden_size, 16);
  EXPECT_EQ(student.config.intermediate_size, 32);
  EXPECT_EQ(student.config.heads, 2);
  EXPECT_EQ(student.config.kv_heads, 2);
  EXPECT_EQ(student.config.head_dim, 8);
  EXPECT_EQ(student.tokenizer.tokens, open_checkpoint(folder_ / "teacher").tokenizer.tokens);
  const auto result = nlohmann::json::parse(read_text_file(folder_ / "r.json"));
  EXPECT_EQ(result["parameters"], student.parameter_count());
  EXPECT_EQ(result["block_influence"].size(), 3u);
}

TEST_F(PruneCommand, CuttingNothingKeepsTheBytes) {
  ASSERT_EQ(prune("").code, 0);
  EXPECT_EQ(read_text_file(folder_ / "student/model.safetensors"), read_text_file(folder_ / "teacher/model.safetensors"));
}

TEST_F(PruneCommand, FindsAShapeForATarget) {
  const auto run = prune("--target-params 60% --json " + path("r.json"));
  ASSERT_EQ(run.code, 0) << run.output;
  const auto result = nlohmann::json::parse(read_text_file(folder_ / "r.json"));
  EXPECT_LE(result["share"].get<double>(), 0.6);
}

TEST_F(PruneCommand, RefusesWhatCannotBeDone) {
  const auto refused = [&](const std::string& arguments, const std::string& expected) {
    const auto run = prune(arguments);
    EXPECT_EQ(run.code, 2) << arguments << "\n" << run.output;
    EXPECT_NE(run.output.find(expected), std::string::npos) << arguments << "\n" << run.output;
    EXPECT_FALSE(fs::exists(folder_ / "student"));
  };
  refused("--layers 9", "the teacher has 3");
  refused("--heads 3", "multiple of 2");
  refused("--keep-layers 0,7", "from 0 to 2");
  refused("--layers 1 --keep-layers 0,1", "contradict");
  refused("--target-params plenty", "neither a number");
  refused("--target-params 10", "the smallest has");
  refused("--target-params 200%", "more than the teacher has");
  refused("--fnn 32", "did you mean '--ffn'");
  refused("--dtype q4_0", "f32, f16, bf16");
}

}  // namespace
}  // namespace attar
