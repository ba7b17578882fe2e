// attar generate --batch as a user meets it.

#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/files.h"
#include "tests/cli/tiny_model.h"
#include "tests/support.h"

namespace attar {
namespace {

using test::run_attar;

constexpr const char* kTemplate =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}";

class BatchCommand : public testing::Test {
 protected:
  // One model for all tests, trained until it writes words rather than bytes.
  static void SetUpTestSuite() {
    shared_ = std::make_unique<test::TempFolder>();
    auto tokenizer = test::word_tokenizer();
    tokenizer["added_tokens"].push_back({{"id", 270}, {"content", "<|im_start|>"}, {"special", true}, {"normalized", false}});
    tokenizer["added_tokens"].push_back({{"id", 271}, {"content", "<|im_end|>"}, {"special", true}, {"normalized", false}});
    test::write_tiny_folder(*shared_ / "fresh", 3, test::word_config(true), tokenizer);
    write_text_file(*shared_ / "train.txt", test::tiny_text(2000, 1));
    const auto run = run_attar("distill --student " + (*shared_ / "fresh").string() + " --data " + (*shared_ / "train.txt").string() +
                               " --batch 4 --context 32 --steps 80 --lr 1e-2 --warmup 5 -o " + (*shared_ / "model").string());
    ASSERT_EQ(run.code, 0) << run.output;
    write_text_file(*shared_ / "model/tokenizer_config.json", nlohmann::json{{"chat_template", kTemplate}, {"eos_token", "<|end|>"}}.dump());
  }
  static void TearDownTestSuite() { shared_.reset(); }
  void SetUp() override { write_text_file(folder_ / "texts.txt", test::tiny_text(64, 1)); }
  static std::string model() { return (*shared_ / "model").string(); }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  std::string with(const std::string& out, const std::string& more) const {
    return "generate " + model() + " --temperature 1 --max-tokens 24 --keep-unfinished --min-tokens 4 --max-repetition 1 -o " + path(out) +
           " --batch " + more;
  }
  std::vector<nlohmann::json> lines(const std::string& name) const {
    std::istringstream in(read_text_file(folder_ / name));
    std::vector<nlohmann::json> all;
    for (std::string line; std::getline(in, line);) all.push_back(nlohmann::json::parse(line));
    return all;
  }
  static inline std::unique_ptr<test::TempFolder> shared_;
  test::TempFolder folder_;
};

TEST_F(BatchCommand, SameTextsWhateverTheThreadsAndWhoeverIsKilled) {
  const std::string prompts = path("texts.txt") + " --samples 3 --seed 5";
  auto run = run_attar(with("a.jsonl", prompts) + " --threads 1 --json " + path("a.json"));
  ASSERT_EQ(run.code, 0) << run.output;
  const auto result = nlohmann::json::parse(read_text_file(folder_ / "a.json"));
  EXPECT_EQ(result["texts"], 8 * 3);
  std::int64_t dropped = 0;
  for (const auto& [reason, count] : result["dropped"].items()) dropped += count.get<std::int64_t>();
  EXPECT_EQ(result["kept"].get<std::int64_t>() + dropped, 8 * 3);
  EXPECT_EQ(lines("a.jsonl").size(), result["kept"].get<std::size_t>());
  EXPECT_FALSE(fs::exists(folder_ / "a.jsonl.unfinished"));

  ASSERT_EQ(run_attar(with("b.jsonl", prompts) + " --threads 3").code, 0);
  EXPECT_EQ(read_text_file(folder_ / "b.jsonl"), read_text_file(folder_ / "a.jsonl"));
  EXPECT_EQ(run_attar(with("c.jsonl", path("texts.txt") + " --samples 3 --seed 6")).code, 0);
  EXPECT_NE(read_text_file(folder_ / "c.jsonl"), read_text_file(folder_ / "a.jsonl"));

  // A run that was killed while it wrote its sixth text: the first five are there, and half of a line.
  const std::string program = std::getenv("ATTAR_PROGRAM") != nullptr ? std::getenv("ATTAR_PROGRAM") : "./attar";
  const std::string partial = path("d.jsonl.unfinished");
  test::run_shell(program + " " + with("d.jsonl", prompts) + " --threads 1 >/dev/null 2>&1 & pid=$!; while kill -0 $pid && [ \"$(wc -l <" + partial +
                  " 2>/dev/null || echo 0)\" -lt 2 ]; do sleep 0.01; done; kill -9 $pid; wait $pid; sed -i '7,$d' " + partial +
                  "; printf '{\"te' >>" + partial);
  const auto refused = run_attar(with("d.jsonl", prompts));
  EXPECT_EQ(refused.code, 2);
  EXPECT_HAS(refused.output, "add --resume");
  run = run_attar(with("d.jsonl", prompts) + " --resume");
  ASSERT_EQ(run.code, 0) << run.output;
  EXPECT_EQ(read_text_file(folder_ / "d.jsonl"), read_text_file(folder_ / "a.jsonl"));
}

TEST_F(BatchCommand, ResumeTakesWholeLinesOfTheSameRunOnly) {
  const std::string prompts = path("texts.txt") + " --seed 5";
  ASSERT_EQ(run_attar(with("a.jsonl", prompts)).code, 0);
  // The first line of a run that cannot go on: no disk left for the texts, but the folder is there.
  write_text_file(folder_ / "b.jsonl.unfinished", "{\"model\":\"another\"}\n{\"text\":\"x\"}\n");
  const auto other = run_attar(with("b.jsonl", prompts) + " --resume");
  EXPECT_EQ(other.code, 2);
  EXPECT_HAS(other.output, "is of another run");
}

TEST_F(BatchCommand, ConversationsGetAnAnswer) {
  write_text_file(folder_ / "p.jsonl",
                  "{\"messages\": [{\"role\": \"user\", \"content\": \"Who?\"}]}\n{\"prompt\": \"Ana sees\"}\n");
  const auto run = run_attar("generate " + model() + " --temperature 1 --max-tokens 12 --keep-unfinished --min-tokens 0 --max-repetition 1 "
                             "--samples 20 -o " + path("o.jsonl") + " --batch " + path("p.jsonl"));
  ASSERT_EQ(run.code, 0) << run.output;
  int chats = 0, texts = 0;
  for (const auto& line : lines("o.jsonl")) {
    if (line.contains("messages")) {
      ++chats;
      ASSERT_EQ(line["messages"].size(), 2u);
      EXPECT_EQ(line["messages"][1]["role"], "assistant");
      EXPECT_EQ(line["messages"][1]["content"].get<std::string>().find("<|im_end|>"), std::string::npos);
    } else {
      ++texts;
      EXPECT_EQ(line["text"].get<std::string>().substr(0, 8), "Ana sees");
    }
  }
  EXPECT_GT(chats, 0);
  EXPECT_GT(texts, 0);
}

TEST_F(BatchCommand, MistakesAreNamed) {
  const auto refused = [&](const std::string& arguments) {
    const auto run = run_attar(arguments);
    EXPECT_EQ(run.code, 2) << arguments;
    return run.output;
  };
  EXPECT_HAS(refused("generate " + model() + " -o " + path("a.jsonl") + " --batch " + path("texts.txt") + " --samples 4"), "the same text so many times");
  EXPECT_HAS(refused("generate " + model() + " --batch " + path("texts.txt")), "needs -o");
  EXPECT_HAS(refused(with("a.txt", path("texts.txt"))), "writes a .jsonl file");
  EXPECT_HAS(refused(with("a.jsonl", path("texts.txt")) + " --prompt x"), "brings its own prompts");
  write_text_file(folder_ / "bad.jsonl", "{\"prompt\": \"a\"}\n{\"prompt\": 3}\n");
  EXPECT_HAS(refused(with("a.jsonl", path("bad.jsonl"))), "bad.jsonl: line 2: \"prompt\" is no text");
  write_text_file(folder_ / "chat.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}\n");
  test::write_tiny_folder(folder_ / "plain", 3);
  EXPECT_HAS(refused("generate " + path("plain") + " -o " + path("a.jsonl") + " --batch " + path("chat.jsonl")), "need a chat template");
  write_text_file(folder_ / "said.jsonl", "{\"messages\": [{\"role\": \"assistant\", \"content\": \"a\"}]}\n");
  EXPECT_HAS(refused(with("a.jsonl", path("said.jsonl"))), "said.jsonl: line 1: the last message must be the user's");
}

}  // namespace
}  // namespace attar
