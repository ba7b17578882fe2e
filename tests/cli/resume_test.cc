// Quantizing with calibration text, stopped in the middle: by kill -9, by Ctrl-C, by a full disk. What is finished stays, and --resume
// ends with the bytes of a run that was never stopped.
#include <gtest/gtest.h>

#include <map>

#include "base/files.h"
#include "base/text.h"
#include "tests/cli/interrupt.h"

namespace attar {
namespace {

class Resume : public ::testing::Test {
 protected:
  // Long enough to be stopped after the first layer. change: {from, to}.
  std::string command(const std::string& options = "", std::pair<std::string, std::string> change = {}) const {
    std::string text = "quantize builtin:teacher -o " + (folder_ / "out.gguf").string() +
                       " --type q4_0 --calibration builtin:calibration --samples 96 --context 256 --damp 0.1 --seed 0 " + options;
    if (!change.first.empty()) text.replace(text.find(change.first), change.first.size(), change.second);
    return text;
  }
  int stop(int signal) const { return test::interrupt(command(), part(0), 0, signal); }
  fs::path part(int layer) const { return work_ / ("layer-" + std::to_string(layer) + ".part"); }
  void expect_refused(const std::string& options, const std::string& message, std::pair<std::string, std::string> change = {}) const {
    const test::RunResult result = test::run_attar(command(options, std::move(change)));
    EXPECT_EQ(result.code, 2) << result.output;
    EXPECT_NE(result.output.find(message), std::string::npos) << result.output;
    EXPECT_TRUE(fs::exists(part(0)));
    EXPECT_FALSE(fs::exists(folder_ / "out.gguf"));
  }
  void expect_the_same_bytes(const std::string& options) const {
    const test::RunResult rest = test::run_attar(command(options)), whole = test::run_attar(command("", {"out.gguf", "whole.gguf"}));
    ASSERT_EQ(rest.code, 0) << rest.output;
    ASSERT_EQ(whole.code, 0) << whole.output;
    EXPECT_EQ(read_text_file(folder_ / "out.gguf"), read_text_file(folder_ / "whole.gguf"));
    EXPECT_FALSE(fs::exists(work_));
  }
  test::TempFolder folder_;
  fs::path work_ = folder_ / "out.gguf.quantizing";
};

TEST_F(Resume, AfterAKillTheBytesAreTheSame) {
  ASSERT_EQ(stop(SIGKILL), 128 + SIGKILL) << "it was over before it could be killed";
  ASSERT_FALSE(fs::exists(folder_ / "out.gguf"));
  expect_refused("", "add --resume to go on with it, or remove the folder");
  expect_refused("--resume", "is of another run: --damp was 0.1, now it is 0.2; ask for the same, or remove the folder", {"0.1", "0.2"});
  expect_refused("--resume", "is of another run: --type was \"q4_0\", now it is \"q5_0\"", {"q4_0", "q5_0"});
  expect_refused("--resume", "is of another run: --seed was 0, now it is 5", {"--seed 0", "--seed 5"});
  expect_refused("--resume", "is of another run: the calibration text was", {"builtin:calibration", "builtin:train"});
  expect_the_same_bytes("--resume --threads 1");
}

TEST_F(Resume, AfterCtrlCItSaysHow) {
  EXPECT_EQ(stop(SIGINT), 130);
  ASSERT_TRUE(fs::exists(part(0)));
  const std::string whole = read_text_file(part(0));
  write_text_file(part(0), whole.substr(0, whole.size() / 2));
  expect_refused("--resume", "layer-0.part is damaged; remove the folder to start again");
  write_text_file(part(0), whole);
  expect_the_same_bytes("--resume");
}

TEST_F(Resume, AfterAFullDiskItGoesOn) {
  // Room for the hidden states, but not for all of the output.
  const char* program = std::getenv("ATTAR_PROGRAM");
  const std::string attar = program != nullptr ? program : "./attar";
  const std::pair<std::string, std::string> small = {"--type q4_0 --calibration builtin:calibration --samples 96",
                                                     "--type q8_0 --method gptq --calibration builtin:calibration --samples 1"};
  const test::RunResult full = test::run_shell("(trap '' XFSZ; ulimit -f 4096; " + attar + " " + command("", small) + ") 2>&1");
  EXPECT_EQ(full.code, 2) << full.output;
  EXPECT_NE(full.output.find("the same command with --resume goes on"), std::string::npos) << full.output;
  EXPECT_FALSE(fs::exists(folder_ / "out.gguf"));
  const test::RunResult rest = test::run_attar(command("--resume", small));
  EXPECT_EQ(rest.code, 0) << rest.output;
  EXPECT_TRUE(fs::exists(folder_ / "out.gguf"));
  EXPECT_FALSE(fs::exists(work_));
}

TEST_F(Resume, ATrialOfATargetDivergenceGoesOn) {
  const auto command = [&](const std::string& name, const std::string& options) {
    return "quantize builtin:teacher -o " + (folder_ / name).string() + " --target-kld 0.05 --types q4_0,q5_0,q8_0 --method gptq --calibration " +
           "builtin:calibration --samples 64 --context 128 --sensitivities " + (folder_ / "s.json").string() + " " + options;
  };
  const fs::path trying = folder_ / "out.gguf.trying";
  ASSERT_EQ(test::interrupt(command("out.gguf", ""), trying / "trial-1" / "layer-0.part", 0, SIGKILL), 128 + SIGKILL) << "it was over before";
  const test::RunResult again = test::run_attar(command("out.gguf", "")), rest = test::run_attar(command("out.gguf", "--resume --threads 1")),
                        whole = test::run_attar(command("whole.gguf", ""));
  EXPECT_EQ(again.code, 2) << again.output;
  ASSERT_EQ(rest.code, 0) << rest.output;
  ASSERT_EQ(whole.code, 0) << whole.output;
  EXPECT_EQ(read_text_file(folder_ / "out.gguf"), read_text_file(folder_ / "whole.gguf"));
  EXPECT_FALSE(fs::exists(trying));
}

TEST_F(Resume, AFolderOfATargetSizeGoesOn) {
  const auto command = [&](const std::string& name, const std::string& options) {
    return "quantize builtin:teacher -o " + (folder_ / name).string() + " --target-size 1.4MB --runtime mlx --method gptq --calibration " +
           "builtin:calibration --samples 96 --context 256 --sensitivities " + (folder_ / "s.json").string() + " " + options;
  };
  const fs::path kept = folder_ / "out.quantizing";
  ASSERT_EQ(test::interrupt(command("out", ""), kept / "layer-0.part", 0, SIGKILL), 128 + SIGKILL) << "it was over before";
  EXPECT_FALSE(fs::exists(folder_ / "out"));
  const test::RunResult other = test::run_attar(command("out", "--resume --damp 0.2"));
  EXPECT_EQ(other.code, 2);
  EXPECT_HAS(other.output, "is of another run: --damp was 0.1, now it is 0.2");
  const test::RunResult rest = test::run_attar(command("out", "--resume --threads 1")), whole = test::run_attar(command("whole", ""));
  ASSERT_EQ(rest.code, 0) << rest.output;
  ASSERT_EQ(whole.code, 0) << whole.output;
  for (const char* file : {"model.safetensors", "config.json"})
    EXPECT_EQ(read_text_file(folder_ / "out" / file), read_text_file(folder_ / "whole" / file)) << file;
  EXPECT_FALSE(fs::exists(kept));
}

// What goes before and after the layers: awq's scales, learned rotations, fisher's gradients, tune's steps.
TEST_F(Resume, EveryMethodGoesOn) {
  struct Stop {
    const char *options, *file;
    int signal;
  };
  std::map<std::string, std::string> wholes;  // by the options
  for (const auto& [options, file, signal] : {Stop{"--method awq+rtn", ".quantizing.awq/scales-0.part", SIGKILL},
                                              {"--method rotate+rtn", ".quantizing.rotate/rotations.part", SIGKILL},
                                              {"--method fisher+gptq", ".quantizing/output-metric-1.part", SIGKILL},
                                              {"--method rtn+tune --tune-steps 60", ".quantizing.tune/reached.part", SIGKILL},
                                              {"--method rtn+tune --tune-steps 60", ".quantizing.tune/reached.part", SIGINT}}) {
    SCOPED_TRACE(options);
    fs::remove(folder_ / "out.gguf");
    const fs::path kept = folder_ / cat("out.gguf", file);
    ASSERT_EQ(test::interrupt(command(options), kept, 0, signal), signal == SIGINT ? 130 : 128 + signal) << "it was over before it could be stopped";
    ASSERT_FALSE(fs::exists(folder_ / "out.gguf"));
    const test::RunResult again = test::run_attar(command(options)), rest = test::run_attar(command(cat("--resume --threads 1 ", options)));
    EXPECT_EQ(again.code, 2) << again.output;
    EXPECT_HAS(again.output, "add --resume");
    ASSERT_EQ(rest.code, 0) << rest.output;
    std::string& whole = wholes[options];
    if (whole.empty()) {
      const test::RunResult once = test::run_attar(command(options, {"out.gguf", "whole.gguf"}));
      ASSERT_EQ(once.code, 0) << once.output;
      whole = read_text_file(folder_ / "whole.gguf");
    }
    EXPECT_EQ(read_text_file(folder_ / "out.gguf"), whole);
    EXPECT_FALSE(fs::exists(kept.parent_path()));
  }
}

TEST_F(Resume, MemoryIsReportedAndLimited) {
  const std::string json = (folder_ / "r.json").string();
  const test::RunResult small = test::run_attar(command("--max-memory 100MB"));
  EXPECT_EQ(small.code, 2);
  EXPECT_NE(small.output.find("--max-memory allows 100.00 MB, calibrating this model may take"), std::string::npos) << small.output;
  const test::RunResult tuned = test::run_attar(command("--method rtn+tune --max-memory 550MB --threads 1"));
  EXPECT_EQ(tuned.code, 2);
  EXPECT_NE(tuned.output.find("--max-memory allows 550.00 MB, tuning this model may take"), std::string::npos) << tuned.output;
  for (const auto& [change, step] : {std::pair("--target-size 1MB --calibration builtin:calibration", "choosing types may take"),
                                     {"--type q4_0 --calibration self", "text written by the model itself may take"}}) {
    const test::RunResult whole = test::run_attar(command("--max-memory 300MB", {"--type q4_0 --calibration builtin:calibration", change}));
    EXPECT_EQ(whole.code, 2);
    EXPECT_HAS(whole.output, step);
  }
  EXPECT_FALSE(fs::exists(work_));
  const test::RunResult enough = test::run_attar(command("--max-memory 1GB --json " + json, {"--samples 96", "--samples 4"}));
  ASSERT_EQ(enough.code, 0) << enough.output;
  const std::string text = read_text_file(json), key = "\"peak_memory\": ";
  ASSERT_NE(text.find(key), std::string::npos) << text;
  const double peak = std::stod(text.substr(text.find(key) + key.size()));
  EXPECT_LT(peak, 1e9);
  EXPECT_GT(peak, 1e7);
}

}  // namespace
}  // namespace attar
