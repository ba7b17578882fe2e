// attar prune as a user meets it.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

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

TEST_F(PruneCommand, GroupsGoWithTheirHeads) {
  const auto run = prune("--kv-heads 1 --json " + path("r.json"));
  ASSERT_EQ(run.code, 0) << run.output;
  EXPECT_HAS(run.output, "heads 4 -> 2, kv_heads 2 -> 1");
  const Checkpoint student = open_checkpoint(folder_ / "student");
  EXPECT_EQ(student.config.kv_heads, 1);
  EXPECT_EQ(student.config.heads, 2);
  EXPECT_EQ(student.at("model.layers.0.self_attn.k_proj.weight").shape, (Shape{8, 32}));
  EXPECT_EQ(student.at("model.layers.0.self_attn.o_proj.weight").shape, (Shape{32, 16}));
  EXPECT_EQ(nlohmann::json::parse(read_text_file(folder_ / "r.json"))["shape"]["kv_heads"], 1);
  ASSERT_EQ(prune("--kv-heads 1 --heads 1").code, 0);
  EXPECT_EQ(open_checkpoint(folder_ / "student").config.heads, 1);
}

TEST_F(PruneCommand, LayersGoByTheLossWithoutThem) {
  const auto run = prune("--layers 2 --rank-layers loss --json " + path("r.json"));
  ASSERT_EQ(run.code, 0) << run.output;
  const auto result = nlohmann::json::parse(read_text_file(folder_ / "r.json"));
  const auto losses = result["layer_losses"].get<std::vector<double>>();
  ASSERT_EQ(losses.size(), 3u);
  const auto least = std::min_element(losses.begin(), losses.end()) - losses.begin();
  std::vector<std::int64_t> others;
  for (std::int64_t layer = 0; layer < 3; ++layer)
    if (layer != least) others.push_back(layer);
  EXPECT_EQ(result["kept_layers"].get<std::vector<std::int64_t>>(), others);
}

std::uint64_t folder_bytes(const fs::path& folder) {
  std::uint64_t bytes = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) bytes += entry.file_size();
  return bytes;
}

// With more to cut from than the tiny one.
nlohmann::json roomy_config() {
  nlohmann::json json = test::tiny_config();
  json.update({{"hidden_size", 64}, {"intermediate_size", 128}, {"num_hidden_layers", 6}, {"num_attention_heads", 8}});
  return json;
}

constexpr const char* kShortSearch = " --retrain 500 --candidates 3 --batch 4 --threads 1 ";

TEST_F(PruneCommand, SearchesAShapeForATarget) {
  test::write_tiny_folder(folder_ / "teacher", 3, roomy_config());
  const auto run = prune("--target-params 60% --seed 1 --json " + path("r.json") + kShortSearch);
  ASSERT_EQ(run.code, 0) << run.output;
  EXPECT_HAS(run.output, "KL as cut");
  EXPECT_HAS(run.output, "3 candidates: each learns from 512 tokens");
  const auto result = nlohmann::json::parse(read_text_file(folder_ / "r.json"));
  EXPECT_LE(result["share"].get<double>(), 0.6);
  EXPECT_EQ(result["chosen_by"], "held-out KL");
  const auto& candidates = result["search"]["candidates"];
  ASSERT_EQ(candidates.size(), 3u);
  const auto kl = [&](std::size_t i) { return std::min(candidates[i]["kl_before"].get<double>(), candidates[i]["kl_after"].get<double>()); };
  for (std::size_t i = 1; i < 3; ++i) EXPECT_GE(kl(i), kl(i - 1));
  EXPECT_HAS(run.output, "  " + candidates[0]["parameters"].dump() + "  ");  // a column of its own in the table
  const Checkpoint student = open_checkpoint(folder_ / "student");
  const auto& best = candidates[0];
  EXPECT_EQ(best["layers"], student.config.layers);
  EXPECT_EQ(best["hidden"], student.config.hidden_size);
  EXPECT_EQ(best["ffn"], student.config.intermediate_size);
  EXPECT_EQ(best["heads"], student.config.heads);
  EXPECT_EQ(best["parameters"], student.parameter_count());
  EXPECT_EQ(best["bytes"], folder_bytes(folder_ / "student"));
  EXPECT_EQ(result["bytes"], folder_bytes(folder_ / "student"));
  EXPECT_EQ(result["kept_layers"].size(), static_cast<std::size_t>(student.config.layers));
  const std::string bytes = read_text_file(folder_ / "student/model.safetensors");
  ASSERT_EQ(prune(std::string("--target-params 60% --seed 1") + kShortSearch).code, 0);
  EXPECT_EQ(read_text_file(folder_ / "student/model.safetensors"), bytes) << "the same seed";
}

TEST_F(PruneCommand, TheFormulaChoosesWhereNothingIsRetrained) {
  const auto run = prune("--target-params 60% --retrain 0 --json " + path("r.json"));
  ASSERT_EQ(run.code, 0) << run.output;
  EXPECT_HAS(run.output, "the shape is the formula's choice; nothing was retrained");
  const auto result = nlohmann::json::parse(read_text_file(folder_ / "r.json"));
  EXPECT_LE(result["share"].get<double>(), 0.6);
  EXPECT_EQ(result["chosen_by"], "formula");
  EXPECT_FALSE(result.contains("search"));
}

TEST_F(PruneCommand, ATargetInBytesIsKept) {
  test::write_tiny_folder(folder_ / "teacher", 3, roomy_config());
  for (const char* dtype : {"f32", "f16"}) {
    const auto run = prune(std::string("--target-size 300kB --dtype ") + dtype + kShortSearch);
    ASSERT_EQ(run.code, 0) << run.output;
    EXPECT_LE(folder_bytes(folder_ / "student"), 300'000u) << dtype;
    EXPECT_GE(folder_bytes(folder_ / "student"), 250'000u) << dtype;
  }
}

// The nearest that the refusal names can be had, and is all that its target leaves.
TEST_F(PruneCommand, ATargetThatIsTooSmallNamesTheNearest) {
  for (const std::string option : {"--target-params ", "--target-size "}) {
    const auto refused = prune(option + "10 --retrain 0");
    ASSERT_EQ(refused.code, 2) << refused.output;
    const std::string before = "the smallest has ";
    const std::size_t place = refused.output.find(before);
    ASSERT_NE(place, std::string::npos) << refused.output;
    const std::uint64_t nearest = std::stoull(refused.output.substr(place + before.size()));
    EXPECT_EQ(prune(option + std::to_string(nearest - 1) + " --retrain 0").code, 2);
    const auto run = prune(option + std::to_string(nearest) + " --retrain 0");
    ASSERT_EQ(run.code, 0) << run.output;
    const std::uint64_t size = option == "--target-size " ? folder_bytes(folder_ / "student") : open_checkpoint(folder_ / "student").parameter_count();
    EXPECT_LE(size, nearest) << option;
    fs::remove_all(folder_ / "student");
  }
}

TEST_F(PruneCommand, WhatIsReadIsNotWrittenOver) {
  const std::string before = read_text_file(folder_ / "teacher/model.safetensors"), text = read_text_file(folder_ / "text.txt");
  for (const std::string& output : {"-o " + path("teacher"), "-o " + path("student") + " --json " + path("text.txt")}) {
    const auto run = run_attar("prune " + path("teacher") + " --layers 2 --data " + path("text.txt") + " --context 32 --samples 8 " + output);
    EXPECT_EQ(run.code, 2) << run.output;
    EXPECT_NE(run.output.find("which is read"), std::string::npos) << run.output;
    EXPECT_EQ(read_text_file(folder_ / "teacher/model.safetensors"), before);
    EXPECT_EQ(read_text_file(folder_ / "text.txt"), text);
    EXPECT_FALSE(fs::exists(folder_ / "student"));
  }
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
  refused("--kv-heads 3", "the teacher has 2");
  refused("--kv-heads 1 --heads 3", "1 key-value groups of this model have 2 heads, not 3");
  refused("--keep-layers 0,1 --rank-layers loss", "leave --rank-layers out");
  refused("--layers 2 --rank-layers size", "--rank-layers");
  refused("--target-size 900", "the smallest has");
  refused("--target-size 900MB", "more than the teacher takes");
  refused("--target-size large", "expected bytes");
  refused("--target-size 50kB --target-params 50%", "excludes");
  refused("--retrain 5000 --layers 2", "--retrain is for the search of a shape");
  test::write_tiny_folder(folder_ / "teacher", 3, roomy_config());
  refused("--target-params 50% --heldout " + path("text.txt"), "is the text of --data");
  write_text_file(folder_ / "one.txt", "A single document.\n");
  refused("--target-params 50% --heldout " + path("one.txt"), "does not fill one chunk");
  refused("--fnn 32", "did you mean '--ffn'");
  refused("--dtype q4_0", "f32, f16, bf16");
}

// A model whose tokenizer has thirteen merges, of which the text uses some, three rows of padding, and an end token.
class PruneVocabulary : public PruneCommand, public ::testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    test::write_tiny_folder(folder_ / "teacher", 3, test::word_config(GetParam()), test::word_tokenizer());
    write_text_file(folder_ / "text.txt", test::tiny_text(400, 1));
  }
  nlohmann::json json(const std::string& name) const { return nlohmann::json::parse(read_text_file(folder_ / name)); }
};

TEST_P(PruneVocabulary, KeepsTheTokensThatTheTextUses) {
  const auto run = prune("--vocabulary 261 --json " + path("r.json"));
  ASSERT_EQ(run.code, 0) << run.output;
  EXPECT_HAS(run.output, "vocabulary 272 -> 261");
  const Checkpoint teacher = open_checkpoint(folder_ / "teacher"), student = open_checkpoint(folder_ / "student");
  const std::vector<std::string> words(student.tokenizer.tokens.begin() + 256, student.tokenizer.tokens.end());
  EXPECT_EQ(words, (std::vector<std::string>{"th", "the", "\u0120the", "\u0120a", "<|end|>"}));
  EXPECT_EQ(student.config.vocab_size, 261);
  EXPECT_EQ(student.config.eos_ids, std::vector<std::int64_t>{260});
  EXPECT_EQ(student.config.pad_id, -1);  // a row of padding, which no token stands for
  EXPECT_FALSE(json("student/config.json").contains("pad_token_id"));
  EXPECT_EQ(student.tokenizer.eos_id, 260);
  for (const Tensor& tensor : student.tensors) {
    const Tensor& source = teacher.at(tensor.name);
    if (tensor.shape == source.shape) {
      EXPECT_EQ(read_floats(tensor), read_floats(source)) << tensor.name;
      continue;
    }
    EXPECT_EQ(tensor.shape[0], 261) << tensor.name;
    EXPECT_EQ(read_floats(tensor, 0, 260), read_floats(source, 0, 260)) << tensor.name;
    EXPECT_EQ(read_floats(tensor, 260, 261), read_floats(source, 269, 270)) << tensor.name;
  }
  const auto result = json("r.json");
  EXPECT_EQ(result["parameters"], student.parameter_count());
  EXPECT_EQ(result["shape"]["vocabulary"], 261);
  EXPECT_GT(result["corpus_tokens"]["student"], result["corpus_tokens"]["teacher"]);
  const auto ids = [&](const std::string& model) {
    return nlohmann::json::parse(run_attar("tokenize " + path(model) + " --special --file " + path("text.txt"), "2>/dev/null").output);
  };
  EXPECT_EQ(ids("student").back(), 260);
  EXPECT_EQ(ids("teacher").back(), 269);
}

// A student that lost nothing but tokens is the teacher, given that the next token is one of those left.
TEST_P(PruneVocabulary, TheTeacherIsComparedAndTaughtOverTheTokensThatAreLeft) {
  ASSERT_EQ(prune("--vocabulary 260").code, 0);
  write_text_file(folder_ / "held.txt", test::tiny_text(200, 2));
  auto run = run_attar("eval " + path("student") + " --reference " + path("teacher") + " --data " + path("held.txt") +
                       " --context 32 --json " + path("e.json"));
  ASSERT_EQ(run.code, 0) << run.output;
  EXPECT_HAS(run.output, "the model's is a part of the reference's");
  EXPECT_EQ(json("e.json")["kl_divergence"]["max"], 0.0);
  run = run_attar("distill --teacher " + path("teacher") + " --student " + path("student") + " --data " + path("text.txt") +
                  " --heldout " + path("held.txt") + " --steps 3 --batch 2 --context 32 --lr 1e-3 --warmup 1 --log-every 1 -o " +
                  path("taught") + " --json " + path("d.json"));
  ASSERT_EQ(run.code, 0) << run.output;
  std::istringstream log(read_text_file(folder_ / "taught/train.jsonl"));
  std::string line;
  ASSERT_TRUE(std::getline(log, line));
  EXPECT_LT(nlohmann::json::parse(line)["kl"].get<double>(), 1e-6);
  EXPECT_EQ(open_checkpoint(folder_ / "taught").config.vocab_size, 260);
  EXPECT_EQ(json("d.json")["teacher_parameters"], open_checkpoint(folder_ / "teacher").parameter_count());
}

TEST_P(PruneVocabulary, GoesWithTheOtherCuts) {
  ASSERT_EQ(prune("--vocabulary 258 --layers 2 --ffn 32 --hidden 16").code, 0);
  const Checkpoint student = open_checkpoint(folder_ / "student");
  EXPECT_EQ(student.at("model.embed_tokens.weight").shape, (Shape{258, 16}));
  EXPECT_EQ(student.config.layers, 2);
}

TEST_P(PruneVocabulary, TheSearchMayCutItToo) {
  const auto run = prune("--target-params 90% --vocabulary auto --json " + path("r.json") + kShortSearch);
  ASSERT_EQ(run.code, 0) << run.output;
  const auto result = json("r.json");
  EXPECT_LE(result["share"].get<double>(), 0.9);
  EXPECT_LE(result["shape"]["vocabulary"], 270);
  EXPECT_GE(result["shape"]["vocabulary"], 257);
  EXPECT_EQ(open_checkpoint(folder_ / "student").config.vocab_size, result["search"]["candidates"][0]["vocabulary"]);
}

TEST_P(PruneVocabulary, ATargetInBytesCountsTheTokenizer) {
  const auto whole = prune("");
  ASSERT_EQ(whole.code, 0) << whole.output;
  const std::uint64_t bytes = folder_bytes(folder_ / "student") * 9 / 10;
  const auto run = prune("--vocabulary auto --retrain 0 --target-size " + std::to_string(bytes));
  ASSERT_EQ(run.code, 0) << run.output;
  EXPECT_LE(folder_bytes(folder_ / "student"), bytes);
}

TEST_P(PruneVocabulary, RefusesWhatCannotBeDone) {
  const auto refused = [&](const std::string& arguments, const std::string& expected) {
    const auto run = prune(arguments);
    EXPECT_EQ(run.code, 2) << arguments << "\n" << run.output;
    EXPECT_HAS(run.output, expected);
    EXPECT_FALSE(fs::exists(folder_ / "student"));
  };
  refused("--vocabulary 256", "a vocabulary of 256 tokens is too small: 257 are bytes, special or added tokens");
  refused("--vocabulary 271", "the tokenizer has 270");
  refused("--vocabulary 271 --target-params 90%", "the tokenizer has 270");
  refused("--vocabulary 0", "neither a number of tokens nor auto");
  refused("--vocabulary most", "neither a number of tokens nor auto");
  refused("--vocabulary auto", "needs --target-params");
  fs::remove(folder_ / "teacher/tokenizer.json");
  refused("--vocabulary 260", "has no tokenizer");
  EXPECT_EQ(run_attar("prune " + path("teacher") + " -o " + path("student") + " --vocabulary 260").code, 2) << "no --data";
}

INSTANTIATE_TEST_SUITE_P(Heads, PruneVocabulary, ::testing::Bool(),
                         [](const auto& each) { return each.param ? "tied" : "untied"; });

}  // namespace
}  // namespace attar
