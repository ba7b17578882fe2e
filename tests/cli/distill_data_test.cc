// attar distill on conversations, and on documents of which nothing can be learnt.
#include "tests/cli/distill_command.h"

namespace attar {
namespace {

using test::run_attar;

class DistillData : public test::DistillCommand {
 protected:
  void SetUp() override {
    DistillCommand::SetUp();
    auto tokenizer = test::word_tokenizer();
    int id = 270;
    for (const char* marker : {"<|im_start|>", "<|im_end|>"})
      tokenizer["added_tokens"].push_back({{"id", id++}, {"content", marker}, {"special", true}, {"normalized", false}});
    test::write_tiny_folder(folder_ / "chat", -1, test::word_config(true), tokenizer);
    const std::string form = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}";
    write_text_file(folder_ / "chat/tokenizer_config.json", nlohmann::json{{"chat_template", form}, {"eos_token", "<|end|>"}}.dump());
  }
  static std::string conversation(const std::string& last) {
    return R"({"messages": [{"role": "user", "content": "Who?"}, {"role": ")" + last + R"(", "content": "Ana sees the cat."}]})" + std::string("\n");
  }
  // One document: what the user says, and nobody answers.
  static constexpr const char* kMasked = "{\"messages\": [{\"role\": \"user\", \"content\": \"Ana sees the cat.\"}]}\n";

  test::RunResult distill(const std::string& lines, const std::string& more = "", const std::string& packing = "documents") {
    write_text_file(folder_ / "a.jsonl", lines);
    return run_attar("distill --student " + path("chat") + " --data " + path("a.jsonl") + " --packing " + packing + " --batch 2 --context 32 --threads 1 --steps 2 --warmup 1 -o " +
                     path("out") + " " + more);
  }
};

TEST_F(DistillData, WhatTeachesNothingIsSkippedAndReported) {
  const std::string longer(200, 'x');
  const auto run = distill("{\"text\": \"\"}\n{\"input_ids\": [65]}\n" + std::string(kMasked) + conversation("assistant") + "{\"text\": \"" + longer + "\"}\n",
                           "--json " + path("r.json"));
  ASSERT_EQ(run.code, 0) << run.output;
  EXPECT_HAS(run.output, "3 documents taught nothing: 1 empty, 1 of one token, 1 in which the assistant says nothing");
  EXPECT_HAS(run.output, "1 documents are longer than --context and were cut");
  EXPECT_EQ(json("r.json")["skipped_documents"], (nlohmann::json{{"empty", 1}, {"one_token", 1}, {"masked", 1}, {"cut", 1}}));
}

TEST_F(DistillData, NothingToLearnIsAnError) {
  const auto refused = [&](const std::string& lines, const std::string& expected) {
    for (const char* packing : {"documents", "joined"}) {
      const auto run = distill(lines, "", packing);
      EXPECT_EQ(run.code, 2) << run.output;
      EXPECT_HAS(run.output, expected);
      EXPECT_FALSE(exists("out"));
    }
  };
  std::string masked;
  for (int i = 0; i < 40; ++i) masked += kMasked;
  refused(masked, "a.jsonl has nothing to learn in chunks of 33 tokens: 0 empty documents, 0 of one token, 40 with nothing the assistant says");
  refused("{\"text\": \"\"}\n{\"text\": \"\"}\n", "2 empty documents");
  refused("{\"input_ids\": [65]}\n", "1 of one token");
}

TEST_F(DistillData, ALineThatIsWrongIsNamed) {
  const auto refused = [&](const std::string& lines, const std::string& expected) {
    const auto run = distill(lines);
    EXPECT_EQ(run.code, 2) << run.output;
    EXPECT_HAS(run.output, expected);
    EXPECT_FALSE(exists("out"));
  };
  refused(conversation("assistant") + "{\"text\": \"cut sho", "a.jsonl: line 2 is not a JSON object");
  refused(conversation("assistant") + conversation("narrator"), "a.jsonl: line 2: role \"narrator\" in message 2; expected user or assistant");
}

TEST_F(DistillData, HeldOutTextInWhichNobodyAnswersIsAnError) {
  write_text_file(folder_ / "held.jsonl", kMasked);
  const auto run = distill(conversation("assistant"), "--eval-chunks 1 --heldout " + path("held.jsonl"));
  EXPECT_EQ(run.code, 2) << run.output;
  EXPECT_HAS(run.output, "held.jsonl gives 0 chunks");
}

// A student that is larger than its teacher learns all the same.
TEST_F(DistillData, ALargerStudentIsWarnedAbout) {
  auto config = test::tiny_config();
  config["num_hidden_layers"] = 1;
  test::write_tiny_folder(folder_ / "small", 3, config);
  const auto run = run_attar(with("--teacher " + path("small") + " --student " + path("fresh") + " --steps 2 --warmup 1 -o " + path("out")));
  ASSERT_EQ(run.code, 0) << run.output;
  EXPECT_HAS(run.output, "is larger than its teacher");
  EXPECT_TRUE(exists("out"));
}

// What another tokenizer's model said of a text is not read.
TEST_F(DistillData, ACacheOfAnotherTokenizerIsRefused) {
  test::write_tiny_folder(folder_ / "teacher", 3);
  const std::string options = " --steps 2 --warmup 1 --cache " + path("cache") + " -o " + path("out");
  ASSERT_EQ(run_attar(with("--teacher " + path("teacher") + " --student " + path("fresh") + options)).code, 0);
  fs::remove_all(folder_ / "out");
  auto other = test::byte_tokenizer();
  std::swap(other["model"]["vocab"]["a"], other["model"]["vocab"]["b"]);
  for (const char* model : {"teacher", "fresh"}) write_text_file(folder_ / model / "tokenizer.json", other.dump());
  const auto run = run_attar(with("--teacher " + path("teacher") + " --student " + path("fresh") + options));
  EXPECT_EQ(run.code, 2) << run.output;
  EXPECT_HAS(run.output, "is of another tokenizer");
  EXPECT_FALSE(exists("out"));
}

}  // namespace
}  // namespace attar
