// Ctrl-C and kill -9 in the middle of every long command: exit code 130, nothing that looks whole, and a recipe goes on.
#include <gtest/gtest.h>

#include "base/files.h"
#include "tests/cli/interrupt.h"

namespace attar {
namespace {

// Runs the program with `arguments` and sends SIGINT after two seconds. Returns the exit code.
int cut_short(const std::string& arguments) {
  const char* program = std::getenv("ATTAR_PROGRAM");
  const std::string command = std::string("timeout --preserve-status -s INT 2 ") +
                              (program != nullptr ? program : "./attar") + " " + arguments + " >/dev/null 2>&1";
  const int status = std::system(command.c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

struct LongCommand {
  const char* name;
  const char* arguments;  // TEXT: much text; OUT: the output
};

class Interrupted : public ::testing::TestWithParam<LongCommand> {
 protected:
  std::string filled_in() {
    std::string text;
    for (int i = 0; i < 500'000; ++i) text += "Anna gave " + std::to_string(i) + " red buns to the old fox" + (i % 20 == 19 ? ".\n\n" : ". ");
    write_text_file(folder_ / "text.txt", text);
    std::string arguments = GetParam().arguments;
    for (const auto& [word, value] : {std::pair<std::string, fs::path>{"TEXT", folder_ / "text.txt"}, {"OUT", folder_ / "out"}})
      while (arguments.find(word) != std::string::npos) arguments.replace(arguments.find(word), word.size(), value.string());
    return arguments;
  }
  test::TempFolder folder_;
};

TEST_P(Interrupted, ExitsWith130AndLeavesNothing) {
  EXPECT_EQ(cut_short(filled_in()), 130);
  EXPECT_FALSE(fs::exists(folder_ / "out"));
  EXPECT_FALSE(fs::exists(folder_ / "out.gguf"));
}

INSTANTIATE_TEST_SUITE_P(
    Commands, Interrupted,
    ::testing::Values(
        LongCommand{"prune", "prune builtin:teacher --data TEXT --samples 8000 --context 512 --ffn 256 -o OUT"},
        LongCommand{"prune_search", "prune builtin:teacher --data builtin:calibration --samples 4 --target-params 50% --retrain 100000000 -o OUT"},
        LongCommand{"tokenizing", "quantize builtin:teacher -o OUT.gguf --type q4_0 --calibration TEXT"},
        LongCommand{"gptq", "quantize builtin:teacher -o OUT.gguf --type q4_0 --calibration builtin:calibration --samples 0"},
        LongCommand{"tune", "quantize builtin:teacher -o OUT.gguf --type q4_0 --method rtn+tune --tune-steps 100000 --calibration builtin:calibration"},
        LongCommand{"eval", "eval builtin:teacher --data TEXT --context 128 --json OUT"}),
    [](const ::testing::TestParamInfo<LongCommand>& tested) { return tested.param.name; });

// Killed in the middle of its training, a recipe keeps the stages that were done and takes the training up again.
TEST(KilledRecipe, GoesOnWhereItWas) {
  const test::TempFolder folder;
  const std::string recipe = (folder / "recipe.toml").string(), out = (folder / "out").string();
  write_text_file(recipe, R"(
[run]
teacher = "builtin:teacher"
threads = 2
[prune]
data = "builtin:calibration"
samples = 2
context = 64
ffn = 256
[distill]
data = "builtin:train"
steps = 30
batch = 4
context = 64
checkpoint-every = 1
)");
  const fs::path state = fs::path(out) / "student.training/state.safetensors";
  ASSERT_EQ(test::interrupt("run " + recipe + " -o " + out, state, 0, SIGKILL), 128 + SIGKILL) << "it was over before it could be killed";
  ASSERT_TRUE(fs::exists(state));
  ASSERT_FALSE(fs::exists(out + "/student"));
  const auto rest = test::run_attar("run " + recipe + " -o " + out);
  ASSERT_EQ(rest.code, 0) << rest.output;
  EXPECT_NE(rest.output.find("prune: nothing changed, kept"), std::string::npos) << rest.output;
  EXPECT_NE(rest.output.find("going on after step"), std::string::npos) << rest.output;
  EXPECT_TRUE(fs::exists(out + "/student/model.safetensors"));
}

}  // namespace
}  // namespace attar
