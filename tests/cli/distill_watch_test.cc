// What attar distill notices while it trains: the best evaluation, no more progress, a loss that jumps or is no number.
#include <algorithm>
#include <cstring>

#include "tests/cli/distill_command.h"
#include "tests/cli/interrupt.h"

namespace attar {
namespace {

using test::run_attar;

// Text that contradicts the held-out text makes the student worse at it from some step on.
class DistillWatch : public test::DistillCommand {
 protected:
  void SetUp() override {
    DistillCommand::SetUp();
    write_text_file(folder_ / "other.txt", std::string(20000, 'x') + "\n");
    test::write_tiny_folder(folder_ / "teacher", 3);
  }
  std::string worse(const std::string& more) const {
    return "distill --data " + path("other.txt") + " --student " + path("fresh") + " --heldout " + path("held.txt") +
           " --batch 4 --context 32 --threads 1 --lr 1e-2 --eval-every 5 --eval-chunks 4 " + more;
  }
  double least(const std::string& log, const char* key) const {
    double value = 1e9;
    for (const auto& line : lines(log))
      if (line["kind"] == "eval") value = std::min(value, line[key].get<double>());
    return value;
  }
};

TEST_F(DistillWatch, PatienceEndsTheRunAndKeepsTheBestWeights) {
  const auto run = run_attar(worse("--steps 500 --patience 3 -o " + path("out") + " --json " + path("r.json")));
  ASSERT_EQ(run.code, 0) << run.output;
  const auto result = json("r.json");
  EXPECT_LT(result["steps"].get<int>(), 500);
  EXPECT_EQ(result["steps"].get<int>(), result["best"]["step"].get<int>() + 15);
  EXPECT_EQ(result["best"]["cross_entropy"].get<double>(), least("out/train.jsonl", "cross_entropy"));
  EXPECT_EQ(result["last"]["output"], path("out") + "/last");
  EXPECT_NE(bytes("out/model.safetensors"), bytes("out/last/model.safetensors"));
  EXPECT_HAS(run.output, "stopping after step");
  EXPECT_HAS(run.output, "these weights are the student, the last ones lie in " + path("out") + "/last");
}

// With a teacher it is the divergence from it that decides: here the loss of the text it learns gets better all the time.
TEST_F(DistillWatch, PatienceWaitsForABetterDivergence) {
  const auto run = run_attar(worse("--teacher " + path("teacher") + " --alpha 1 --steps 500 --patience 3 -o " + path("out") + " --json " + path("r.json")));
  ASSERT_EQ(run.code, 0) << run.output;
  const auto result = json("r.json");
  EXPECT_LT(result["steps"].get<int>(), 500);
  EXPECT_EQ(result["steps"].get<int>(), result["best"]["step"].get<int>() + 15);
  EXPECT_EQ(result["best"]["kl"].get<double>(), least("out/train.jsonl", "kl"));
  EXPECT_GT(result["heldout"]["kl"].get<double>(), result["best"]["kl"].get<double>());
}

TEST_F(DistillWatch, BestAndLastWeightsAreBothKept) {
  const auto run = run_attar(worse("--steps 40 -o " + path("out") + " --json " + path("r.json")));
  ASSERT_EQ(run.code, 0) << run.output;
  const auto result = json("r.json");
  EXPECT_EQ(result["steps"], 40);
  EXPECT_LT(result["best"]["step"], 40);
  EXPECT_EQ(result["best"]["cross_entropy"].get<double>(), least("out/train.jsonl", "cross_entropy"));
  EXPECT_EQ(result["best"]["output"], path("out") + "/best");
  EXPECT_HAS(run.output, "the student has the last weights, these lie in " + path("out") + "/best");
  // The same training with endless patience has the two the other way round.
  ASSERT_EQ(run_attar(worse("--steps 40 --patience 100 -o " + path("patient"))).code, 0);
  EXPECT_EQ(bytes("out/model.safetensors"), bytes("patient/last/model.safetensors"));
  EXPECT_EQ(bytes("out/best/model.safetensors"), bytes("patient/model.safetensors"));
  EXPECT_NE(bytes("out/best/model.safetensors"), bytes("out/model.safetensors"));
  EXPECT_TRUE(exists("out/best/tokenizer.json"));
  // Without evaluations on the way there is no best one.
  std::string alone = worse("--steps 5 -o " + path("alone"));
  ASSERT_EQ(run_attar(alone.replace(alone.find("--eval-every 5"), 14, "--eval-every 0")).code, 0);
  EXPECT_FALSE(exists("alone/best"));
}

TEST_F(DistillWatch, KillsLeaveTheSameBestWeights) {
  const std::string common = worse("--steps 300 --log-every 1 --checkpoint-every 7 --resume -o ");
  ASSERT_EQ(run_attar(common + path("whole")).code, 0);
  for (const std::uintmax_t size : {4000, 20000})
    ASSERT_NE(test::interrupt(common + path("cut"), folder_ / "cut.training/train.jsonl", size, SIGKILL), 0);
  // Of weights there are those of the best evaluation, and those of the one that the state knows of if that is another.
  int best_files = 0;
  for (const auto& file : fs::directory_iterator(folder_ / "cut.training")) best_files += file.path().filename().string().starts_with("best-");
  EXPECT_GE(best_files, 1);
  EXPECT_LE(best_files, 2);
  std::string changed = common + path("cut");
  changed.replace(changed.find("held.txt"), 8, "train.txt");
  const auto other = run_attar(changed);
  EXPECT_EQ(other.code, 2);
  EXPECT_HAS(other.output, "heldout was");
  ASSERT_EQ(run_attar(common + path("cut")).code, 0);
  for (const char* file : {"/model.safetensors", "/best/model.safetensors"}) EXPECT_EQ(bytes(std::string("cut") + file), bytes(std::string("whole") + file)) << file;
}

std::vector<std::pair<std::string, int>> places(const std::vector<nlohmann::json>& log) {
  std::vector<std::pair<std::string, int>> all;
  for (const auto& line : log) all.emplace_back(line["kind"], line["step"]);
  return all;
}

// Most of the time it evaluates, so that is where it is stopped; each time this evaluation must be made up for.
TEST_F(DistillWatch, StoppedInEvaluationsItLogsEveryStepOnceAndEndsInTheSameBytes) {
  std::string common = "distill --data " + path("other.txt") + " --student " + path("fresh") + " --heldout " + path("held.txt") +
                       " --batch 1 --context 32 --threads 1 --lr 1e-2 --eval-every 1 --steps 120 --log-every 1 --resume -o ";
  ASSERT_EQ(run_attar(common + path("whole")).code, 0);
  for (const std::uintmax_t size : {3000, 9000, 15000})
    ASSERT_EQ(test::interrupt(common + path("cut"), folder_ / "cut.training/train.jsonl", size, SIGINT), 130);
  ASSERT_EQ(run_attar(common + path("cut")).code, 0);
  EXPECT_EQ(places(lines("cut/train.jsonl")), places(lines("whole/train.jsonl")));
  for (const char* file : {"/model.safetensors", "/best/model.safetensors"}) EXPECT_EQ(bytes(std::string("cut") + file), bytes(std::string("whole") + file)) << file;
}

TEST_F(DistillWatch, AnotherNumberOfThreadsIsWarnedAbout) {
  std::string command = worse("--steps 250 --log-every 1 --resume -o " + path("cut"));
  ASSERT_EQ(test::interrupt(command, folder_ / "cut.training/train.jsonl", 2000, SIGINT), 130);
  const auto run = run_attar(command.replace(command.find("--threads 1"), 11, "--threads 2"));
  EXPECT_EQ(run.code, 0) << run.output;
  EXPECT_HAS(run.output, "the training began with --threads 1 and goes on with 2");
}

// Documents of one letter, which are soon learnt, and a few others that come as a surprise.
TEST_F(DistillWatch, AJumpOfTheLossIsReported) {
  std::string text;
  for (int i = 0; i < 400; ++i) text += nlohmann::json{{"text", i % 150 == 7 ? "Q!Z?7#K@W&5(Y)J=V+3%G$N*X^1<R>0;" : std::string(32, 'x')}}.dump() + "\n";
  write_text_file(folder_ / "odd.jsonl", text);
  const auto run = run_attar("distill --student " + path("fresh") + " --data " + path("odd.jsonl") + " --packing documents --context 32 --batch 1 " +
                             "--threads 1 --lr 1e-2 --warmup 5 --steps 390 --log-every 0 -o " + path("out") + " --json " + path("r.json"));
  ASSERT_EQ(run.code, 0) << run.output;
  const int spikes = json("r.json")["loss_spikes"];
  EXPECT_GE(spikes, 1);
  EXPECT_LE(spikes, 3);
  EXPECT_HAS(run.output, "the loss jumped to");
  const auto log = lines("out/train.jsonl");  // nothing else is logged
  ASSERT_EQ(log.size(), static_cast<std::size_t>(spikes));
  for (const auto& line : log) {
    EXPECT_EQ(line["spike"], 1);
    EXPECT_GT(line["loss"].get<double>(), 2.0);
  }
}

// A norm so large that logits overflow.
TEST_F(DistillWatch, StepsThatAreNotFiniteAreReportedAndEndTheRun) {
  std::string weights = bytes("teacher/model.safetensors");
  std::uint64_t length = 0;
  std::memcpy(&length, weights.data(), sizeof length);
  const auto header = nlohmann::json::parse(weights.substr(sizeof length, length));
  const auto& place = header.at("model.norm.weight").at("data_offsets");
  const float huge = 3e38f;
  for (std::size_t at = place[0]; at < place[1].get<std::size_t>(); at += sizeof huge)
    std::memcpy(weights.data() + sizeof length + length + at, &huge, sizeof huge);
  write_text_file(folder_ / "teacher/model.safetensors", weights);
  const auto run = run_attar(with("--student " + path("teacher") + " --steps 50 --log-every 1 -o " + path("out")));
  EXPECT_EQ(run.code, 2) << run.output;
  EXPECT_HAS(run.output, "step 1: loss or gradient was not a finite number; the step is skipped");
  EXPECT_HAS(run.output, "step 9: loss or gradient was not a finite number; the step is skipped");
  EXPECT_HAS(run.output, "step 10: loss or gradient was not a finite number 10 steps in a row");
  EXPECT_FALSE(exists("out"));
  const auto log = lines("out.training/train.jsonl");
  ASSERT_EQ(log.size(), 9u);
  for (const auto& line : log) EXPECT_EQ(line["skipped"], 1);
}

// The shards that are whole when it is killed are not captured again, and all of them have the same bytes in the end, as has the student.
TEST_F(DistillWatch, ACaptureGoesOnAfterAKill) {
  write_text_file(folder_ / "train.txt", test::tiny_text(40000, 1));
  const std::string common = "distill --teacher " + path("teacher") + " --student " + path("fresh") + " --data " + path("train.txt") +
                             " --batch 128 --context 32 --threads 1 --steps 60 --log-every 0 --cache ";
  ASSERT_EQ(run_attar(common + path("cache") + " -o " + path("whole")).code, 0);
  std::vector<fs::directory_entry> shards(fs::directory_iterator(folder_ / "cache"), fs::directory_iterator{});
  ASSERT_GE(shards.size(), 2u);
  const auto first = std::min_element(shards.begin(), shards.end(), [](const auto& a, const auto& b) { return a.last_write_time() < b.last_write_time(); });
  const fs::path cut = folder_ / "cut" / first->path().filename();
  ASSERT_EQ(test::interrupt(common + path("cut") + " -o " + path("out"), cut, 0, SIGKILL), 128 + SIGKILL);
  const auto time = fs::last_write_time(cut);
  EXPECT_LT(std::distance(fs::directory_iterator(folder_ / "cut"), fs::directory_iterator{}), std::ssize(shards));
  const auto run = run_attar(common + path("cut") + " -o " + path("out") + " --resume");
  ASSERT_EQ(run.code, 0) << run.output;
  EXPECT_EQ(fs::last_write_time(cut), time);
  for (const auto& shard : shards) EXPECT_EQ(bytes("cut/" + shard.path().filename().string()), read_text_file(shard.path()));
  EXPECT_EQ(bytes("out/model.safetensors"), bytes("whole/model.safetensors"));
}

}  // namespace
}  // namespace attar
