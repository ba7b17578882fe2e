#include "eval/gate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <set>

#include "base/error.h"

namespace attar {
namespace {

std::string message(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}
bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// Four positions, reference and all.
EvalResult sample() {
  TokenScores scores;
  scores.nll = {1, 2, 3, 4};
  scores.reference_nll = {1, 2, 3, 3};
  scores.kl = {0.01, 0.02, 0.03, 0.1};
  scores.same_top = {1, 1, 1, 0};
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
  const auto error = [](const std::string& toml) { return message([&] { parse_gate(toml, "gate.toml"); }); };
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
  EXPECT_TRUE(has(error("[kl_divergence.mean]\nmax = 1\nmax = 2\n"), "not TOML"));
  EXPECT_TRUE(has(message([] { read_gate("/nowhere/gate.toml"); }), "/nowhere/gate.toml"));
}

TEST(Gate, CannotDecideWhatWasNotMeasured) {
  const auto gate = parse_gate("[kl_divergence.mean]\nmax = 1\n", "g");
  EXPECT_TRUE(has(message([&] { require_measurable(gate, false, false); }), "--reference"));
  EXPECT_NO_THROW(require_measurable(gate, true, false));
  EXPECT_TRUE(has(message([] { require_measurable(parse_gate("[cloze.accuracy]\nmin = 0.5\n", "g"), true, false); }),
                  "builtin:heldout"));

  EvalResult alone;
  summarise({.nll = {1, 2}}, alone);
  EXPECT_EQ(check_gate(gate, alone).outcome, Outcome::kUndecided);
  EvalResult single;  // one value has no uncertainty
  summarise({.nll = {1}}, single);
  EXPECT_EQ(judge("[perplexity.uncertainty]\nmax = 1\n", single).outcome, Outcome::kUndecided);
  EXPECT_EQ(judge("[perplexity.uncertainty]\nmax = 1\n[perplexity.value]\nmax = 1\n", single).outcome, Outcome::kWorse);
  EXPECT_EQ(check_gate({}, alone).outcome, Outcome::kUndecided) << "no threshold is no pass";
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
