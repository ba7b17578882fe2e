// attar eval's tasks, stored references, baselines and reports, through the program.
#include <algorithm>
#include <fstream>

#include "base/text.h"
#include "tests/cli/tiny_model.h"
#include "tests/support.h"

namespace attar {
namespace {

using test::RunResult;

class EvalGate : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<test::TempFolder>();
    test::write_tiny_folder(*folder_ / "a", 1);
    test::write_tiny_folder(*folder_ / "b", 2);
    write_text_file(*folder_ / "text.txt", test::tiny_text(120, 5));
    std::string items;
    for (int i = 0; i < 60; ++i)
      items += nlohmann::json{{"query", "Ana sees " + std::string(i % 7, 'x')}, {"choices", {"a cat", "the ball", "a hat"}}, {"gold", i % 3}}.dump() + "\n";
    write_text_file(*folder_ / "choose.jsonl", items);
    write_text_file(*folder_ / "last.jsonl", "{\"context\": \"Ben likes\", \"continuation\": \"Cleo\"}\n");
    write_text_file(*folder_ / "who.jsonl", "{\"context_options\": [\"Ana and Ben so Ana\", \"Ana and Ben so Ben\"], \"continuation\": \"sees.\", \"gold\": 0}\n");
    write_text_file(*folder_ / "write.jsonl", "{\"query\": \"Dan\", \"answer\": \"takes\"}\n");
    write_text_file(*folder_ / "write.toml", "items = \"write.jsonl\"\nmax_tokens = 4\nextract = \"(.)\"\n");
  }
  static void TearDownTestSuite() { folder_.reset(); }

  static std::string path(const std::string& name) { return (*folder_ / name).string(); }
  static RunResult eval(const std::string& arguments, const std::string& environment = "") {
    const char* program = std::getenv("ATTAR_PROGRAM");
    return test::run_shell("env -u GITHUB_ACTIONS -u GITHUB_STEP_SUMMARY " + environment + " " + (program != nullptr ? program : "./attar") +
                           " eval " + arguments + " --quiet 2>&1");
  }
  static nlohmann::json result(const std::string& arguments, int code = 0) {
    const RunResult run = eval(arguments + " --json " + path("out.json"));
    EXPECT_EQ(run.code, code) << run.output;
    auto json = nlohmann::json::parse(read_text_file(path("out.json")));
    json.erase("command_line");
    return json;
  }
  static std::string text() { return " --data " + path("text.txt") + " --context 32"; }
  static std::string tasks(const std::string& name = "choose.jsonl") { return " --tasks " + path(name); }
  static std::string gate(const std::string& toml) {
    write_text_file(path("gate.toml"), toml);
    return " --gate " + path("gate.toml");
  }

  static std::unique_ptr<test::TempFolder> folder_;
};
std::unique_ptr<test::TempFolder> EvalGate::folder_;

TEST_F(EvalGate, TasksOfEveryKindInOnePass) {
  const auto json = result(path("a") + tasks("choose.jsonl") + "," + path("last.jsonl") + "," + path("who.jsonl") + "," + path("write.toml") +
                           " --items " + path("items.jsonl"));
  EXPECT_FALSE(json.contains("perplexity")) << "no text was given";
  EXPECT_EQ(json["schema"], "attar.eval.1");
  const auto& choose = json["tasks"]["choose"];
  EXPECT_EQ(choose["items"], 60);
  EXPECT_EQ(choose["kind"], "multiple_choice");
  for (const char* name : {"acc", "acc_norm", "acc_bytes"}) {
    const double share = choose[name];
    EXPECT_GE(share, 0);
    EXPECT_LE(share, 1);
    EXPECT_NEAR(choose[std::string(name) + "_stderr"], std::sqrt(share * (1 - share) / 59), 1e-12);
    EXPECT_EQ(json["samples"][std::string("tasks.choose.") + name]["sums"].size(), 60u);
  }
  EXPECT_TRUE(json["tasks"]["last"].contains("perplexity"));
  EXPECT_TRUE(json["tasks"]["who"].contains("acc"));
  EXPECT_TRUE(json["tasks"]["write"].contains("exact_match"));
  std::ifstream items(path("items.jsonl"));
  std::string line;
  int lines = 0, right = 0;
  while (std::getline(items, line)) {
    const auto item = nlohmann::json::parse(line);
    if (item["task"] == "choose") right += item["answer"] == item["gold"];
    ++lines;
  }
  EXPECT_EQ(lines, 63);
  EXPECT_EQ(right, std::lround(60 * choose["acc"].get<double>()));
}

TEST_F(EvalGate, ThreadsDoNotChangeAScore) {
  const std::string arguments = path("a") + tasks() + " --reference " + path("b") + " --shots 2";
  EXPECT_EQ(result(arguments + " --threads 1"), result(arguments + " --threads 3"));
}

TEST_F(EvalGate, TheSeedPicksShotsAndResamples) {
  const auto one = result(path("a") + tasks() + " --shots 2 --seed 1"), two = result(path("a") + tasks() + " --shots 2 --seed 2");
  EXPECT_NE(one["tasks"]["choose"]["hash"], two["tasks"]["choose"]["hash"]);
  EXPECT_EQ(one["confidence"]["seed"], 1);
}

TEST_F(EvalGate, PairedWithTheReference) {
  const auto json = result(path("a") + tasks() + " --reference " + path("b"));
  const auto& pair = json["confidence"]["against_reference"]["tasks.choose.acc"];
  const double acc = json["tasks"]["choose"]["acc"], reference = json["tasks"]["choose"]["reference"]["acc"];
  EXPECT_NEAR(pair["difference"], acc - reference, 1e-12);
  EXPECT_NEAR((pair["won"].get<double>() - pair["lost"].get<double>()) / 60, acc - reference, 1e-12);
  EXPECT_GT(pair["detectable"], 0);
}

TEST_F(EvalGate, AModelAgainstItselfRaisesNoAlarm) {
  const std::string strict = gate("[tasks.choose.acc]\nagainst = \"reference\"\nmax_decrease = 0\nsignificance = 0.05\n"
                                  "[perplexity.value]\nagainst = \"reference\"\nmax_ratio = 1\n");
  for (const char* more : {" --seed 1 --threads 1", " --seed 2 --threads 2", " --seed 3 --threads 3"})
    EXPECT_EQ(eval(path("a") + text() + tasks() + " --reference " + path("a") + strict + more).code, 0);
}

TEST_F(EvalGate, StoredReferenceStandsForTheModel) {
  ASSERT_EQ(eval(path("b") + text() + " --save-reference " + path("b.ref")).code, 0);
  const auto live = result(path("a") + text() + " --reference " + path("b"));
  const auto stored = result(path("a") + " --reference " + path("b.ref"));
  EXPECT_NEAR(stored["kl_divergence"]["mean"].get<double>() / live["kl_divergence"]["mean"].get<double>(), 1, 0.01);
  EXPECT_NEAR(stored["acceptance"]["rate"].get<double>(), live["acceptance"]["rate"].get<double>(), 1e-3);
  EXPECT_EQ(stored["same_top"], live["same_top"]);
  EXPECT_EQ(stored["perplexity"], live["perplexity"]);
  EXPECT_NEAR(stored["reference_perplexity"]["value"].get<double>(), live["reference_perplexity"]["value"].get<double>(), 1e-4);
  EXPECT_EQ(stored["protocol"], live["protocol"]);
  EXPECT_EQ(stored["reference"]["hash"], live["reference"]["hash"]);
  EXPECT_EQ(result(path("a") + text() + " --reference " + path("b.ref"))["kl_divergence"], stored["kl_divergence"]);
  EXPECT_EQ(live["reference"]["stored"], false);
  EXPECT_EQ(stored["reference"]["stored"], true);
  EXPECT_HAS(eval(path("a") + " --chunks 1 --reference " + path("b.ref")).output, "says itself which text is read");
  // Its divergences are estimates: a baseline of the one is none of the other.
  const std::string base = " --baseline " + path("live.json");
  ASSERT_EQ(eval(path("a") + text() + " --reference " + path("b") + base + " --update-baseline").code, 0);
  const RunResult other = eval(path("a") + " --reference " + path("b.ref") + base + gate("[kl_divergence.mean]\nagainst = \"baseline\"\nmax_increase = 1\n"));
  EXPECT_EQ(other.code, 2);
  EXPECT_HAS(other.output, "whether the reference is a stored file");
  EXPECT_EQ(eval(path("b") + text() + " --threads 3 --save-reference " + path("b3.ref")).code, 0);
  EXPECT_EQ(read_text_file(path("b.ref")), read_text_file(path("b3.ref"))) << "at any number of threads";
}

TEST_F(EvalGate, AStoredReferenceOfSomethingElse) {
  ASSERT_EQ(eval(path("b") + text() + " --save-reference " + path("b.ref")).code, 0);
  RunResult run = eval(path("a") + " --data " + path("text.txt") + " --context 16 --reference " + path("b.ref"));
  EXPECT_EQ(run.code, 2);
  EXPECT_HAS(run.output, "a context of");
  auto other = test::byte_tokenizer();  // the same pieces under other ids
  std::swap(other["model"]["vocab"]["a"], other["model"]["vocab"]["b"]);
  fs::copy(path("a"), path("swapped"), fs::copy_options::recursive);
  write_text_file(path("swapped") + "/tokenizer.json", other.dump());
  run = eval(path("swapped") + " --reference " + path("b.ref"));
  EXPECT_EQ(run.code, 2);
  EXPECT_HAS(run.output, "another tokenizer");
  std::string bent = read_text_file(path("b.ref"));
  bent[bent.size() / 2] ^= 4;
  write_text_file(path("bent.ref"), bent);
  run = eval(path("a") + " --reference " + path("bent.ref"));
  EXPECT_EQ(run.code, 2);
  EXPECT_HAS(run.output, "is damaged");
}

TEST_F(EvalGate, ABaselineIsStoredOnlyWhenAsked) {
  const std::string base = " --baseline " + path("base.json");
  const std::string rule = gate("[tasks.choose.acc]\nagainst = \"baseline\"\nmax_decrease = 0\n[perplexity.value]\nagainst = \"baseline\"\nmin_ratio = 1\nmax_ratio = 1\n");
  RunResult run = eval(path("a") + text() + tasks() + base + rule);
  EXPECT_EQ(run.code, 2);
  EXPECT_HAS(run.output, "base.json");
  ASSERT_EQ(eval(path("a") + text() + tasks() + base + " --update-baseline").code, 0);
  const std::string stored = read_text_file(path("base.json"));
  run = eval(path("a") + text() + tasks() + base + rule);
  EXPECT_EQ(run.code, 0) << run.output;
  EXPECT_EQ(eval(path("b") + text() + tasks() + base + rule).code, 1) << "two random models differ in perplexity, one way or the other";
  EXPECT_EQ(read_text_file(path("base.json")), stored);
  EXPECT_EQ(eval(path("a") + text() + tasks() + base + " --update-baseline" + gate("[perplexity.value]\nmax = 1\n")).code, 1);
  EXPECT_EQ(read_text_file(path("base.json")), stored) << "a result that fails is no baseline";
  run = eval(path("a") + " --data " + path("text.txt") + " --context 16" + tasks() + base + rule);
  EXPECT_EQ(run.code, 2) << "another protocol";
  EXPECT_HAS(run.output, "--update-baseline");
  run = eval(path("a") + " --data " + path("text.txt") + " --context 16" + base + rule + " --save-reference " + path("early.ref"));
  EXPECT_EQ(run.code, 2);
  EXPECT_FALSE(fs::exists(path("early.ref"))) << "found out after the work only";
  run = eval(path("a") + text() + tasks() + " --limit 5" + base + rule);
  EXPECT_EQ(run.code, 2) << "other items";
  write_text_file(path("old.json"), "{\"perplexity\": {\"value\": 3}}");
  run = eval(path("a") + text() + tasks() + " --baseline " + path("old.json") + rule);
  EXPECT_EQ(run.code, 2);
  EXPECT_HAS(run.output, "no result of attar eval");
}

TEST_F(EvalGate, ReportsForContinuousIntegration) {
  const std::string reports = " --junit " + path("junit.xml") + " --markdown " + path("out.md");
  const std::string github = "GITHUB_ACTIONS=true GITHUB_STEP_SUMMARY=" + path("summary.md");
  RunResult run = eval(path("a") + text() + gate("[perplexity.value]\nmax = 1\n") + reports, github);
  EXPECT_EQ(run.code, 1);
  EXPECT_HAS(run.output, "::error title=attar eval%3A worse%3A perplexity.value::");
  EXPECT_HAS(read_text_file(path("junit.xml")), "failures=\"1\"");
  EXPECT_HAS(read_text_file(path("out.md")), "| worse | perplexity.value |");
  EXPECT_HAS(read_text_file(path("summary.md")), "### attar eval: worse");
  const std::string result = " --json " + path("result.json");
  EXPECT_EQ(eval(path("a") + text() + gate("[perplexity.value]\nmax = 1e9\n") + reports + result).code, 0);
  run = eval(path("a") + " --data " + path("nowhere.txt") + gate("[perplexity.value]\nmax = 1e9\n") + reports + result, github);
  EXPECT_EQ(run.code, 2);
  EXPECT_HAS(run.output, "::error title=attar eval::");
  EXPECT_HAS(read_text_file(path("junit.xml")), "errors=\"1\"") << "no older verdict is left";
  EXPECT_HAS(read_text_file(path("out.md")), "### attar eval: cannot decide");
  EXPECT_HAS(read_text_file(path("summary.md")), "### attar eval: cannot decide");
  EXPECT_FALSE(fs::exists(path("result.json")));
  run = eval(path("a") + text() + gate("[perplexity.value]\nmax = 1e9\n") + reports);
  EXPECT_EQ(run.code, 0);
  EXPECT_EQ(run.output.find("::error"), std::string::npos) << "not on GitHub";
}

TEST_F(EvalGate, AGateThatCannotSeeIsRefusedIfStrict) {
  const std::string rule = gate("[tasks.choose.acc]\nagainst = \"reference\"\nmax_decrease = 0.001\n");
  const std::string arguments = path("a") + tasks() + " --reference " + path("a") + rule;
  const RunResult run = eval(arguments);
  EXPECT_EQ(run.code, 0);
  EXPECT_HAS(run.output, "cannot tell changes of 0.001 from chance with 60");
  EXPECT_EQ(eval(arguments + " --strict").code, 2);
}

TEST_F(EvalGate, RollingPerplexity) {
  const auto json = result("builtin:teacher --data " + path("text.txt") + " --protocol rolling --context 32");
  const double bytes = static_cast<double>(read_text_file(path("text.txt")).size());
  const double nll = json["perplexity"]["nll"], tokens = json["protocol"]["tokens_scored"];
  EXPECT_EQ(json["protocol"]["name"], "rolling");
  EXPECT_NEAR(json["byte_perplexity"]["value"], std::exp(nll * tokens / bytes), 1e-9);
  EXPECT_NEAR(json["bits_per_byte"]["value"], nll * tokens / bytes / std::log(2.0), 1e-9);
  EXPECT_GT(json["word_perplexity"]["value"].get<double>(), json["byte_perplexity"]["value"].get<double>());
}

TEST_F(EvalGate, InputsAreNotWrittenOver) {
  const std::string bounds = gate("[perplexity.value]\nmax = 1e9\n");
  ASSERT_EQ(test::run_attar("quantize " + path("a") + " -o " + path("kept.gguf") + " --type q8_0 --quiet").code, 0);
  ASSERT_EQ(eval(path("a") + text() + " --baseline " + path("kept.json") + " --update-baseline").code, 0);
  fs::copy_file(path("text.txt"), path("kept.txt"));
  const std::string baseline = " --baseline " + path("kept.json");
  for (const auto& [arguments, input] : {std::pair{path("kept.gguf") + text() + " --json " + path("kept.gguf"), "kept.gguf"},
                                         {path("a") + " --data " + path("kept.txt") + " --context 32 --markdown " + path("kept.txt"), "kept.txt"},
                                         {path("a") + text() + bounds + " --junit " + path("gate.toml"), "gate.toml"},
                                         {path("a") + text() + bounds + baseline + " --json " + path("kept.json"), "kept.json"},
                                         {path("a") + text() + bounds + baseline + " --json " + path("b/../kept.json"), "kept.json"},
                                         {path("a") + " --data " + path("kept.txt") + " --context 32 --save-reference " + path("kept.txt"), "kept.txt"},
                                         {path("a") + tasks() + " --items " + path("choose.jsonl"), "choose.jsonl"}}) {
    const std::string before = read_text_file(path(input));
    const RunResult run = eval(arguments);
    EXPECT_EQ(run.code, 2) << arguments;
    EXPECT_HAS(run.output, "which is read; name another file");
    EXPECT_EQ(read_text_file(path(input)), before) << arguments;
  }
  EXPECT_HAS(eval(path("a") + text() + " --json " + path("one") + " --markdown " + path("one")).output, "is to be written twice");
}

TEST_F(EvalGate, AFailureAtTheEndLeavesNoPass) {
  const std::string outputs = " --json " + path("end.json") + " --junit " + path("end.xml") + " --markdown " + path("end.md");
  const RunResult run = eval(path("a") + text() + gate("[perplexity.value]\nmax = 1e9\n") + outputs + " --update-baseline --baseline " + path("no/folder/base.json"),
                             "GITHUB_STEP_SUMMARY=" + path("end.summary"));
  EXPECT_EQ(run.code, 2);
  EXPECT_FALSE(fs::exists(path("end.json")));
  EXPECT_HAS(read_text_file(path("end.xml")), "errors=\"1\"");
  for (const char* name : {"end.md", "end.summary"}) {
    EXPECT_HAS(read_text_file(path(name)), "cannot decide");
    EXPECT_EQ(read_text_file(path(name)).find("pass"), std::string::npos) << name;
  }
  // A name that is no text stands as far as it is one.
  const std::string odd = path("od\xe9.gguf");
  ASSERT_EQ(test::run_attar("quantize " + path("a") + " -o '" + odd + "' --type q8_0 --quiet").code, 0);
  const RunResult named = eval("'" + odd + "'" + text() + gate("[perplexity.value]\nmax = 1e9\n") + outputs);
  EXPECT_EQ(named.code, 0) << named.output;
  for (const char* name : {"end.json", "end.xml", "end.md"}) {
    EXPECT_FALSE(find_invalid_utf8(read_text_file(path(name)))) << name;
    EXPECT_HAS(read_text_file(path(name)), "od\xEF\xBF\xBD.gguf");
  }
}

TEST_F(EvalGate, PackedWeightsTimesRoundedActivations) {
  ASSERT_EQ(test::run_attar("quantize " + path("a") + " -o " + path("a.gguf") + " --type q8_0 --quiet").code, 0);
  const std::string arguments = path("a.gguf") + text() + tasks() + " --limit 10 --reference " + path("a.gguf");
  const auto exact = result(arguments + " --float"), packed = result(arguments);
  const double ratio = packed["perplexity"]["value"].get<double>() / exact["perplexity"]["value"].get<double>();
  EXPECT_NE(ratio, 1);
  EXPECT_NEAR(ratio, 1, 0.01);
  EXPECT_EQ(packed["kl_divergence"]["mean"], 0) << "both sides alike";
  EXPECT_NE(packed["protocol"]["hash"], exact["protocol"]["hash"]);
  EXPECT_EQ(packed, result(arguments + " --threads 3"));
  const auto floats = result(path("a") + text());
  EXPECT_EQ(floats["protocol"]["hash"], packed["protocol"]["hash"]) << "a float model and a quantized one may be compared";
  EXPECT_EQ(floats["perplexity"], result(path("a") + text() + " --float")["perplexity"]);
}

TEST_F(EvalGate, WorstTokensAndParts) {
  const auto json = result(path("a") + text() + " --reference " + path("b"));
  EXPECT_EQ(json["breakdown"]["worst_tokens"].size(), 20u);
  EXPECT_EQ(json["breakdown"]["by_unit"].size(), json["protocol"]["chunks"]);
  EXPECT_EQ(json["breakdown"]["worst_tokens"][0]["kl"], json["kl_divergence"]["max"]);
  EXPECT_HAS(eval(path("a") + text() + " --worst 3").output, "worst tokens, by -ln p");
}

TEST_F(EvalGate, WhatContradictsItselfIsRefused) {
  const auto refused = [](const std::string& arguments, const std::string& part) {
    const RunResult run = eval(arguments);
    EXPECT_EQ(run.code, 2) << arguments;
    EXPECT_HAS(run.output, part);
  };
  refused(path("a"), "nothing to measure");
  refused(path("a") + tasks() + " --save-reference " + path("x.ref"), "--save-reference needs --data");
  refused(path("a") + text() + " --reference " + path("b") + " --save-reference " + path("x.ref"), "without --reference");
  refused(path("a") + text() + " --items " + path("x"), "give --tasks");
  refused(path("a") + text() + " --junit " + path("x"), "give --gate");
  refused(path("a") + text() + " --update-baseline", "needs --baseline");
  refused(path("a") + text() + " --baseline " + path("x"), "give --gate");
  refused(path("a") + tasks() + "," + path("choose.jsonl"), "two tasks are called 'choose'");
  refused(path("a") + tasks() + gate("[tasks.chose.acc]\nmin = 0\n"), "did you mean 'choose'?");
  refused(path("a") + tasks() + gate("[tasks.choose.acc_nrom]\nmin = 0\n"), "did you mean 'acc_norm'?");
  write_text_file(path("bad.jsonl"), "{\"query\": \"q\", \"choices\": [\"a\", \"b\"], \"gold\": 5}\n");
  refused(path("a") + tasks("bad.jsonl"), "bad.jsonl:1: 'gold' is 5");
  write_text_file(path("empty.jsonl"), "");
  refused(path("a") + tasks("empty.jsonl"), "no item");
  write_text_file(path("long.jsonl"), "{\"context\": \"a\", \"continuation\": \"" + std::string(100, 'b') + "\"}\n");
  refused(path("a") + tasks("long.jsonl"), "long.jsonl:1: ");
}

}  // namespace
}  // namespace attar
