#include "eval/gate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <set>

#include "base/error.h"
#include "tests/support.h"

namespace attar {
namespace {

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// Four positions, reference and all.
EvalResult sample() {
  TokenScores scores;
  scores.nll = {1, 2, 3, 4};
  scores.reference_nll = {1, 2, 3, 3};
  scores.kl = {0.01, 0.02, 0.03, 0.1};
  scores.same_top = {1, 1, 1, 0};
  scores.acceptance = {0.9, 0.9, 0.9, 0.8};
  EvalResult result;
  summarise(std::move(scores), result);
  return result;
}

GateVerdict judge(const std::string& toml, const EvalResult& result) {
  return check_gate(parse_gate(toml, "gate.toml"), result);
}

TEST(Gate, PassesAndFails) {
  const EvalResult result = sample();
  EXPECT_EQ(judge("[kl_divergence.mean]\nmax = 0.05\n[same_top.share]\nmin = 0.7\n", result).outcome, Outcome::kPass);
  const GateVerdict verdict = judge("[kl_divergence.mean]\nmax = 0.03\n[same_top.share]\nmin = 0.7\n", result);
  EXPECT_EQ(verdict.outcome, Outcome::kWorse);
  EXPECT_EQ(verdict.checks[0].outcome, Outcome::kWorse);
  EXPECT_EQ(verdict.checks[1].outcome, Outcome::kPass);
  EXPECT_EQ(judge("[same_top.share]\nmin = 0.76\n", result).outcome, Outcome::kWorse);
  EXPECT_TRUE(has(text(judge("[same_top.share]\nmin = 0.76\n", result)), "gate: worse: same_top.share = 0.75, min 0.76"));
  EXPECT_EQ(to_json(verdict)["checks"][0]["max"], 0.03);
  EXPECT_EQ(to_json(verdict)["checks"][1]["min"], 0.7);
}

TEST(Summary, DraftsAreTakenAsFarAsTheirTokensAre) {
  TokenScores scores;
  scores.acceptance = {0.5, 0.8, 1, 0.25, 0.6, 0.9, 0.9, 0.9, 0.9};
  scores.nll = scores.reference_nll = scores.kl = std::vector<double>(9, 1);
  scores.same_top.assign(9, 1);
  TextPlan plan;
  plan.sequences.push_back({{}, 0, 5, 0});
  plan.sequences.push_back({{}, 0, 4, 1});
  plan.bytes = {5, 4}, plan.words = {1, 1};
  EvalResult result;
  summarise(scores, result, plan);
  // Drafts of four begin at the first two places of the first text and at the first of the second; none goes on into the next text.
  const double first = 0.5 + 0.4 + 0.4 + 0.1, second = 0.8 + 0.8 + 0.2 + 0.12, third = 0.9 + 0.81 + 0.729 + 0.6561;
  EXPECT_NEAR(result.divergence->expected_4, (first + second + third) / 3, 1e-12);
  EXPECT_TRUE(std::isnan(result.divergence->expected_8)) << "no text is so long";
}

TEST(Gate, BoundsAreExactAndNothingIsRounded) {
  const EvalResult result = sample();
  const Metric& metric = find_metric("kl_divergence.mean");
  const double value = metric.read(result);
  std::vector<Threshold> gate{{.metric = "kl_divergence.mean", .max = value}};
  EXPECT_EQ(check_gate(gate, result).outcome, Outcome::kPass) << "met exactly";
  gate[0].max = std::nextafter(value, 0);
  EXPECT_EQ(check_gate(gate, result).outcome, Outcome::kWorse) << "one bit too strict";
  EXPECT_TRUE(has(text(check_gate(gate, result)), "0.04, max 0.0399999")) << text(check_gate(gate, result));
}

TEST(Gate, WholeNumbersAndBothBounds) {
  const EvalResult result = sample();
  EXPECT_EQ(judge("[perplexity.value]\nmin = 1\nmax = 13\n", result).outcome, Outcome::kPass);  // e^2.5 = 12.18
  EXPECT_EQ(judge("[perplexity.value]\nmin = 13\nmax = 14\n", result).outcome, Outcome::kWorse);
}

TEST(Gate, NestedAndQuotedNamesAreTheSame) {
  for (const char* toml : {"[kl_divergence.mean]\nmax = 0.05\n", "kl_divergence.mean.max = 0.05\n",
                           "[kl_divergence]\nmean = {max = 0.05}\n", "[\"kl_divergence.mean\"]\nmax = 0.05\n"}) {
    const auto gate = parse_gate(toml, "g");
    ASSERT_EQ(gate.size(), 1u) << toml;
    EXPECT_EQ(gate[0].metric, "kl_divergence.mean");
    EXPECT_EQ(gate[0].max, 0.05);
  }
}

TEST(Gate, RefusesABadFile) {
  const auto error = [](const std::string& toml) { return test::error_of([&] { parse_gate(toml, "gate.toml"); }); };
  EXPECT_TRUE(has(error("[kl_divergance.mean]\nmax = 1\n"), "did you mean 'kl_divergence.mean'?"));
  EXPECT_TRUE(has(error("[kl_divergence]\nmax = 1\n"), "unknown metric 'kl_divergence'"));
  EXPECT_TRUE(has(error("[kl_divergence.mean]\nmaxx = 1\n"), "did you mean 'max'?"));
  EXPECT_TRUE(has(error("[kl_divergence.mean]\nmax = \"low\"\n"), "must be a finite number"));
  EXPECT_TRUE(has(error("[kl_divergence.mean]\nmax = nan\n"), "must be a finite number"));
  EXPECT_TRUE(has(error("[kl_divergence.mean]\nmax = inf\n"), "must be a finite number"));
  EXPECT_TRUE(has(error("[kl_divergence.mean]\nmax = true\n"), "must be a finite number"));
  EXPECT_TRUE(has(error("[kl_divergence.mean]\n"), "neither min nor max"));
  EXPECT_TRUE(has(error("[same_top.share]\nmin = 0.9\nmax = 0.8\n"), "nothing can pass"));
  EXPECT_TRUE(has(error("max = 1\n"), "stands outside a metric's table"));
  EXPECT_TRUE(has(error(""), "no threshold"));
  EXPECT_TRUE(has(error("# nothing\n"), "no threshold"));
  EXPECT_TRUE(has(error("[kl_divergence.mean\nmax = 1\n"), "line 1: not TOML"));
  EXPECT_TRUE(has(error("[perplexity.value]\nmax_ratio = 1.1\n"), "needs against"));
  EXPECT_TRUE(has(error("[perplexity.value]\nmax = 5\nagainst = \"reference\"\n"), "but not by how much"));
  EXPECT_TRUE(has(error("[perplexity.value]\nmax_increase = -1\nagainst = \"reference\"\n"), "0 or more"));
  EXPECT_TRUE(has(error("[perplexity.value]\nmax_ratio = 0\nagainst = \"reference\"\n"), "a ratio is above 0"));
  EXPECT_TRUE(has(error("[perplexity.value]\nmax_ratio = 1\nagainst = \"teacher\"\n"), "\"reference\" or \"baseline\""));
  EXPECT_TRUE(has(error("[kl_divergence.mean]\nmax_ratio = 1\nagainst = \"reference\"\n"), "has no kl_divergence.mean of its own"));
  EXPECT_TRUE(has(error("[kl_divergence.p99]\nmax = 1\nsignificance = 0.05\n"), "is no mean"));
  EXPECT_TRUE(has(error("[kl_divergence.mean]\nmax = 1\nsignificance = 5\n"), "probability"));
  EXPECT_TRUE(has(error("[kl_divergence.mean]\nmax = 1\ndetect = 0\n"), "above 0"));
  EXPECT_TRUE(has(error("[tasks.arc.accc]\nmin = 1\n"), "did you mean 'acc'?"));
  EXPECT_TRUE(has(error("[kl_divergence.mean]\nmax = 1\nmax = 2\n"), "not TOML"));
  EXPECT_TRUE(has(test::error_of([] { read_gate("/nowhere/gate.toml"); }), "/nowhere/gate.toml"));
}

TEST(Gate, CannotDecideWhatWasNotMeasured) {
  const auto gate = parse_gate("[kl_divergence.mean]\nmax = 1\n", "g");
  EXPECT_TRUE(has(test::error_of([&] { require_measurable(gate, {.text = true}, false); }), "--reference"));
  EXPECT_NO_THROW(require_measurable(gate, {.text = true, .reference = true}, false));
  const auto refused = [](const std::string& toml, const Planned& planned, bool baseline = false) {
    return test::error_of([&] { require_measurable(parse_gate(toml, "g"), planned, baseline); });
  };
  EXPECT_TRUE(has(refused("[cloze.accuracy]\nmin = 0.5\n", {.text = true, .reference = true}), "builtin:heldout"));
  EXPECT_TRUE(has(refused("[perplexity.value]\nmax = 5\n", {.tasks = {{"a", {"acc"}}}}), "--data"));
  EXPECT_TRUE(has(refused("[word_perplexity.value]\nmax = 5\n", {.text = true}), "--protocol rolling"));
  EXPECT_TRUE(has(refused("[tasks.arc.acc]\nmin = 0.5\n", {.tasks = {{"ark", {"acc"}}}}), "did you mean 'ark'?"));
  EXPECT_TRUE(has(refused("[tasks.arc.perplexity]\nmax = 5\n", {.tasks = {{"arc", {"acc", "acc_norm"}}}}), "it has acc, acc_norm"));
  EXPECT_EQ(refused("[tasks.arc.acc_norm_stderr]\nmax = 1\n", {.tasks = {{"arc", {"acc", "acc_norm"}}}}), "no error");
  EXPECT_TRUE(has(refused("[tasks.arc.acc]\nmin = 0.5\n", {.text = true}), "--tasks"));
  const std::string against = "[tasks.arc.acc]\nmax_decrease = 0.01\nagainst = ";
  EXPECT_TRUE(has(refused(against + "\"baseline\"\n", {.tasks = {{"arc", {"acc"}}}}), "--baseline"));
  EXPECT_TRUE(has(refused(against + "\"reference\"\n", {.reference = true, .tasks = {{"arc", {"acc"}}}}), "stored reference"));
  EXPECT_EQ(refused(against + "\"reference\"\n", {.reference = true, .tasks_of_reference = true, .tasks = {{"arc", {"acc"}}}}), "no error");

  EvalResult alone;
  summarise({.nll = {1, 2}}, alone);
  EXPECT_EQ(check_gate(gate, alone).outcome, Outcome::kUndecided);
  EvalResult single;  // one value has no uncertainty
  summarise({.nll = {1}}, single);
  EXPECT_EQ(judge("[perplexity.uncertainty]\nmax = 1\n", single).outcome, Outcome::kUndecided);
  EXPECT_EQ(judge("[perplexity.uncertainty]\nmax = 1\n[perplexity.value]\nmax = 1\n", single).outcome, Outcome::kWorse);
  EXPECT_EQ(check_gate({}, alone).outcome, Outcome::kUndecided) << "no threshold is no pass";
}

// Two models' answers to n items: the first `lost` only the other has right, the next `won` only this one, of the rest two thirds both.
EvalResult answered(std::size_t n, std::size_t lost, std::size_t won) {
  EvalResult result;
  Samples model{Samples::Link::kMean, {}, std::vector<double>(n, 1.0)}, other = model;
  for (std::size_t i = 0; i < n; ++i) {
    model.sums.push_back(i < lost ? 0 : i < lost + won ? 1 : i % 3 != 0);
    other.sums.push_back(i < lost ? 1 : i < lost + won ? 0 : i % 3 != 0);
  }
  result.samples["tasks.t.acc"] = model;
  result.reference_samples["tasks.t.acc"] = other;
  result.tasks.push_back({.name = "t", .kind = "multiple_choice", .hash = "h", .items = static_cast<std::int64_t>(n), .context = 64, .metrics = {"acc"}});
  return result;
}

std::string drop(const std::string& margin, const std::string& more = "") {
  return "[tasks.t.acc]\nagainst = \"reference\"\nmax_decrease = " + margin + "\n" + more;
}

TEST(Gate, AgainstTheReference) {
  EXPECT_EQ(judge(drop("0.05"), answered(100, 5, 0)).outcome, Outcome::kPass) << "met exactly";
  EXPECT_EQ(judge(drop("0.04"), answered(100, 5, 0)).outcome, Outcome::kWorse);
  EXPECT_EQ(judge(drop("0"), answered(100, 0, 5)).outcome, Outcome::kPass) << "better";
  const EvalResult text = sample();
  EXPECT_EQ(judge("[perplexity.value]\nagainst = \"reference\"\nmax_ratio = 1.3\n", text).outcome, Outcome::kPass);  // e^0.25 = 1.284
  EXPECT_EQ(judge("[perplexity.value]\nagainst = \"reference\"\nmax_ratio = 1.28\n", text).outcome, Outcome::kWorse);
  EXPECT_EQ(judge("[perplexity.nll]\nagainst = \"reference\"\nmax_increase = 0.25\n", text).outcome, Outcome::kPass);
  EXPECT_EQ(judge("[perplexity.nll]\nagainst = \"reference\"\nmax_increase = 0.24\n", text).outcome, Outcome::kWorse);
  EXPECT_EQ(judge("[perplexity.value]\nagainst = \"reference\"\nmin_ratio = 1.3\n", text).outcome, Outcome::kWorse);
}

TEST(Gate, SignificanceForgivesChanceAndSeesMore) {
  const std::string sure = "significance = 0.05\n";
  EXPECT_EQ(judge(drop("0"), answered(100, 4, 0)).outcome, Outcome::kWorse);
  EXPECT_EQ(judge(drop("0", sure), answered(100, 4, 0)).outcome, Outcome::kPass) << "1 in 16";
  EXPECT_EQ(judge(drop("0", sure), answered(100, 5, 0)).outcome, Outcome::kWorse) << "1 in 32";
  EXPECT_EQ(judge(drop("0.05", sure), answered(100, 8, 0)).outcome, Outcome::kPass) << "8 may well be 5";
  EXPECT_EQ(judge(drop("0.05", sure), answered(1000, 80, 0)).outcome, Outcome::kWorse);
  EvalResult text;
  TokenScores scores;
  for (int i = 0; i < 50; ++i) scores.nll.push_back(1 + 0.1 * (i % 5)), scores.reference_nll.push_back(1), scores.kl.push_back(0.1 * (i % 5));
  scores.acceptance = scores.kl;
  scores.same_top.assign(50, 1);
  summarise(scores, text);
  const auto kl = [&](const std::string& max) { return judge("[kl_divergence.mean]\nmax = " + max + "\n" + sure, text).outcome; };
  EXPECT_EQ(kl("0.19"), Outcome::kPass) << "0.2 with a standard error of 0.02";
  EXPECT_EQ(kl("0.1"), Outcome::kWorse);
}

TEST(Gate, SaysWhatItCannotSee) {
  GateVerdict verdict = judge(drop("0.01"), answered(50, 0, 0));
  EXPECT_EQ(verdict.outcome, Outcome::kPass);
  EXPECT_TRUE(verdict.checks[0].is_warning);
  EXPECT_TRUE(has(verdict.checks[0].note, "cannot tell changes of 0.01 from chance with 50")) << verdict.checks[0].note;
  EXPECT_TRUE(has(text(verdict), "warning: "));
  verdict = judge(drop("0.01", "significance = 0.05\ndetect = 0.02\n"), answered(50, 0, 0));
  EXPECT_EQ(verdict.outcome, Outcome::kUndecided) << "it must see 0.02 and cannot";
  verdict = judge(drop("0", "significance = 0.05\ndetect = 0.02\n"), answered(1000, 0, 0));
  EXPECT_EQ(verdict.outcome, Outcome::kPass) << text(verdict);
  EXPECT_FALSE(verdict.checks[0].is_warning);
  verdict = judge(drop("0", "significance = 0.05\ndetect = 0.02\n"), answered(50, 20, 0));
  EXPECT_EQ(verdict.outcome, Outcome::kWorse) << "what it sees it sees";
  verdict = judge("[kl_divergence.mean]\nmax = 0.041\n", sample());
  EXPECT_TRUE(has(verdict.checks[0].note, "chance decides")) << verdict.checks[0].note;
}

TEST(Gate, SignificanceAloneDoesNotHideWhatCannotBeSeen) {
  const std::string sure = "significance = 0.05\n";
  GateVerdict verdict = judge(drop("0", sure), answered(4, 4, 0));  // from all right to all wrong: 1 in 16
  EXPECT_EQ(verdict.outcome, Outcome::kUndecided);
  EXPECT_TRUE(has(verdict.checks[0].note, "could not tell even a total loss from chance with 4")) << verdict.checks[0].note;
  verdict = judge(drop("0", sure), answered(100, 4, 0));
  EXPECT_EQ(verdict.outcome, Outcome::kPass);
  EXPECT_TRUE(verdict.checks[0].is_warning);
  EXPECT_TRUE(has(verdict.checks[0].note, "beyond the bound, but chance alone goes so far more often than 0.05 with 100")) << verdict.checks[0].note;
  EXPECT_FALSE(judge(drop("0", sure), answered(100, 0, 0)).checks[0].is_warning) << "no worse at all";
}

TEST(Gate, AbsoluteBoundsOfAnswersAreJudgedByTheBinomial) {
  const auto of = [](const std::string& toml, std::size_t n, std::size_t right) {
    EvalResult result = answered(n, 0, 0);
    Samples& acc = result.samples.at("tasks.t.acc");
    for (std::size_t i = 0; i < n; ++i) acc.sums[i] = i < right ? 1 : 0;
    return judge("[tasks.t.acc]\n" + toml, result).checks.front();
  };
  const std::string sure = "significance = 0.05\n";
  EXPECT_EQ(of("min = 0.9\n" + sure + "detect = 0.02\n", 2, 2).outcome, Outcome::kUndecided) << "two right answers show next to nothing";
  EXPECT_EQ(of("min = 0.5\nsignificance = 0.001\n", 2, 0).outcome, Outcome::kUndecided) << "1 in 4 by chance";
  EXPECT_EQ(of("min = 0.5\n" + sure, 10, 2).outcome, Outcome::kPass) << "P(X <= 2) = 56 / 1024";
  EXPECT_EQ(of("min = 0.5\n" + sure, 10, 1).outcome, Outcome::kWorse) << "P(X <= 1) = 11 / 1024";
  EXPECT_EQ(of("max = 0.5\n" + sure, 10, 9).outcome, Outcome::kWorse);
  EXPECT_EQ(of("min = 0\n" + sure, 10, 0).outcome, Outcome::kPass) << "nothing lies below";
  EXPECT_EQ(of("min = 0.9\ndetect = 0.05\n" + sure, 1000, 950).outcome, Outcome::kPass);
}

TEST(Gate, WithoutAMarginItSaysIfItIsBlind) {
  const std::string sure = "significance = 0.05\n";
  const GateCheck check = judge(drop("0", sure), answered(8, 0, 0)).checks.front();
  EXPECT_EQ(check.outcome, Outcome::kPass);
  EXPECT_TRUE(check.is_warning);
  EXPECT_TRUE(has(check.note, "cannot even see a worsening by a quarter with 8")) << check.note;
}

TEST(Gate, RatiosAreOfFiguresAboveZero) {
  EvalResult now = sample(), before = sample();
  before.model.architecture = now.model.architecture = "llama";
  const Baseline baseline(to_json(before), "base.json");
  const auto outcome = [&](const std::string& metric) {
    return check_gate(parse_gate("[" + metric + "]\nagainst = \"baseline\"\nmin_ratio = 0.9\n", "g"), now, &baseline).checks.front();
  };
  EXPECT_EQ(outcome("perplexity.value").outcome, Outcome::kPass);
  EXPECT_LT(outcome("delta_p.mean").value, 0);
  EXPECT_EQ(outcome("delta_p.mean").outcome, Outcome::kUndecided);
  EXPECT_TRUE(has(outcome("delta_p.mean").note, "not both above 0")) << outcome("delta_p.mean").note;
}

TEST(Gate, ABaselineThatContradictsItselfDecidesNothing) {
  nlohmann::json json = to_json(sample());
  const auto judged = [&] {
    const Baseline baseline(json, "base.json");
    return check_gate(parse_gate("[perplexity.value]\nagainst = \"baseline\"\nmax_ratio = 1\n", "g"), sample(), &baseline).checks.front();
  };
  EXPECT_EQ(judged().outcome, Outcome::kPass);
  json["perplexity"]["value"] = 1000;
  EXPECT_EQ(judged().outcome, Outcome::kUndecided);
  EXPECT_TRUE(has(judged().note, "the baseline contradicts itself")) << judged().note;
  json.erase("perplexity");
  EXPECT_EQ(judged().outcome, Outcome::kUndecided);
  json = to_json(sample());
  json["samples"]["perplexity.value"]["link"] = "banana";
  EXPECT_HAS(test::error_of([&] { judged(); }), "unknown link 'banana'");
}

TEST(Gate, OtherNumbersOfItemsAreNotCompared) {
  EvalResult result = answered(100, 0, 0);
  result.reference_samples["tasks.t.acc"] = answered(50, 0, 0).samples.at("tasks.t.acc");
  const GateVerdict verdict = judge(drop("0.5"), result);
  EXPECT_EQ(verdict.outcome, Outcome::kUndecided);
  EXPECT_TRUE(has(verdict.checks[0].note, "on 100 chunks, documents or items here and on 50 there")) << verdict.checks[0].note;
}

TEST(Gate, AgainstABaseline) {
  EvalResult before = answered(100, 0, 0);
  before.model.architecture = "llama";
  const Baseline baseline(to_json(before), "base.json");
  EvalResult now = answered(100, 5, 0);
  now.model.architecture = "llama";
  // `before` had all that `other` of `now` has.
  const auto outcome = [&](const std::string& margin) {
    const std::string toml = "[tasks.t.acc]\nagainst = \"baseline\"\nmax_decrease = " + margin + "\n";
    return check_gate(parse_gate(toml, "g"), now, &baseline).outcome;
  };
  EXPECT_NO_THROW(baseline.require_comparable(now));
  EXPECT_DOUBLE_EQ(baseline.value("tasks.t.acc"), before.samples.at("tasks.t.acc").value());
  EXPECT_EQ(baseline.samples("tasks.t.acc")->sums, before.samples.at("tasks.t.acc").sums);
  EXPECT_EQ(outcome("0.05"), Outcome::kPass);
  EXPECT_EQ(outcome("0.02"), Outcome::kWorse);
  EXPECT_EQ(check_gate(parse_gate("[tasks.u.acc]\nagainst = \"baseline\"\nmax_decrease = 1\n", "g"), now, &baseline).outcome,
            Outcome::kUndecided);
}

TEST(Gate, ABaselineOfSomethingElseIsRefused) {
  EvalResult before = answered(10, 0, 0);
  before.protocol.data_hash = "text", before.protocol.scored = 3;
  before.reference = ModelSummary{.hash = "teacher"};
  nlohmann::json json = to_json(before);
  const auto refused = [&](const std::function<void(EvalResult&)>& change) {  // against `before`, as `json` has it
    EvalResult now = before;
    change(now);
    return test::error_of([&] { Baseline(json, "base.json").require_comparable(now); });
  };
  EXPECT_EQ(refused([](EvalResult&) {}), "no error");
  EXPECT_TRUE(has(refused([](EvalResult& r) { r.model.layers = 7; }), "the model's number of layers is 0 there and 7 here"));
  EXPECT_TRUE(has(refused([](EvalResult& r) { r.model.architecture = "qwen2"; }), "architecture"));
  EXPECT_TRUE(has(refused([](EvalResult& r) { r.protocol.data_hash = "other"; }), "hash of the text"));
  EXPECT_TRUE(has(refused([](EvalResult& r) { r.protocol.tokenizer_hash = "other"; }), "hash of the tokenizer"));
  EXPECT_TRUE(has(refused([](EvalResult& r) { r.protocol.context = 9; }), "the context"));
  EXPECT_TRUE(has(refused([](EvalResult& r) { r.protocol.name = "rolling"; }), "the protocol"));
  EXPECT_TRUE(has(refused([](EvalResult& r) { r.protocol.tokens = 9; }), "protocol's hash"));
  EXPECT_TRUE(has(refused([](EvalResult& r) { r.reference->hash = "other"; }), "hash of the reference"));
  EXPECT_TRUE(has(refused([](EvalResult& r) { r.tasks[0].hash = "other"; }), "its items or how they were asked differ"));
  EXPECT_TRUE(has(refused([](EvalResult& r) { r.tasks[0].bos = false; }), "its items or how they were asked differ"));
  const nlohmann::json of_text = json;
  before.protocol = {};  // tasks alone
  before.cloze = ClozeAccuracy{{0.5, 0.1}, 20, "twenty"};
  json = to_json(before);
  EXPECT_EQ(refused([](EvalResult&) {}), "no error");
  EXPECT_TRUE(has(refused([](EvalResult& r) { r.protocol.tokenizer_hash = "other"; }), "hash of the tokenizer"));
  EXPECT_TRUE(has(refused([](EvalResult& r) { r.protocol.packed = true; }), "stay packed"));
  EXPECT_TRUE(has(refused([](EvalResult& r) { r.cloze->hash = "forty"; }), "hash of the cloze items"));
  const auto bad = [](const nlohmann::json& changed) { return test::error_of([&] { Baseline(changed, "base.json"); }); };
  nlohmann::json other = of_text;
  other["schema"] = "attar.eval.0";
  EXPECT_TRUE(has(bad(other), "has schema 'attar.eval.0'"));
  other.erase("schema");
  EXPECT_TRUE(has(bad(other), "no result of attar eval"));
  EXPECT_TRUE(has(bad(nlohmann::json::array()), "expected a JSON object"));
  EXPECT_TRUE(has(test::error_of([] { Baseline("/nowhere/base.json"); }), "/nowhere/base.json"));
}

TEST(Metrics, SampledOnesHaveSamplesAndTheirValues) {
  const EvalResult result = sample();
  for (const Metric& metric : all_metrics()) {
    if (!metric.sampled || metric.needs == Needs::kCloze || metric.needs == Needs::kRolling || metric.name == "bits_per_byte.value") continue;
    ASSERT_TRUE(result.samples.contains(metric.name)) << metric.name;
    EXPECT_EQ(result.reference_samples.contains(metric.name), metric.of_reference) << metric.name;
    const double value = metric.read(result);
    if (!std::isnan(value)) {
      EXPECT_NEAR(result.samples.at(metric.name).value(), value, 1e-12) << metric.name;
    }
  }
  for (const auto& [name, samples] : result.samples) EXPECT_TRUE(find_metric(name).sampled) << name;
}

TEST(Metrics, NamesAreUniqueAndEveryOneIsInTheJson) {
  EvalResult result = sample();
  result.cloze = ClozeAccuracy{{0.5, 0.1}, 20};
  const auto json = to_json(result);
  std::set<std::string> names;
  for (const Metric& metric : all_metrics()) {
    EXPECT_TRUE(names.insert(metric.name).second) << metric.name;
    const auto dot = metric.name.find('.');
    ASSERT_NE(dot, std::string::npos);
    if (!measured(metric, result)) continue;  // those of the rolling protocol
    const auto& value = json.at(metric.name.substr(0, dot)).at(metric.name.substr(dot + 1));
    const double expected = metric.read(result);
    if (std::isnan(expected)) EXPECT_TRUE(value.is_null()) << metric.name;
    else EXPECT_EQ(value.get<double>(), expected) << metric.name;
  }
  EXPECT_EQ(json.at("same_top").at("share"), 0.75);
  EXPECT_EQ(json.at("protocol").at("tokens_scored"), 4);
}

TEST(Metrics, ValuesByHand) {
  const EvalResult result = sample();
  const auto value = [&](const char* name) { return find_metric(name).read(result); };
  EXPECT_DOUBLE_EQ(value("perplexity.value"), std::exp(2.5));
  EXPECT_DOUBLE_EQ(value("perplexity.uncertainty"), std::exp(2.5) * std::sqrt(1.25 / 3));
  EXPECT_DOUBLE_EQ(value("reference_perplexity.value"), std::exp(2.25));
  EXPECT_DOUBLE_EQ(value("perplexity_ratio.value"), std::exp(0.25));
  EXPECT_DOUBLE_EQ(value("perplexity_ratio.ln"), 0.25);
  EXPECT_DOUBLE_EQ(value("perplexity_difference.value"), std::exp(2.5) - std::exp(2.25));
  EXPECT_DOUBLE_EQ(value("kl_divergence.mean"), 0.04);
  EXPECT_DOUBLE_EQ(value("kl_divergence.median"), 0.025);
  EXPECT_DOUBLE_EQ(value("kl_divergence.max"), 0.1);
  EXPECT_DOUBLE_EQ(value("kl_divergence.p90"), 0.03 + 0.7 * 0.07);
  const double delta = std::exp(-4.0) - std::exp(-3.0);
  EXPECT_DOUBLE_EQ(value("delta_p.mean"), delta / 4);
  EXPECT_DOUBLE_EQ(value("delta_p.rms"), std::abs(delta) / 2);
  EXPECT_DOUBLE_EQ(value("delta_p.min"), delta);
  EXPECT_EQ(value("delta_p.max"), 0);
  EXPECT_DOUBLE_EQ(value("same_top.uncertainty"), std::sqrt(0.75 * 0.25 / 3));
}

TEST(Metrics, TableNamesWhatWasMeasured) {
  EvalResult result = sample();
  result.model.parameters = 100;
  result.model.tensor_bytes = 50;
  const std::string table = table_text(result);
  EXPECT_TRUE(has(table, "4.00 bits per weight")) << table;
  EXPECT_TRUE(has(table, "12.1825"));
  EXPECT_TRUE(has(table, "0.040000"));
  EvalResult alone;
  summarise({.nll = {1, 2}}, alone);
  EXPECT_FALSE(has(table_text(alone), "KL"));
}

}  // namespace
}  // namespace attar
