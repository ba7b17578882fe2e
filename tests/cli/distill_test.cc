// attar distill as a user meets it.

#include <algorithm>
#include <cstdlib>

#include "base/files.h"
#include "base/random.h"
#include "convert/checkpoint.h"
#include "tests/cli/distill_command.h"
#include "tests/cli/interrupt.h"

namespace attar {
namespace {

using test::run_attar;

using test::DistillCommand;

TEST_F(DistillCommand, TeacherFromTextThenStudentFromTeacher) {
  auto run = run_attar(with("--student " + path("fresh") + " --heldout " + path("held.txt") + " -o " + path("teacher") +
                            " --steps 60 --lr 1e-2 --warmup 5 --log-every 20 --eval-every 30 --json " + path("a.json")));
  ASSERT_EQ(run.code, 0) << run.output;
  const auto first = nlohmann::json::parse(read_text_file(folder_ / "a.json"));
  EXPECT_EQ(first["command"], "distill");
  EXPECT_LT(first["heldout"]["perplexity"].get<double>(), 20.0);  // of 256 bytes
  EXPECT_TRUE(exists("teacher/config.json"));
  EXPECT_TRUE(exists("teacher/tokenizer.json"));
  EXPECT_TRUE(exists("teacher/events.out.tfevents.attar"));
  EXPECT_FALSE(exists("teacher.training"));
  const auto log = lines("teacher/train.jsonl");
  ASSERT_EQ(log.size(), 6u);  // evaluations at 0, 30, 60; reports at 20, 40, 60
  EXPECT_EQ(log[0]["kind"], "eval");
  EXPECT_EQ(log[0]["step"], 0);
  EXPECT_LT(log.back()["cross_entropy"].get<double>(), log[0]["cross_entropy"].get<double>());
  EXPECT_NO_THROW(open_checkpoint(folder_ / "teacher"));

  run = run_attar(with("--teacher " + path("teacher") + " --student " + path("fresh") + " --heldout " + path("held.txt") +
                       " -o " + path("student") + " --steps 60 --lr 1e-2 --warmup 5 --temperature 2 --alpha 0.2 --seed 7 " +
                       "--dtype bf16 --json " + path("b.json")));
  ASSERT_EQ(run.code, 0) << run.output;
  const auto second = nlohmann::json::parse(read_text_file(folder_ / "b.json"));
  EXPECT_LT(second["heldout"]["kl"].get<double>(), 0.5);
  EXPECT_EQ(open_checkpoint(folder_ / "student").tensors.front().type, Type::kBF16);
}

TEST_F(DistillCommand, SameSeedSameBytes) {
  const std::string common = "--student " + path("fresh") + " --steps 5 -o ";
  for (const char* name : {"a", "b"}) ASSERT_EQ(run_attar(with(common + path(name))).code, 0);
  ASSERT_EQ(run_attar(with(common + path("c") + " --seed 1")).code, 0);
  const auto a = read_text_file(folder_ / "a/model.safetensors");
  EXPECT_EQ(a, read_text_file(folder_ / "b/model.safetensors"));
  EXPECT_NE(a, read_text_file(folder_ / "c/model.safetensors"));
}

constexpr std::uintmax_t kSomeSteps = 2000;  // bytes of log, about ten lines

class InterruptedDistill : public DistillCommand, public ::testing::WithParamInterface<int> {};

TEST_P(InterruptedDistill, ResumesToTheSameBytes) {
  const std::string common = "--student " + path("fresh") + " --steps 400 --log-every 1 --checkpoint-every 5 -o ";
  ASSERT_EQ(run_attar(with(common + path("whole"))).code, 0);
  const int code = test::interrupt(with(common + path("cut")), folder_ / "cut.training/train.jsonl", kSomeSteps, GetParam());
  ASSERT_NE(code, 0) << "the run was over before it could be interrupted";
  if (GetParam() == SIGINT) {
    EXPECT_EQ(code, 130);
  }
  EXPECT_FALSE(exists("cut")) << "an interrupted run looks finished";
  ASSERT_TRUE(exists("cut.training/state.safetensors"));

  const auto again = run_attar(with(common + path("cut")));
  EXPECT_EQ(again.code, 2);
  EXPECT_NE(again.output.find("--resume"), std::string::npos) << again.output;
  const auto other = run_attar(with(common + path("cut") + " --resume --lr 0.5"));
  EXPECT_EQ(other.code, 2);
  EXPECT_NE(other.output.find("lr was"), std::string::npos) << other.output;

  const auto resumed = run_attar(with(common + path("cut") + " --resume"));
  ASSERT_EQ(resumed.code, 0) << resumed.output;
  EXPECT_NE(resumed.output.find("going on after step"), std::string::npos) << resumed.output;
  EXPECT_EQ(read_text_file(folder_ / "cut/model.safetensors"), read_text_file(folder_ / "whole/model.safetensors"));
  const auto log = lines("cut/train.jsonl");
  ASSERT_EQ(log.size(), 400u);
  for (std::size_t i = 0; i < log.size(); ++i) EXPECT_EQ(log[i]["step"], i + 1);
  EXPECT_FALSE(exists("cut.training"));
}
// Without any periodic checkpoint the signal itself must save the state.
TEST_F(DistillCommand, InterruptAloneKeepsTheState) {
  const std::string arguments = with("--student " + path("fresh") + " --steps 4000 --log-every 1 --checkpoint-every 0 -o " + path("cut"));
  EXPECT_EQ(test::interrupt(arguments, folder_ / "cut.training/train.jsonl", kSomeSteps, SIGINT), 130);
  EXPECT_TRUE(exists("cut.training/state.safetensors"));
  EXPECT_FALSE(exists("cut"));
}

INSTANTIATE_TEST_SUITE_P(Signals, InterruptedDistill, ::testing::Values(SIGINT, SIGKILL));

// Killed again and again, wherever it is: in a step, while it evaluates, while it saves.
TEST_F(DistillCommand, FiveKillsLeaveTheSameBytes) {
  test::write_tiny_folder(folder_ / "teacher", 3);
  const std::string common = "--teacher " + path("teacher") + " --student " + path("fresh") + " --heldout " + path("held.txt") +
                             " --steps 300 --log-every 1 --eval-every 7 --eval-chunks 4 --checkpoint-every 3 --ema 0.9 --loss jsd "
                             "--schedule linear --patience 100 --resume -o ";
  ASSERT_EQ(run_attar(with(common + path("whole"))).code, 0);
  Random random(5);
  int killed = 0;
  for (std::uintmax_t bytes = 0; killed < 5; ++killed) {
    bytes += 2000 + random.below(6000);
    ASSERT_NE(test::interrupt(with(common + path("cut")), folder_ / "cut.training/train.jsonl", bytes, SIGKILL), 0) << "over before kill " << killed;
  }
  const auto resumed = run_attar(with(common + path("cut")));
  ASSERT_EQ(resumed.code, 0) << resumed.output;
  for (const char* file : {"model.safetensors", "last/model.safetensors"})
    EXPECT_EQ(read_text_file(folder_ / "cut" / file), read_text_file(folder_ / "whole" / file)) << file;
}

// A limit on the size of files makes writing fail as a full disk does.
TEST_F(DistillCommand, AFullDiskKeepsTheCheckpointBefore) {
  const std::string common = "--student " + path("fresh") + " --steps 60 --log-every 0 --checkpoint-every 10 -o ";
  ASSERT_EQ(run_attar(with(common + path("whole"))).code, 0);
  // The first checkpoint is written, then the run is killed.
  ASSERT_NE(test::interrupt(with(common + path("cut")), folder_ / "cut.training/state.safetensors", 1, SIGKILL), 0);
  const std::string before = read_text_file(folder_ / "cut.training/state.safetensors");
  const char* program = std::getenv("ATTAR_PROGRAM");
  const std::string limited = "trap \"\" XFSZ; ulimit -f 64; exec " + std::string(program != nullptr ? program : "./attar") + " " + with(common + path("cut") + " --resume");
  const int status = std::system(("bash -c '" + limited + "' >" + path("log") + " 2>&1").c_str());
  EXPECT_EQ(WEXITSTATUS(status), 2) << read_text_file(folder_ / "log");
  EXPECT_EQ(read_text_file(folder_ / "cut.training/state.safetensors"), before);
  ASSERT_EQ(run_attar(with(common + path("cut") + " --resume")).code, 0);
  EXPECT_EQ(read_text_file(folder_ / "cut/model.safetensors"), read_text_file(folder_ / "whole/model.safetensors"));
}

TEST_F(DistillCommand, CheckpointedActivationsGiveTheSameBytes) {
  const std::string common = "--student " + path("fresh") + " --steps 5 -o ";
  ASSERT_EQ(run_attar(with(common + path("a"))).code, 0);
  ASSERT_EQ(run_attar(with(common + path("b") + " --checkpoint-activations")).code, 0);
  EXPECT_EQ(read_text_file(folder_ / "a/model.safetensors"), read_text_file(folder_ / "b/model.safetensors"));
}

TEST_F(DistillCommand, CacheIsFilledOnceThenReadAndGuarded) {
  test::write_tiny_folder(folder_ / "teacher", 3);
  const std::string common = "--teacher " + path("teacher") + " --student " + path("fresh") + " --heldout " + path("held.txt") +
                             " --eval-chunks 4 --steps 20 --lr 1e-2 --cache " + path("cache") + " -o ";
  const auto first = run_attar(with(common + path("a") + " --json " + path("a.json")));
  ASSERT_EQ(first.code, 0) << first.output;
  const auto result = nlohmann::json::parse(read_text_file(folder_ / "a.json"));
  EXPECT_GT(result["cache"]["tokens"].get<int>(), 20 * 32);
  const auto shards = [&] {
    std::vector<fs::path> files(fs::directory_iterator(folder_ / "cache"), fs::directory_iterator{});
    return files;
  };
  ASSERT_EQ(shards().size(), 1u);
  ASSERT_EQ(run_attar(with(common + path("b"))).code, 0);
  EXPECT_EQ(shards().size(), 1u);  // nothing was missing
  EXPECT_EQ(read_text_file(folder_ / "a/model.safetensors"), read_text_file(folder_ / "b/model.safetensors"));
  ASSERT_EQ(run_attar(with(common + path("c") + " --temperature 2")).code, 0);
  EXPECT_EQ(shards().size(), 2u);  // another distribution, in the same folder

  const auto skewed = run_attar(with(common + path("d") + " --loss tvd"));
  EXPECT_EQ(skewed.code, 2);
  EXPECT_NE(skewed.output.find("only forward_kl"), std::string::npos) << skewed.output;
  // One bit of one weight.
  std::string weights = read_text_file(folder_ / "teacher/model.safetensors");
  weights[weights.size() - 4] ^= 1;
  write_text_file(folder_ / "teacher/model.safetensors", weights);
  const auto other = run_attar(with(common + path("e")));
  EXPECT_EQ(other.code, 2);
  EXPECT_NE(other.output.find("another teacher"), std::string::npos) << other.output;
  EXPECT_FALSE(exists("e"));
}

// What is trained along is logged and resumed like the student, and is no part of it.
TEST_F(DistillCommand, MatchedLayersAreLoggedAndResumedToTheSameBytes) {
  test::write_tiny_folder(folder_ / "teacher", 3);
  auto config = test::tiny_config();
  config.update({{"hidden_size", 16}, {"num_hidden_layers", 2}, {"num_attention_heads", 2}, {"num_key_value_heads", 1}});
  test::write_tiny_folder(folder_ / "small", 4, config);
  const std::string common = "--teacher " + path("teacher") + " --student " + path("small") + " --lr 1e-2 --steps 60 --log-every 1 " +
                             "--checkpoint-every 3 --hidden-measure mse --match-attention 2 --layer-map learned --resume --match-hidden ";
  ASSERT_EQ(run_attar(with(common + "0.5 -o " + path("whole") + " --json " + path("r.json"))).code, 0);
  for (const std::uintmax_t bytes : {2000, 6000})
    ASSERT_NE(test::interrupt(with(common + "0.5 -o " + path("cut")), folder_ / "cut.training/train.jsonl", bytes, SIGKILL), 0);
  const auto other = run_attar(with(common + "1 -o " + path("cut")));
  EXPECT_EQ(other.code, 2);
  EXPECT_NE(other.output.find("match-hidden was 0.5, now it is 1"), std::string::npos) << other.output;
  const auto resumed = run_attar(with(common + "0.5 -o " + path("cut") + " --checkpoint-activations"));
  ASSERT_EQ(resumed.code, 0) << resumed.output;
  EXPECT_EQ(read_text_file(folder_ / "cut/model.safetensors"), read_text_file(folder_ / "whole/model.safetensors"));
  for (const auto& line : lines("whole/train.jsonl")) {
    const double hidden = line["hidden"], attention = line["attention"], kl = line["kl"], loss = line["loss"];
    EXPECT_NEAR(loss, kl + 0.5 * hidden + 2 * attention, 1e-9 * loss);
  }
  const auto result = nlohmann::json::parse(read_text_file(folder_ / "r.json"));
  ASSERT_EQ(result["layer_map"].size(), 6u);
  EXPECT_EQ(result["layer_map"][5]["student"], 1);
  EXPECT_EQ(result["layer_map"][5]["teacher"], 2);
  for (const auto& tensor : open_checkpoint(folder_ / "whole").tensors) EXPECT_EQ(tensor.name.find("matching"), std::string::npos);
}

// One text of many megabytes takes no more memory than a short one, but for the file's own pages.
TEST_F(DistillCommand, MemoryDoesNotGrowWithATextWithoutBlankLines) {
  constexpr std::size_t kMegabyte = 1'000'000;
  std::vector<std::size_t> peaks;
  for (const std::size_t megabytes : {2, 40}) {
    std::string text;
    while (text.size() < megabytes * kMegabyte) text += test::tiny_text(2000, text.size());
    std::replace(text.begin(), text.end(), '\n', ' ');
    write_text_file(folder_ / "long.txt", text);
    const auto run = run_attar("distill --data " + path("long.txt") + " --student " + path("fresh") + " --batch 4 --context 32 --threads 1 --steps 2 --warmup 1 -o " + path("out") +
                               " --heldout " + path("long.txt") + " --eval-chunks 4 --json " + path("r.json"));
    ASSERT_EQ(run.code, 0) << run.output;
    peaks.push_back(json("r.json")["peak_memory"]);
  }
  EXPECT_LT(peaks[1], peaks[0] + 60 * kMegabyte);
}

// 2048 tokens of 32000 logits are 262 MB, for the student, its gradient and the teacher each; none of them exists whole, live or from a cache.
TEST_F(DistillCommand, MemoryDoesNotGrowWithTheLogitsOfABatch) {
  auto config = test::tiny_config();
  config["vocab_size"] = 32000;  // padding
  for (const char* model : {"teacher", "student"}) test::write_tiny_folder(folder_ / model, 3, config);
  for (const std::string& cache : {std::string(), " --cache " + path("cache")}) {
    std::vector<std::size_t> peaks;
    for (const char* batch : {"1", "32"}) {
      const auto run = run_attar("distill --teacher " + path("teacher") + " --student " + path("student") + " --data " + path("train.txt") + " --context 64 --threads 1 --steps 1 --batch " + batch +
                                 " -o " + path("out") + " --json " + path("r.json") + cache);
      ASSERT_EQ(run.code, 0) << run.output;
      peaks.push_back(json("r.json")["peak_memory"]);
    }
    constexpr std::size_t kWhole = 2048ull * 32000 * sizeof(float);
    EXPECT_LT(peaks[1], peaks[0] + kWhole / 2) << cache;
  }
}

struct BadCase {
  const char* name;
  std::string arguments;  // @NAME is a path in the test's folder
  std::string expected;
};
class BadDistill : public DistillCommand, public ::testing::WithParamInterface<BadCase> {};

TEST_P(BadDistill, IsRefusedAndLeavesNothing) {
  // A student with another tokenizer, and sources and folders that cannot be used.
  test::write_tiny_folder(folder_ / "teacher", 3);
  auto other = test::byte_tokenizer();
  std::swap(other["model"]["vocab"]["a"], other["model"]["vocab"]["b"]);
  test::write_tiny_folder(folder_ / "swapped");
  write_text_file(folder_ / "swapped/tokenizer.json", other.dump());
  fs::create_directories(folder_ / "nothing");
  fs::create_directories(folder_ / "precious");
  write_text_file(folder_ / "precious/thesis.txt", "ten years of work");
  write_text_file(folder_ / "short.txt", "Too short.");
  write_text_file(folder_ / "latin1.txt", "caf\xe9 caf\xe9");
  write_text_file(folder_ / "bad.jsonl", "{\"text\": \"a\"}\n{\"txt\": \"b\"}\n");

  std::string arguments = GetParam().arguments;
  for (std::size_t at; (at = arguments.find('@')) != std::string::npos;)
    arguments.replace(at, 1, folder_.path().string() + "/");
  const auto run = run_attar("distill " + arguments);
  EXPECT_EQ(run.code, 2) << run.output;
  EXPECT_NE(run.output.find(GetParam().expected), std::string::npos) << run.output;
  EXPECT_FALSE(exists("out"));
  EXPECT_EQ(read_text_file(folder_ / "precious/thesis.txt"), "ten years of work");
}

const std::string kGood = "--student @fresh --data @train.txt -o @out --steps 2 --batch 2 --context 32 ";
INSTANTIATE_TEST_SUITE_P(
    Inputs, BadDistill,
    ::testing::Values(
        BadCase{"UnknownOption", kGood + "--temprature 2", "did you mean '--temperature'"},
        BadCase{"NoStudent", "--data @train.txt -o @out", "--student"},
        BadCase{"MissingStudent", "--student @none --data @train.txt -o @out", "none"},
        BadCase{"EmptyStudent", "--student @nothing --data @train.txt -o @out", "nothing"},
        BadCase{"OtherTokenizer", "--teacher @teacher --student @swapped --data @train.txt -o @out --context 32",
                "token 97 is 'b' for the student and 'a' for the teacher"},
        BadCase{"LongContext", "--student @fresh --data @train.txt -o @out --context 65", "can see only 64 tokens"},
        BadCase{"ShortText", "--student @fresh --data @short.txt -o @out --context 32", "tokens"},
        BadCase{"ShortHeldout", kGood + "--heldout @short.txt", "tokens"},
        BadCase{"NotUtf8", "--student @fresh --data @latin1.txt -o @out --context 32", "UTF-8"},
        BadCase{"BadJsonl", "--student @fresh --data @bad.jsonl -o @out --context 32", "line 2"},
        BadCase{"MissingData", "--student @fresh --data @none.txt -o @out --context 32", "none.txt"},
        BadCase{"UnknownSplit", "--student @fresh --data builtin:tests -o @out --context 32", "tests"},
        BadCase{"Unwritable", "--student @fresh --data @train.txt -o /proc/out --context 32", "/proc/out"},
        BadCase{"NotAModelFolder", "--student @fresh --data @train.txt -o @precious --context 32", "something else"},
        BadCase{"OverTheTeacher", "--teacher @teacher --student @fresh --data @train.txt -o @teacher", "which is read"},
        BadCase{"OverTheStudent", "--student @fresh --data @train.txt -o @fresh/", "which is read"},
        BadCase{"Warmup", kGood + "--warmup 2", "warm-up"},
        BadCase{"Loss", kGood + "--loss reverse_lk", "did you mean 'reverse_kl'"},
        BadCase{"LossParameter", kGood + "--loss jsd:1.5", "between 0 and 1"},
        BadCase{"Schedule", kGood + "--schedule step", "cosine, linear and constant"},
        BadCase{"Ema", kGood + "--ema 1", "ema"},
        BadCase{"PatienceAlone", kGood + "--patience 3", "--heldout"},
        BadCase{"CacheAlone", kGood + "--cache @cache", "--teacher"},
        BadCase{"MatchAlone", kGood + "--match-hidden 1", "they need --teacher"},
        BadCase{"MatchWithCache", kGood + "--teacher @teacher --match-attention 1 --cache @cache", "not its hidden states and attention"},
        BadCase{"MatchBelowNothing", kGood + "--teacher @teacher --match-hidden -1", "--match-hidden"},
        BadCase{"LayerMapText", kGood + "--teacher @teacher --match-hidden 1 --layer-map 0-1", "found '0-1'"},
        BadCase{"LayerMapLayer", kGood + "--teacher @teacher --match-hidden 1 --layer-map 0:3", "the teacher has no layer 3"},
        BadCase{"LayerMapAlone", kGood + "--teacher @teacher --layer-map last", "it needs match-hidden or match-attention"},
        BadCase{"RelationHeads", kGood + "--teacher @teacher --match-attention 1 --relation-heads 3", "a divisor of 16 does"},
        BadCase{"HiddenMeasure", kGood + "--teacher @teacher --match-hidden 1 --hidden-measure l1", "cosine and mse"},
        BadCase{"Alpha", kGood + "--alpha 2", "alpha"},
        BadCase{"Dtype", kGood + "--dtype q4_0", "f32, f16, bf16"},
        BadCase{"Compute", kGood + "--compute f16", "one of f32, bf16"},
        BadCase{"Device", kGood + "--device tpu", "tpu"}),
    [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace attar
