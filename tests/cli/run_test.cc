// attar run: planning, skipping, resuming, errors. The pipeline itself runs on the built-in teacher with a few steps.
#include <gtest/gtest.h>

#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/files.h"
#include "tests/support.h"

namespace attar {
namespace {

using nlohmann::json;
using test::run_attar;

class RunTest : public testing::Test {
 protected:
  std::string recipe(const std::string& text) {
    const fs::path file = folder_ / "recipe.toml";
    write_text_file(file, text);
    return file.string();
  }
  std::string output() const { return (folder_ / "out").string(); }

  test::TempFolder folder_;
};

constexpr const char* kSmall = R"(
[run]
teacher = "builtin:teacher"
prompt = "One day"
threads = 2
[prune]
data = "builtin:calibration"
samples = 4
context = 64
layers = 2
ffn = 256
[distill]
data = "builtin:train"
steps = 3
batch = 2
context = 64
[quantize]
type = "q4_k_m"
method = "gptq"
calibration = "builtin:calibration"
samples = 4
context = 64
[eval]
data = "builtin:heldout"
context = 64
chunks = 4
layers = true
)";

TEST_F(RunTest, MakesAStudentAndKeepsWhatIsDone) {
  const std::string file = recipe(kSmall), command = "run " + file + " -o " + output() + " --json " + (folder_ / "result.json").string();
  const auto first = run_attar(command);
  ASSERT_EQ(first.code, 0) << first.output;
  EXPECT_EQ(first.output.find("bits/byte"), std::string::npos) << "all perplexities are of the same tokens";
  EXPECT_NE(first.output.find("written for llama.cpp: " + output() + "/student.gguf"), std::string::npos) << first.output;
  const json result = json::parse(read_text_file(folder_ / "result.json"));
  ASSERT_EQ(result["models"].size(), 3u);
  EXPECT_LT(result["models"][1]["parameters"], result["models"][0]["parameters"]);
  EXPECT_LT(result["models"][2]["bits_per_weight"], 7.0);
  EXPECT_FALSE(result["models"][0].contains("kl_divergence"));  // the teacher is its own reference
  EXPECT_GT(result["models"][2]["kl_divergence"], 0.0);
  EXPECT_EQ(result["models"][2]["samples"].size(), 3u);
  EXPECT_EQ(result["models"][2]["samples"][0]["prompt"], "One day");
  EXPECT_EQ(result["stages"].size(), 6u);
  const std::string page = read_text_file(output() + "/report.html");
  EXPECT_NE(first.output.find("the report: " + output() + "/report.html"), std::string::npos) << first.output;
  for (const char* section : {"Models", "Layer by layer", "share of the divergence", "Training", "Divergence position by position", "Samples", "How it was made"})
    EXPECT_NE(page.find(section), std::string::npos) << section;
  for (const char* name : {"teacher", "student", "quantized"}) {
    const json eval = json::parse(read_text_file(output() + "/eval-" + name + ".json"));
    EXPECT_NE(page.find("<data value=\"" + eval["perplexity"]["value"].dump() + "\""), std::string::npos) << name;
  }
  EXPECT_EQ(json::parse(read_text_file(output() + "/quantize.json"))["command"], "quantize");

  const auto second = run_attar(command);
  ASSERT_EQ(second.code, 0) << second.output;
  for (const char* stage : {"prune", "distill", "quantize", "eval-teacher", "eval-student", "eval-quantized"})
    EXPECT_NE(second.output.find(std::string(stage) + ": nothing changed, kept"), std::string::npos) << second.output;

  // Another type for the quantizer: what is before it stays, what is after it runs again.
  std::string changed = kSmall;
  changed.replace(changed.find("q4_k_m"), 6, "q5_k_m");
  recipe(changed);
  const auto plan = run_attar("run " + file + " -o " + output() + " --dry-run");
  EXPECT_NE(plan.output.find("done   distill"), std::string::npos) << plan.output;
  EXPECT_NE(plan.output.find("to do  quantize"), std::string::npos) << plan.output;

  // A result that was tampered with is made again.
  write_text_file(output() + "/student.gguf", "broken");
  recipe(kSmall);
  const auto repaired = run_attar("run " + file + " -o " + output() + " --dry-run");
  EXPECT_NE(repaired.output.find("done   distill"), std::string::npos) << repaired.output;
  EXPECT_NE(repaired.output.find("to do  quantize"), std::string::npos) << repaired.output;

  // What a stage says of itself belongs to it: the report needs it.
  fs::remove(output() + "/prune.json");
  EXPECT_NE(run_attar("run " + file + " -o " + output() + " --dry-run").output.find("to do  prune"), std::string::npos);
}

// The student's perplexity is one per token of its own, of which the text has more.
TEST_F(RunTest, ACutVocabularyIsComparedByBytes) {
  const std::string stages = "[prune]\ndata = \"builtin:calibration\"\nsamples = 4\ncontext = 64\nvocabulary = 600\n"
                             "[eval]\ndata = \"builtin:heldout\"\ncontext = 64\nchunks = 4\n";
  const auto run = run_attar("run " + recipe("[run]\nteacher = \"builtin:teacher\"\n" + stages) + " -o " + output());
  ASSERT_EQ(run.code, 0) << run.output;
  EXPECT_NE(run.output.find("bits/byte"), std::string::npos) << run.output;
  const json models = json::parse(read_text_file(output() + "/summary.json"))["models"];
  ASSERT_EQ(models.size(), 2u);
  EXPECT_EQ(models[0]["vocabulary"], 1024);
  EXPECT_EQ(models[1]["vocabulary"], 600);
  const json eval = json::parse(read_text_file(output() + "/eval-student.json"));
  EXPECT_EQ(models[1]["bits_per_byte"], eval["bits_per_byte"]["value"]);
  std::ostringstream digits;
  digits << std::fixed << std::setprecision(4) << eval["bits_per_byte"]["value"].get<double>();
  EXPECT_NE(run.output.find(digits.str()), std::string::npos) << run.output;
}

TEST_F(RunTest, DryRunWritesNothing) {
  const auto plan = run_attar("run " + recipe(kSmall) + " -o " + output() + " --dry-run");
  EXPECT_EQ(plan.code, 0) << plan.output;
  EXPECT_NE(plan.output.find("attar distill --student " + output() + "/pruned"), std::string::npos) << plan.output;
  EXPECT_FALSE(fs::exists(output()));
}

TEST_F(RunTest, FailedGateDecidesTheExitCode) {
  write_text_file(folder_ / "gate.toml", "[perplexity.value]\nmax = 1.0\n");
  const std::string text = "[run]\nteacher = \"builtin:teacher\"\n[eval]\ndata = \"builtin:heldout\"\ncontext = 64\nchunks = 2\ngate = \"" +
                           (folder_ / "gate.toml").string() + "\"\n";
  const auto result = run_attar("run " + recipe(text) + " -o " + output());
  EXPECT_EQ(result.code, 1) << result.output;
}

TEST_F(RunTest, AGateThatCannotDecideLeavesAReport) {
  write_text_file(folder_ / "gate.toml", "[perplexity.value]\nmax = 1000\nsignificance = 0.05\ndetect = 1e-9\n");
  const std::string text = "[run]\nteacher = \"builtin:teacher\"\n[eval]\ndata = \"builtin:heldout\"\ncontext = 64\nchunks = 2\ngate = \"" +
                           (folder_ / "gate.toml").string() + "\"\n";
  const auto result = run_attar("run " + recipe(text) + " -o " + output());
  EXPECT_EQ(result.code, 2) << result.output;
  EXPECT_HAS(read_text_file(output() + "/report.html"), "Whether the small model is good enough could not be decided");

  // A stage that fails leaves none: that of an earlier run is gone.
  std::string broken = text;
  broken.replace(broken.find("context = 64"), 12, "context = 1 ");
  EXPECT_EQ(run_attar("run " + recipe(broken) + " -o " + output()).code, 2);
  EXPECT_FALSE(fs::exists(output() + "/report.html"));
}

struct BadRecipe {
  const char* text;
  const char* message;
};

class BadRecipeTest : public RunTest, public testing::WithParamInterface<BadRecipe> {};

TEST_P(BadRecipeTest, IsNamedAndExitsWithTwo) {
  const auto result = run_attar("run " + recipe(GetParam().text) + " -o " + output());
  EXPECT_EQ(result.code, 2) << result.output;
  EXPECT_NE(result.output.find(GetParam().message), std::string::npos) << result.output;
  EXPECT_FALSE(fs::exists(output()));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadRecipeTest,
    testing::Values(BadRecipe{"[run]\nteacher = 'x'\n[distil]\n", "unknown table [distil]; did you mean 'distill'?"},
                    BadRecipe{"[run]\nteecher = 'x'\n", "recipe.toml:2: [run] teecher: unknown key; did you mean 'teacher'?"},
                    BadRecipe{"[run]\nteacher = 'x'\n[distill]\nstepz = 3\n", "[distill] stepz: unknown key; did you mean 'steps'?"},
                    BadRecipe{"[run]\nteacher = 'x'\n[distill]\nstudent = 'y'\n", "the recipe sets this itself"},
                    BadRecipe{"[run]\n[prune]\nlayers = 2\n", "teacher is missing"},
                    BadRecipe{"[run\n", "not valid TOML"},
                    BadRecipe{"[run]\nteacher = '$ATTAR_NO_SUCH_VARIABLE'\n", "ATTAR_NO_SUCH_VARIABLE is not set"},
                    BadRecipe{"[run]\nteacher = 'x'\n[eval]\nlayers = true\n", "[eval] layers: looks at the quantized model; add [quantize]"},
                    BadRecipe{"[run]\nteacher = 'x'\n[quantize]\ntype = 'q4_0'\n[eval]\nlayers = 'x'\n", "[eval] layers: expected true or false"},
                    BadRecipe{"[run]\nteacher = 'x'\n[quantize]\njson = 'x'\n", "the recipe sets this itself"},
                    BadRecipe{"[run]\nteacher = 'x'\n[eval]\ndata = { a = 1 }\n", "[eval] data: expected a text"}));

TEST(Run, MissingRecipeIsNamed) {
  const auto result = run_attar("run /no/such/recipe.toml");
  EXPECT_EQ(result.code, 2);
  EXPECT_NE(result.output.find("/no/such/recipe.toml"), std::string::npos) << result.output;
}

TEST(CommandLine, UnknownWordsGetTheNearest) {
  EXPECT_NE(run_attar("evel x").output.find("did you mean 'eval'?"), std::string::npos);
  const auto result = run_attar("eval x --contxt 3");
  EXPECT_EQ(result.code, 2);
  EXPECT_NE(result.output.find("unknown option '--contxt' for attar eval; did you mean '--context'?"), std::string::npos) << result.output;
}

TEST(CommandLine, DescribesItself) {
  const auto manual = run_attar("--print man");
  EXPECT_EQ(manual.code, 0);
  for (const char* word : {".TH ATTAR 1", ".SS attar quantize", "\\-\\-calibration", ".SH EXIT STATUS"})
    EXPECT_NE(manual.output.find(word), std::string::npos) << word;
  EXPECT_NE(run_attar("--print bash").output.find("quantize) options='"), std::string::npos);
  EXPECT_NE(run_attar("--print zsh").output.find("#compdef attar"), std::string::npos);
  EXPECT_NE(run_attar("--print fish").output.find("-l calibration"), std::string::npos);
  EXPECT_EQ(run_attar("--version").output, "attar 0.1.0\n");
}

}  // namespace
}  // namespace attar
