// A search of attar prune that is killed and goes on.
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "tests/cli/interrupt.h"
#include "tests/cli/tiny_model.h"
#include "tests/support.h"

namespace attar {
namespace {

using test::run_attar;

// vocabulary: whether tokens are cut as well, for which teacher and text are made anew for each size.
class PruneResume : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    nlohmann::json config = test::word_config(true);
    config.update({{"hidden_size", 64}, {"intermediate_size", 128}, {"num_hidden_layers", 6}, {"num_attention_heads", 8}});
    test::write_tiny_folder(folder_ / "teacher", 3, config, test::word_tokenizer());
    write_text_file(folder_ / "text.txt", test::tiny_text(2000, 1));
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  std::string command(const std::string& out, const std::string& more = "") const {
    return "prune " + path("teacher") + " -o " + path(out) + " --data " + path("text.txt") + " --context 32 --samples 8 --batch 4 --threads 1 " +
           "--retrain 20000 --retrain-lr 3e-3 --candidates 4 --target-params 60% " + (GetParam() ? "--vocabulary auto " : "") + "--json " + path(out + ".json") + " " + more;
  }
  nlohmann::json json(const std::string& name) const { return nlohmann::json::parse(read_text_file(folder_ / name)); }
  test::TempFolder folder_;
};

TEST_P(PruneResume, KilledAgainAndAgainItEndsInTheSameBytes) {
  const auto whole = run_attar(command("whole"));
  ASSERT_EQ(whole.code, 0) << whole.output;
  EXPECT_FALSE(fs::exists(folder_ / "whole.pruning"));
  ASSERT_EQ(test::interrupt(command("cut"), folder_ / "cut.pruning/candidate-1.part", 0, SIGKILL), 128 + SIGKILL);

  const auto again = run_attar(command("cut"));
  EXPECT_EQ(again.code, 2);
  EXPECT_HAS(again.output, "add --resume to go on with it");
  const auto other = run_attar(command("cut", "--resume --seed 7"));
  EXPECT_EQ(other.code, 2);
  EXPECT_HAS(other.output, "seed was 0, now it is 7");
  EXPECT_FALSE(fs::exists(folder_ / "cut"));

  ASSERT_EQ(test::interrupt(command("cut", "--resume"), folder_ / "cut.pruning/candidate-3.part", 0, SIGINT), 130);
  const auto rest = run_attar(command("cut", "--resume"));
  ASSERT_EQ(rest.code, 0) << rest.output;
  EXPECT_HAS(rest.output, "3 candidates were finished before and are not retrained");
  EXPECT_EQ(read_text_file(folder_ / "cut/model.safetensors"), read_text_file(folder_ / "whole/model.safetensors"));
  EXPECT_EQ(json("cut.json")["search"], json("whole.json")["search"]);
  EXPECT_FALSE(fs::exists(folder_ / "cut.pruning"));
}

TEST_P(PruneResume, OtherThreadsAreWarnedAbout) {
  ASSERT_EQ(test::interrupt(command("cut"), folder_ / "cut.pruning/candidate-3.part", 0, SIGINT), 130);
  std::string other = command("cut", "--resume");
  other.replace(other.find("--threads 1"), 11, "--threads 2");
  const auto rest = run_attar(other);
  ASSERT_EQ(rest.code, 0) << rest.output;
  EXPECT_HAS(rest.output, "the search began with --threads 1 and goes on with 2");
}

INSTANTIATE_TEST_SUITE_P(Vocabulary, PruneResume, ::testing::Bool(), [](const auto& each) { return each.param ? "Cut" : "Whole"; });

}  // namespace
}  // namespace attar
