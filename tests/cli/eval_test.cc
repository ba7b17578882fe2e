#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "base/random.h"
#include "convert/checkpoint.h"
#include "tests/support.h"

namespace attar {
namespace {

using test::run_attar;
using test::RunResult;

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// <unk>, <s>, </s>, the bytes, U+2581 and the small letters: every text has ids, one per letter.
TokenizerData letters() {
  TokenizerData data;
  data.kind = TokenizerKind::kMetaspaceBpe;
  for (const char* special : {"<unk>", "<s>", "</s>"}) {
    data.added.push_back({static_cast<std::int64_t>(data.tokens.size()), special, true});
    data.tokens.emplace_back(special);
    data.types.push_back(TokenType::kControl);
  }
  data.unk_id = 0, data.bos_id = 1, data.eos_id = 2;
  data.add_bos = data.byte_fallback = data.add_prefix_space = data.fuse_unk = true;
  for (unsigned byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    data.tokens.emplace_back(name);
    data.types.push_back(TokenType::kByte);
  }
  data.tokens.emplace_back("\xe2\x96\x81");
  data.types.push_back(TokenType::kNormal);
  for (char letter = 'a'; letter <= 'z'; ++letter) {
    data.tokens.emplace_back(1, letter);
    data.types.push_back(TokenType::kNormal);
  }
  return data;
}

void write_model(const fs::path& folder, std::uint64_t seed, const TokenizerData& tokenizer = letters()) {
  const nlohmann::json config{{"architectures", {"LlamaForCausalLM"}},
                              {"model_type", "llama"},
                              {"hidden_size", 32},
                              {"intermediate_size", 64},
                              {"num_hidden_layers", 2},
                              {"num_attention_heads", 4},
                              {"num_key_value_heads", 2},
                              {"vocab_size", tokenizer.size()},
                              {"max_position_embeddings", 128},
                              {"rms_norm_eps", 1e-5},
                              {"rope_theta", 10000.0},
                              {"bos_token_id", 1},
                              {"eos_token_id", 2},
                              {"tie_word_embeddings", false},
                              {"torch_dtype", "float32"}};
  Checkpoint checkpoint;
  checkpoint.config = parse_config(config, "test");
  checkpoint.tokenizer = tokenizer;
  Random random(seed);
  for (const ParameterSpec& spec : parameters(checkpoint.config)) {
    std::vector<float> values(element_count(spec.shape));
    for (float& v : values) v = spec.shape.size() == 1 ? 1.0f : static_cast<float>(random.uniform() - 0.5) * 0.5f;
    checkpoint.tensors.push_back(make_tensor(spec.name, spec.shape, std::move(values)));
  }
  write_hf(checkpoint, folder);
}

std::string words(std::size_t letters) {
  Random random(77);
  std::string text;
  while (text.size() < letters) text += random.below(6) == 0 ? ' ' : static_cast<char>('a' + random.below(26));
  return text;
}

class Eval : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<test::TempFolder>();
    write_model(*folder_ / "a", 1);
    write_model(*folder_ / "b", 2);
    write_text_file(*folder_ / "text.txt", words(3000));
  }
  static void TearDownTestSuite() { folder_.reset(); }

  static std::string path(const std::string& name) { return (*folder_ / name).string(); }
  static RunResult eval(const std::string& arguments) {
    return run_attar("eval " + arguments + " --quiet");
  }
  static std::string gate(const std::string& toml) {
    write_text_file(path("gate.toml"), toml);
    return " --gate " + path("gate.toml");
  }
  static std::string standard(const std::string& model = "a") {
    return path(model) + " --data " + path("text.txt") + " --context 64";
  }
  static nlohmann::json result(const std::string& arguments) {
    const RunResult run = eval(arguments + " --json " + path("out.json"));
    EXPECT_EQ(run.code, 0) << run.output;
    auto json = nlohmann::json::parse(read_text_file(path("out.json")));
    json.erase("command_line");
    return json;
  }

  static std::unique_ptr<test::TempFolder> folder_;
};
std::unique_ptr<test::TempFolder> Eval::folder_;

TEST_F(Eval, PerplexityAlone) {
  const auto json = result(standard());
  EXPECT_GT(json["perplexity"]["value"], 1);
  EXPECT_GT(json["perplexity"]["uncertainty"], 0);
  EXPECT_FALSE(json.contains("kl_divergence"));
  const auto& protocol = json["protocol"];
  EXPECT_EQ(protocol["context"], 64);
  const std::int64_t chunks = protocol["chunks"], tokens = protocol["tokens"];
  EXPECT_EQ(chunks, tokens / 64);
  EXPECT_EQ(protocol["tokens_scored"], chunks * 31);
  EXPECT_EQ(json["command"], "eval");
}

TEST_F(Eval, AModelAgainstItself) {
  const auto json = result(standard() + " --reference " + path("a"));
  EXPECT_EQ(json["kl_divergence"]["mean"], 0);
  EXPECT_EQ(json["kl_divergence"]["max"], 0);
  EXPECT_EQ(json["same_top"]["share"], 1);
  EXPECT_EQ(json["delta_p"]["rms"], 0);
  EXPECT_EQ(json["perplexity_ratio"]["value"], 1);
  EXPECT_EQ(json["model"]["hash"], json["reference"]["hash"]);
}

TEST_F(Eval, TwoModelsDiverge) {
  const auto json = result(standard() + " --reference " + path("b"));
  EXPECT_GT(json["kl_divergence"]["mean"], 0.01);
  EXPECT_LT(json["same_top"]["share"], 1);
  EXPECT_NE(json["model"]["hash"], json["reference"]["hash"]);
  EXPECT_EQ(json["perplexity"], result(standard())["perplexity"]) << "the same with and without a reference";
  EXPECT_EQ(json["reference_perplexity"]["value"], result(standard("b"))["perplexity"]["value"]);
}

TEST_F(Eval, ThreadsDoNotChangeTheResult) {
  const std::string arguments = standard() + " --reference " + path("b");
  EXPECT_EQ(result(arguments + " --threads 1"), result(arguments + " --threads 3"));
}

TEST_F(Eval, LimitsTakeTheFirstPart) {
  EXPECT_EQ(result(standard() + " --chunks 3")["protocol"]["chunks"], 3);
  EXPECT_EQ(result(standard() + " --tokens 300")["protocol"]["chunks"], 4);
}

TEST_F(Eval, GateDecidesTheExitCode) {
  const std::string arguments = standard() + " --reference " + path("b");
  RunResult run = eval(arguments + gate("[same_top.share]\nmin = 0\n[perplexity.value]\nmax = 1e9\n"));
  EXPECT_EQ(run.code, 0) << run.output;
  EXPECT_TRUE(has(run.output, "gate: pass: perplexity.value = "));
  run = eval(arguments + gate("[same_top.share]\nmin = 0\n[kl_divergence.mean]\nmax = 0.0001\n") + " --json " + path("g.json"));
  EXPECT_EQ(run.code, 1) << run.output;
  EXPECT_TRUE(has(run.output, "gate: worse: kl_divergence.mean = "));
  EXPECT_TRUE(has(run.output, "max 0.0001"));
  const auto json = nlohmann::json::parse(read_text_file(path("g.json")));
  EXPECT_EQ(json["gate"]["outcome"], "worse");
  EXPECT_EQ(json["gate"]["checks"].size(), 2u);
}

TEST_F(Eval, SeveralGatesAllCount) {
  write_text_file(path("pass.toml"), "[perplexity.value]\nmax = 1e9\n");
  write_text_file(path("fail.toml"), "[perplexity.value]\nmax = 1\n");
  EXPECT_EQ(eval(standard() + " --gate " + path("pass.toml") + " --gate " + path("fail.toml")).code, 1);
}

TEST_F(Eval, AGateThatCannotDecideIsNotAPass) {
  EXPECT_EQ(eval(standard() + gate("[kl_divergence.mean]\nmax = 1\n")).code, 2) << "no reference";
  EXPECT_EQ(eval(standard() + gate("[cloze.accuracy]\nmin = 0\n")).code, 2) << "no items";
  EXPECT_EQ(eval(standard() + gate("")).code, 2);
  EXPECT_EQ(eval(standard() + " --gate " + path("nowhere.toml")).code, 2);
  const RunResult run = eval(standard() + gate("[perplexity.valeu]\nmax = 1\n"));
  EXPECT_EQ(run.code, 2);
  EXPECT_TRUE(has(run.output, "did you mean 'perplexity.value'?")) << run.output;
}

TEST_F(Eval, TextThatCannotBeScored) {
  write_text_file(path("short.txt"), "abc");
  RunResult run = eval(path("a") + " --data " + path("short.txt"));
  EXPECT_EQ(run.code, 2);
  EXPECT_TRUE(has(run.output, "needs at least 1024")) << run.output;
  write_text_file(path("latin.txt"), words(500) + "\xe9t\xe9 " + words(500));
  run = eval(path("a") + " --data " + path("latin.txt") + " --context 64 --json " + path("none.json"));
  EXPECT_EQ(run.code, 2);
  EXPECT_TRUE(has(run.output, "UTF-8") && has(run.output, "500")) << run.output;
  EXPECT_FALSE(fs::exists(path("none.json")));
  EXPECT_EQ(eval(path("a") + " --data " + path("nowhere.txt")).code, 2);
  EXPECT_EQ(eval(standard() + " --context 3").code, 2);
  EXPECT_EQ(eval(path("a")).code, 2) << "--data is required";
}

TEST_F(Eval, ModelsThatCannotBeCompared) {
  TokenizerData other = letters();
  std::swap(other.tokens[261], other.tokens[262]);
  write_model(path("swapped"), 1, other);
  RunResult run = eval(standard() + " --reference " + path("swapped"));
  EXPECT_EQ(run.code, 2);
  EXPECT_TRUE(has(run.output, "id 261 is 'b' in the model and 'c' in the reference")) << run.output;
  other = letters();
  other.tokens.emplace_back("extra");
  other.types.push_back(TokenType::kNormal);
  write_model(path("larger"), 1, other);
  run = eval(standard("larger") + " --reference " + path("a"));
  EXPECT_EQ(run.code, 2);
  EXPECT_TRUE(has(run.output, "vocabulary has 287 entries, the reference's 286")) << run.output;
  other.tokens[270] = "no letter";
  write_model(path("strange"), 1, other);
  run = eval(standard() + " --reference " + path("strange"));
  EXPECT_EQ(run.code, 2);
  EXPECT_TRUE(has(run.output, "'k', id 270 of the smaller vocabulary (286 tokens), is no token of the larger one (287)")) << run.output;
  other = letters();
  other.tokens.emplace_back("extra");
  other.types.push_back(TokenType::kNormal);
  other.byte_fallback = false;  // the same tokens, but every capital is unknown
  write_model(path("other-rules"), 1, other);
  write_text_file(path("capitals.txt"), words(300) + "ABC" + words(300));
  run = eval(path("a") + " --data " + path("capitals.txt") + " --context 64 --reference " + path("other-rules"));
  EXPECT_EQ(run.code, 2);
  EXPECT_TRUE(has(run.output, "split the text differently")) << run.output;
}

// Letters and, in the larger vocabulary, pairs of letters. The reference is compared given that the next token is a letter.
TEST_F(Eval, AVocabularyThatIsAPartOfTheReferences) {
  TokenizerData pairs = letters();
  for (const auto& [left, right] : {std::pair{"a", "b"}, {"c", "d"}, {"e", "a"}}) {
    pairs.merges.emplace_back(left, right);
    pairs.tokens.push_back(cat(left, right));
    pairs.types.push_back(TokenType::kNormal);
  }
  write_model(path("pairs"), 5, pairs);
  // The same weights but for the pairs' rows: the same distribution over letters, given a letter.
  const Checkpoint whole = open_checkpoint(path("pairs"));
  Checkpoint part = whole;
  part.tokenizer = letters();
  part.config.vocab_size -= 3;
  for (Tensor& tensor : part.tensors)
    if (tensor.shape[0] == whole.config.vocab_size) {
      auto values = read_floats(tensor, 0, part.config.vocab_size);
      tensor = make_tensor(tensor.name, {part.config.vocab_size, tensor.shape[1]}, std::move(values));
    }
  write_hf(part, path("part"));
  const auto json = result(standard("part") + " --reference " + path("pairs"));
  EXPECT_EQ(json["kl_divergence"]["max"], 0);
  EXPECT_EQ(json["same_top"]["share"], 1);
  EXPECT_EQ(json["reference_perplexity"]["value"], json["perplexity"]["value"]);
  EXPECT_LT(json["protocol"]["reference_tokens"], json["protocol"]["tokens"]);
  EXPECT_NE(json["model"]["hash"], json["reference"]["hash"]);
  const auto alone = result(standard("pairs"));
  EXPECT_EQ(json["reference_bits_per_byte"], alone["bits_per_byte"]) << "the whole reference with its own tokens";
  EXPECT_EQ(json["protocol"]["reference_tokens"], alone["protocol"]["tokens"]);
  EXPECT_FALSE(alone["protocol"].contains("reference_tokens"));
  // One letter or space is one byte and one token here.
  EXPECT_NEAR(json["bits_per_byte"]["value"].get<double>(), json["perplexity"]["nll"].get<double>() / std::log(2.0), 1e-9);
}

TEST_F(Eval, UnknownOptionAndDevice) {
  RunResult run = eval(standard() + " --refernce x");
  EXPECT_EQ(run.code, 2);
  EXPECT_TRUE(has(run.output, "--reference")) << run.output;
  EXPECT_EQ(eval(standard() + " --device abacus").code, 2);
  EXPECT_EQ(eval(standard() + " --json " + path("no/such/folder/x.json")).code, 2);
}

// Waits until the full program has its handlers of SIGINT and SIGTERM, bits 1 and 14 of the mask: a slow start may take seconds, and the small
// one that it begins as has handlers too.
constexpr const char* kWhenItListens =
    "for i in $(seq 600); do readlink /proc/$pid/exe | grep -q full && grep -q '^SigCgt:.*[4-7c-f]..[2367abef]$' /proc/$pid/status && break; sleep 0.1; done; ";

TEST_F(Eval, AnInterruptLeavesNothing) {
  write_text_file(path("long.txt"), words(4'000'000));
  const std::string json = path("interrupted.json");
  const char* program = std::getenv("ATTAR_PROGRAM");
  const std::string command = std::string("\"") + (program != nullptr ? program : "./attar") + "\" eval " + path("a") +
                              " --reference " + path("b") + " --data " + path("long.txt") + " --context 64 --quiet --json " +
                              json + " > " + path("interrupted.log") + " 2>&1 & pid=$!; " + kWhenItListens +
                              "sleep 1; kill -TERM $pid; wait $pid";
  const int status = std::system(command.c_str());
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 130) << read_text_file(path("interrupted.log"));
  EXPECT_TRUE(has(read_text_file(path("interrupted.log")), "interrupted"));
  EXPECT_FALSE(fs::exists(json));
}

// llama.cpp's llama-perplexity (build 11669) says 4.2252 of this model in float32.
TEST_F(Eval, StoriesAsLlamaPerplexity) {
  const fs::path model = test::shared("models/stories15M"), text = test::shared("data/stories.heldout.txt");
  SKIP_WITHOUT(model);
  SKIP_WITHOUT(text);
  const auto json = result(model.string() + " --data " + text.string() + " --context 256");
  EXPECT_NEAR(json["perplexity"]["value"].get<double>(), 4.2252, 0.001);
}

// llama-perplexity --kl-divergence-base writes of each scored position as many 16-bit steps as there are tokens, and 8 bytes.
TEST_F(Eval, AStoredReferenceIsFiftyTimesSmallerThanLlamas) {
  const fs::path model = test::shared("models/stories15M"), text = test::shared("data/stories.heldout.txt");
  SKIP_WITHOUT(model);
  SKIP_WITHOUT(text);
  const std::string measured = " --data " + text.string() + " --context 256 --chunks 24 --quiet";
  ASSERT_EQ(run_attar("quantize " + model.string() + " -o " + path("q4.gguf") + " --type q4_0 --quiet").code, 0);
  ASSERT_EQ(run_attar("eval " + model.string() + measured + " --save-reference " + path("base.ref")).code, 0);
  const auto live = result(path("q4.gguf") + measured + " --reference " + model.string());
  const auto stored = result(path("q4.gguf") + measured + " --reference " + path("base.ref"));
  const double llama = live["protocol"]["tokens_scored"].get<double>() * (2 * live["model"]["vocab_size"].get<double>() + 8);
  EXPECT_GE(llama / static_cast<double>(fs::file_size(path("base.ref"))), 50);
  EXPECT_NEAR(stored["kl_divergence"]["mean"].get<double>() / live["kl_divergence"]["mean"].get<double>(), 1, 0.01);
}

}  // namespace
}  // namespace attar
