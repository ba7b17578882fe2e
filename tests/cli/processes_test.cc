// attar distill as several processes on loopback.

#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/error.h"
#include "base/files.h"
#include "tests/cli/free_port.h"
#include "tests/cli/tiny_model.h"
#include "tests/support.h"

namespace attar {
namespace {

class Processes : public testing::Test {
 protected:
  void SetUp() override {
    test::write_tiny_folder(folder_ / "teacher", 5);
    test::write_tiny_folder(folder_ / "student", 6);
    write_text_file(folder_ / "train.txt", test::tiny_text(2000, 1));
    write_text_file(folder_ / "held.txt", test::tiny_text(400, 2));
    if (run(2, arguments("probe", "--steps 1")).output.find("made without LibTorch's collectives") != std::string::npos)
      GTEST_SKIP() << "this build has no collectives";
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  std::string arguments(const std::string& out, const std::string& more, int batch = 8) const {
    return "distill --threads 1 --batch " + std::to_string(batch) + " --context 32 --lr 1e-2 --log-every 1 --eval-every 20 --eval-chunks 7 --teacher " + path("teacher") +
           " --student " + path("student") + " --data " + path("train.txt") + " --heldout " + path("held.txt") + " -o " + path(out) + " " +
           more;
  }
  static std::string program() {
    const char* given = std::getenv("ATTAR_PROGRAM");
    return given != nullptr ? given : "./attar";
  }
  // All processes at once; the exit code is that of the last that failed. kill_at: a file that, once there, ends the last process.
  test::RunResult run(int size, const std::string& arguments, const std::string& kill_at = "") const {
    const int port = test::free_port();
    std::string script = "pids=; for r in $(seq 0 " + std::to_string(size - 1) + "); do RANK=$r WORLD_SIZE=" + std::to_string(size) +
                         " MASTER_ADDR=127.0.0.1 MASTER_PORT=" + std::to_string(port) + " " + program() + " " + arguments + " 2>&1 & pids=\"$pids $!\"; last=$!; done; ";
    if (!kill_at.empty()) script += "while [ ! -e " + kill_at + " ]; do sleep 0.1; done; echo died $(date +%s); kill -9 $last; ";
    return test::run_shell(script + "code=0; for p in $pids; do wait $p || code=$?; done; exit $code");
  }
  std::vector<nlohmann::json> log(const std::string& out) const {
    std::istringstream in(read_text_file(folder_ / out / "train.jsonl"));
    std::vector<nlohmann::json> lines;
    for (std::string line; std::getline(in, line);) lines.push_back(nlohmann::json::parse(line));
    return lines;
  }
  void expect_same_curve(const std::string& a, const std::string& b, double tolerance) const {
    const auto x = log(a), y = log(b);
    ASSERT_EQ(x.size(), y.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      ASSERT_EQ(x[i]["kind"], y[i]["kind"]);
      for (const char* key : {"loss", "kl", "cross_entropy", "hidden", "attention", "gradient_norm", "same_top"}) {
        if (!x[i].contains(key)) continue;
        const double expected = x[i][key], found = y[i][key];
        EXPECT_NEAR(expected, found, tolerance * std::abs(expected)) << key << " at step " << x[i]["step"] << " with " << b;
      }
    }
  }

  // Of a run in which one process was killed.
  void expect_ended_within_a_minute(const test::RunResult& dead) const {
    const auto ended = std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
    EXPECT_NE(dead.code, 0);
    EXPECT_HAS(dead.output, "another one has ended or is silent");
    EXPECT_LT(ended - std::stoll(dead.output.substr(dead.output.find("died ") + 5)), 60);  // the time of its death
  }

  test::TempFolder folder_;
};

TEST_F(Processes, TwoAndFourAreOne) {
  for (const int size : {1, 2, 4}) {
    const std::string out = cat("p", size);
    const auto result = run(size, arguments(out, "--steps 50 --micro-batch 3"));
    ASSERT_EQ(result.code, 0) << result.output;
    EXPECT_TRUE(fs::exists(folder_ / out / "model.safetensors"));
    EXPECT_FALSE(fs::exists(folder_ / (out + ".training")));
  }
  expect_same_curve("p1", "p2", 1e-5);
  expect_same_curve("p1", "p4", 1e-5);
}

TEST_F(Processes, MatchedLayersAreThose) {  // of one process: the projection and the map are trained together too
  auto config = test::tiny_config();
  config.update({{"hidden_size", 16}, {"num_hidden_layers", 2}});
  test::write_tiny_folder(folder_ / "student", 6, config);
  for (const int size : {1, 2}) {
    const auto result = run(size, arguments(cat("m", size), "--steps 30 --micro-batch 3 --match-hidden 1 --match-attention 1 --layer-map learned"));
    ASSERT_EQ(result.code, 0) << result.output;
  }
  expect_same_curve("m1", "m2", 1e-5);
}

TEST_F(Processes, TheCacheIsFilledByAll) {
  const std::string options = "--steps 20 --cache ";
  const auto two = run(2, arguments("c2", options + path("cache")));
  ASSERT_EQ(two.code, 0) << two.output;
  // Each has written a shard of its own, and together they hold all: a run of one process asks the teacher for nothing.
  const auto shards = [&] { return std::distance(fs::directory_iterator(folder_ / "cache"), fs::directory_iterator{}); };
  EXPECT_EQ(shards(), 2);
  const auto one = run(1, arguments("c1", options + path("cache")));
  ASSERT_EQ(one.code, 0) << one.output;
  EXPECT_EQ(shards(), 2);
  expect_same_curve("c1", "c2", 1e-5);
}

TEST_F(Processes, PackedConversationsWeighWhatTheyShould) {  // the processes' chunks have different numbers of targets
  const std::string lines = "{\"text\": \"Ana sees a cat.\"}\n{\"text\": \"Ben\"}\n{\"text\": \"Cleo likes the old book, Dan finds it. \"}\n";
  write_text_file(folder_ / "train.jsonl", lines);
  for (const int size : {1, 2}) {
    const auto result = run(size, arguments(cat("q", size), "--steps 20 --packing documents --data " + path("train.jsonl") + ":0.6"));
    ASSERT_EQ(result.code, 0) << result.output;
  }
  expect_same_curve("q1", "q2", 1e-5);
}

TEST_F(Processes, TheDeathOfOneEndsAll) {
  const auto dead = run(4, arguments("dead", "--steps 100000 --checkpoint-every 5"), path("dead.training/state.safetensors"));
  expect_ended_within_a_minute(dead);
  EXPECT_HAS(dead.output, "--resume");
  ASSERT_TRUE(fs::exists(folder_ / "dead.training/state.safetensors")) << dead.output;
  const auto refused = run(2, arguments("dead", "--steps 100001 --resume"));
  EXPECT_NE(refused.code, 0);
  EXPECT_HAS(refused.output, "steps was 100000, now it is 100001");
}

TEST_F(Processes, TheDeathOfOneEndsAlsoTheTeachersPass) {
  expect_ended_within_a_minute(run(2, arguments("dead", "--steps 100000 --cache " + path("dying")), path("dying")));
}

// Ctrl-C reaches one process only; all stop after the same step, and others go on, fewer or more.
class ResumedProcesses : public Processes, public testing::WithParamInterface<std::pair<int, int>> {};

TEST_P(ResumedProcesses, AreTheSameRun) {
  const auto [before, after] = GetParam();
  ASSERT_EQ(run(1, arguments("whole", "--steps 60")).code, 0);
  const std::string script = cat("pids=; for r in $(seq 0 ", before - 1, "); do RANK=$r WORLD_SIZE=", before, " MASTER_PORT=", test::free_port(), " ", program(), " ",
                                 arguments("parts", "--steps 60"), " 2>&1 & pids=\"$pids $!\"; last=$!; done; while ! grep -q '\"step\":5,' ",
                                 path("parts.training/train.jsonl"),
                                 " 2>/dev/null; do sleep 0.05; done; kill -TERM $last; code=0; for p in $pids; do wait $p || code=$?; done; exit $code");
  const auto stopped = test::run_shell(script);
  EXPECT_EQ(stopped.code, 130) << stopped.output;
  ASSERT_TRUE(fs::exists(folder_ / "parts.training/state.safetensors")) << stopped.output;
  const auto rest = run(after, arguments("parts", "--steps 60 --resume"));
  ASSERT_EQ(rest.code, 0) << rest.output;
  EXPECT_HAS(rest.output, "going on after step");
  expect_same_curve("whole", "parts", 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Sizes, ResumedProcesses, testing::Values(std::pair(4, 2), std::pair(2, 4), std::pair(1, 2)),
                         [](const auto& sizes) { return cat(sizes.param.first, "To", sizes.param.second); });

TEST_F(Processes, MistakesAreNamed) {
  const auto small = run(2, arguments("s", "--steps 2", 1));
  EXPECT_EQ(small.code, 2);
  EXPECT_HAS(small.output, "too small for 2 processes");
  const auto different = run(2, arguments("d", "--steps 2 --seed $r"));
  EXPECT_EQ(different.code, 2);
  EXPECT_HAS(different.output, "process 1 was asked for something else than process 0");
  const auto half = test::run_shell("RANK=1 " + program() + " " + arguments("h", "--steps 2") + " 2>&1");
  EXPECT_EQ(half.code, 2);
  EXPECT_HAS(half.output, "RANK is set, but not WORLD_SIZE");
  const auto mixed = test::run_shell("for r in 0 1; do RANK=$r WORLD_SIZE=$((3 - r)) MASTER_ADDR=127.0.0.1 MASTER_PORT=" + std::to_string(test::free_port()) + " " + program() + " " +
                                     arguments("m", "--steps 2") + " 2>&1 & done; wait");
  EXPECT_HAS(mixed.output, "process 0 was started as one of 3, process 1 as one of 2; give all the same WORLD_SIZE");
  EXPECT_HAS(mixed.output, "process 1 was started as one of 2, process 0 as one of 3");
}

}  // namespace
}  // namespace attar
