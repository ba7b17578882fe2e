// Result files read back, judged, and drawn.
#include "eval/report/results.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "base/error.h"
#include "base/files.h"
#include "base/text.h"
#include "eval/report/digest.h"
#include "eval/report/evidence.h"
#include "eval/report/figures.h"
#include "eval/report/heat_map.h"
#include "eval/report/tensor_table.h"
#include "tests/eval/report/samples.h"
#include "tests/eval/report/xml.h"
#include "tests/support.h"

namespace attar {
namespace {

using test::json;
using test::report_of;

json gated(const std::string& outcome) {
  json eval = test::eval_json();
  eval["gate"] = test::gate_json(outcome);
  return eval;
}

TEST(Results, FilesOfOneModelComeTogether) {
  const Report report = report_of({test::run_json(), test::eval_json(), test::quantize_json(), test::bench_json()});
  ASSERT_EQ(report.models.size(), 2u);
  const ReportedModel& small = report.model("out/small.gguf");
  EXPECT_EQ(small.role, "quantized");
  EXPECT_EQ(small.hash, "h-out/small.gguf");
  EXPECT_EQ(small.name, "small.gguf");
  EXPECT_EQ(small.decode_rate, 1476.25) << "the run's, which came first";
  EXPECT_EQ(small.prompt_rate, 418.452);
  EXPECT_EQ(small.weight_bytes, 1'250'000);
  EXPECT_EQ(small.bits_per_weight(), 5);
  ASSERT_EQ(report.evaluations.size(), 2u) << "the run's figures of the teacher; those of the student are in its evaluation";
  const ReportedEvaluation& eval = report.evaluations.back();
  EXPECT_EQ(eval.metrics.at("perplexity.value").value, 2.7794321);
  EXPECT_EQ(eval.metrics.at("perplexity.value").uncertainty, 0.0131);
  EXPECT_EQ(eval.metrics.at("perplexity.nll").uncertainty, 0.0047);
  EXPECT_FALSE(eval.metrics.at("delta_p.mean").uncertainty);
  EXPECT_EQ(eval.metrics.count("kl_divergence.uncertainty"), 0u);
}

TEST(Results, AnotherModelAtTheSamePathIsAnother) {
  json rebuilt = test::eval_json("out/small.gguf", 0.5, 2'500'000);
  rebuilt["model"]["hash"] = "0123456789abcdef";
  const Report report = report_of({test::eval_json(), rebuilt});
  EXPECT_EQ(report.model("out/small.gguf").weight_bytes, 1'250'000);
  EXPECT_EQ(report.model("out/small.gguf (01234567)").weight_bytes, 2'500'000);
  EXPECT_EQ(report.evaluations.back().model, "out/small.gguf (01234567)");
}

TEST(Results, NamesAreAsShortAsTellsThemApart) {
  const Report report = report_of({test::bench_json("a/x/model"), test::bench_json("b/x/model"), test::bench_json("b/other.gguf"), test::bench_json("builtin:teacher")});
  std::vector<std::string> names;
  for (const ReportedModel& model : report.models) names.push_back(model.name);
  EXPECT_EQ(names, (std::vector<std::string>{"a/x/model", "b/x/model", "other.gguf", "builtin:teacher"}));
}

TEST(Results, TensorsOfQuantizeAndOfEvalAreOneTable) {
  json eval = test::eval_json();
  eval["layers"] = {{"kl_sum", 0.02}, {"kl_together", 0.019}, {"separable", true},
                    {"tensors", {{{"name", "model.layers.1.mlp.down_proj.weight"}, {"type", "q4_0"}, {"weight_error", 0.5}, {"output_error", 0.25}, {"kl_divergence", 0.015}, {"share", 0.75}}}}};
  for (const bool first : {true, false}) {
    const Report report = first ? report_of({eval, test::quantize_json()}) : report_of({test::quantize_json(), eval});
    ASSERT_EQ(report.tensors.size(), 1u);
    const TensorTable& table = report.tensors[0];
    EXPECT_EQ(table.tensors.size(), 7u);
    for (const ReportedTensor& one : table.tensors)
      if (one.name == "model.layers.1.mlp.down_proj.weight") {
        EXPECT_EQ(one.kl, 0.015);
        EXPECT_EQ(one.output_error, 0.25) << "of eval, on held-out text";
        EXPECT_EQ(one.fallback, "288 columns");
      }
    EXPECT_EQ(table.kl_together, 0.019);
  }
}

json sure_json() {
  json eval = test::eval_json();
  eval["tasks"]["choose"] = {{"acc", 0.5}, {"acc_stderr", 0.05}, {"hash", "c1"}};
  eval["confidence"] = {{"intervals", {{"perplexity.value", {{"n", 8}, {"low", 2.75}, {"high", 2.81}}}, {"perplexity.nll", {{"n", 8}, {"low", 1.01}, {"high", 1.03}}}, {"tasks.choose.acc", {{"n", 100}, {"low", 0.4}, {"high", 0.6}}}}},
                        {"against_reference", {{"tasks.choose.acc", {{"n", 100}, {"difference", -0.03}, {"low", -0.07}, {"high", 0.01}, {"p", 0.25}, {"lost", 5}, {"won", 2}, {"detectable", 0.08}}}}}};
  eval["breakdown"] = {{"by_place", {{{"from", 64}, {"to", 96}, {"nll", 1.5}, {"kl", 0.02}}, {{"from", 96}, {"to", 128}, {"nll", 1.25}, {"kl", 0.01}}}},
                       {"by_unit", {{{"unit", 0}, {"scored", 63}, {"nll", 1.0}, {"reference_nll", 0.9}, {"kl", 0.01}, {"begins", "One day"}},
                                    {{"unit", 1}, {"scored", 63}, {"nll", 0.5}, {"reference_nll", 0.4}, {"kl", 0.03}, {"begins", "The cat"}}}}};
  return eval;
}

TEST(Results, HowSureFiguresAreIsToldForEachMetric) {
  const Report report = report_of({sure_json()});
  const Group group = groups_of(report).front();
  const Table all = confidence_table(report, group, false), main = confidence_table(report, group, true);
  ASSERT_EQ(all.rows.size(), 3u);
  ASSERT_EQ(main.rows.size(), 2u) << "without perplexity.nll";
  const std::vector<std::string> head = {"model", "metric", "value", "from", "to", "n", "less the reference's", "from", "to", "p", "only the reference right", "only it right", "detectable"};
  EXPECT_EQ(main.head, head);
  const std::vector<double> expected = {0.5, 0.4, 0.6, 100, -0.03, -0.07, 0.01, 0.25, 5, 2, 0.08};
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(main.rows[1][i + 2].value->value, expected[i]) << head[i + 2];
  EXPECT_TRUE(main.rows[0][6].empty()) << "the reference's perplexity is not in this file";
  EXPECT_TRUE(confidence_table(report_of({test::eval_json()}), groups_of(report_of({test::eval_json()})).front(), false).rows.empty());
}

TEST(Results, WorstChunksComeFirstAndPlacesInTheirOrder) {
  const Report report = report_of({sure_json()});
  const Table units = unit_table(report.evaluations.front());
  ASSERT_EQ(units.rows.size(), 2u);
  EXPECT_EQ(units.rows[0][1].text, "The cat") << "diverges more, though it is the easier text";
  EXPECT_EQ(units.rows[0].back().value->value, 0.03);
  EXPECT_EQ(unit_table(report.evaluations.front(), 1).rows.size(), 1u);
  const Table places = place_table(report, groups_of(report).front());
  ASSERT_EQ(places.rows.size(), 2u);
  EXPECT_EQ(places.rows[0][0].text, "64 to 95");
  EXPECT_EQ(places.rows[1][1].value->value, 0.01);
}

json said(const std::string& model, const std::string& text, const std::string& how = "temperature 1, seed 3") {
  return {{"attar", "0.1.0"}, {"command", "generate"}, {"model", model}, {"model_hash", "h-" + model}, {"prompt", {{"text", "Once"}}}, {"how", how}, {"text", text}};
}

TEST(Results, ATaskThatOneFileLacksDoesNotJoinTwoThatDiffer) {
  const auto with = [](const std::string& path, const json& task) {
    json eval = test::eval_json(path);
    if (!task.is_null()) eval["tasks"]["arc"] = task;
    return eval;
  };
  const json four = {{"acc", 0.5}, {"hash", "h4"}, {"items", 4}, {"context", 64}}, twelve = {{"acc", 0.5}, {"hash", "h12"}, {"items", 12}, {"context", 64}};
  json unprefixed = four;
  unprefixed["bos"] = false;
  EXPECT_EQ(groups_of(report_of({with("a", nullptr), with("b", four)})).size(), 1u);
  EXPECT_EQ(groups_of(report_of({with("a", nullptr), with("b", four), with("c", twelve)})).size(), 2u);
  EXPECT_EQ(groups_of(report_of({with("b", four), with("c", unprefixed)})).size(), 2u) << "asked without BOS";
  json cloze = with("a", nullptr), other = with("b", nullptr);
  cloze["cloze"] = {{"accuracy", 0.5}, {"hash", "c10"}}, other["cloze"] = {{"accuracy", 0.5}, {"hash", "c40"}};
  EXPECT_EQ(groups_of(report_of({cloze, other})).size(), 2u);
  EXPECT_EQ(report_of({with("b", four)}).evaluations.front().metrics.count("tasks.arc.items"), 0u) << "a setting is no figure";
}

TEST(Results, TextsOfTheSameWordsStandSideBySide) {
  const Report report = report_of({said("models/big", " upon"), said("out/small.gguf", " a"), said("out/small.gguf", " b", "temperature 1, seed 4"), said("out/small.gguf", " c"), test::run_json()});
  ASSERT_EQ(report.samples.size(), 4u);
  const std::vector<std::pair<std::string, std::string>> together = {{"teacher", " upon"}, {"quantized", " a"}};  // the run knows what they are
  EXPECT_EQ(report.samples[0].answers, together);
  EXPECT_EQ(report.samples[1].how, "temperature 1, seed 4");
  EXPECT_EQ(report.samples[2].answers.size(), 1u) << "a second answer of the same model is not another's";
  EXPECT_EQ(report.samples[3].answers.size(), 2u) << "the run's own";
}

TEST(Results, AComparisonRepeatsEvaluations) {
  const json eval = test::eval_json();
  const json row = {{"path", "out/small.gguf"}, {"from", "e.json"}, {"hash", "h-out/small.gguf"}, {"reference", "models/big"}, {"tensor_bytes", 1'250'000}, {"parameters", 2'000'000},
                    {"metrics", {{"perplexity.value", {{"value", 2.75}, {"uncertainty", 0.5}}}}}};
  json other = row;
  other["path"] = "out/other.gguf", other["hash"] = "x";
  const json compare = {{"attar", "0.1.0"}, {"command", "compare"}, {"groups", {{{"models", {row, other}}, {"protocol", eval["protocol"]}}}}};
  const Report both = report_of({compare, eval});
  ASSERT_EQ(both.evaluations.size(), 2u);
  EXPECT_EQ(both.evaluations[0].model, "out/other.gguf");
  EXPECT_EQ(both.evaluations[0].metrics.at("perplexity.value").uncertainty, 0.5);
  EXPECT_EQ(both.evaluations[1].metrics.at("perplexity.value").value, 2.7794321) << "in full";
  json elsewhere = eval;
  elsewhere["protocol"]["context"] = 64;
  EXPECT_EQ(report_of({compare, elsewhere}).evaluations.size(), 3u) << "measured otherwise";
  EXPECT_EQ(groups_of(report_of({compare})).front().reference, "models/big");
}

TEST(Results, WorkOfQuantizingIsInTheTableOfTensors) {
  json quantize = test::quantize_json();
  quantize["tensors"][1].update({{"rounded_error", 0.04}, {"clipped", 0.25}, {"damping", 0.1}, {"dead_columns", 3}, {"seconds", 1.5}});
  quantize["sums"] = {{"weight_error", 0.005}, {"output_error", 0.0005}, {"dead_columns", 3}, {"seconds", 9.0}};
  quantize["gains"] = {{{"method", "gptq"}, {"measure", "output error"}, {"before", 0.04}, {"after", 0.01}}};
  const Report report = report_of({quantize});
  const Table table = tensor_table(report.tensors.front());
  ASSERT_EQ(table.rows.size(), 8u) << "seven tensors and their sums";
  std::set<double> second, last;
  for (const Cell& cell : table.rows[1])
    if (cell.value) second.insert(cell.value->value);
  for (const Cell& cell : table.rows.back())
    if (cell.value) last.insert(cell.value->value);
  for (const double figure : {0.04, 0.25, 0.1, 3.0, 1.5}) EXPECT_TRUE(second.count(figure)) << figure;
  EXPECT_EQ(last, (std::set<double>{0.005, 0.0005, 3.0, 9.0}));
  EXPECT_EQ(report.origins.front().facts.back(), (std::pair<std::string, std::string>("gain of gptq", "0.04000 -> 0.01000, output error")));
}

TEST(Results, FactsAreOfTheModelThatTheGateJudged) {
  const Report report = report_of({gated("pass"), test::eval_json("out/finer.gguf", 0.001)});
  EXPECT_HAS(plain_facts(report).front(), "The weights of small.gguf take");
  EXPECT_HAS(plain_facts(report_of({test::eval_json(), test::eval_json("out/finer.gguf", 0.001)})).front(), "The weights of finer.gguf take");
}

struct BadFile {
  const char* name;
  std::string text;
  const char* message;
};

class BadFileTest : public testing::TestWithParam<BadFile> {};

TEST_P(BadFileTest, IsNamedWithWhatIsWrong) {
  test::TempFolder folder;
  const fs::path file = folder / GetParam().name;
  write_text_file(file, GetParam().text);
  try {
    read_results({file.string()});
    FAIL() << "taken";
  } catch (const Error& error) {
    EXPECT_HAS(error.what(), file.string());
    EXPECT_HAS(error.what(), GetParam().message);
  }
}

std::string changed(json result, const std::string& pointer, const json& value) {
  result[json::json_pointer(pointer)] = value;
  return result.dump();
}

INSTANTIATE_TEST_SUITE_P(
    All, BadFileTest,
    testing::Values(BadFile{"a.json", "{\"attar\": ", "not valid JSON"}, BadFile{"a.json", "", "not valid JSON"},
                    BadFile{"a.json", "[1, 2]", "expected a JSON object, found array"},
                    BadFile{"a.json", "{\"model_type\": \"llama\"}", "is not a result of Attar"},
                    BadFile{"a.json", R"({"attar": "0.1.0", "command": "inspect"})", "is the result of attar inspect, which a report has no use for"},
                    BadFile{"a.json", R"({"attar": "9.0", "command": "eval", "schema": "attar.eval.7"})", "has schema 'attar.eval.7', written by attar 9.0; this program reads 'attar.eval.1'"},
                    BadFile{"a.json", R"({"attar": "0.1.0", "command": "eval"})", "the key 'model' is missing"},
                    BadFile{"a.json", changed(test::eval_json(), "/model/parameters", "many"), "model: 'parameters' must be a number, found string"},
                    BadFile{"a.json", changed(test::eval_json(), "/protocol/context", 1.5), "'context' must be a whole number"},
                    BadFile{"a.json", changed(test::quantize_json(), "/tensors", 3), "'tensors' must be a list"},
                    BadFile{"a.json", changed(test::quantize_json(), "/tensors/2", 3), "tensors[2]: expected a JSON object"},
                    BadFile{"t.jsonl", "", "holds no line of a training log"}, BadFile{"t.jsonl", "{\"kind\": \"train\", \"step\": 1}\nnonsense\n", "t.jsonl:2: not valid JSON"},
                    BadFile{"t.jsonl", "{\"text\": \"Once\"}\n", "t.jsonl:1: the key 'kind' is missing"}));

TEST(Results, NoFilesAndTheSameTwiceAreErrors) {
  EXPECT_THROW(read_results({}), Error);
  EXPECT_THROW(read_results({"/no/such/file.json"}), Error);
  test::TempFolder folder;
  write_text_file(folder / "e.json", test::eval_json().dump());
  const std::string file = (folder / "e.json").string();
  EXPECT_THROW(read_results({file, file}), Error);
}

TEST(Results, ALogCutShortByACrashIsReadAsFarAsItGoes) {
  test::TempFolder folder;
  write_text_file(folder / "train.jsonl", "{\"kind\": \"train\", \"step\": 1, \"kl\": 0.5}\n{\"kind\": \"tra");
  const Report report = read_results({(folder / "train.jsonl").string()});
  ASSERT_EQ(report.training.size(), 1u);
  EXPECT_EQ(report.training[0].lines.size(), 1u);
}

TEST(Verdict, FollowsTheGateAndSaysNoMore) {
  EXPECT_EQ(judge(report_of({gated("pass")})).sentence, "small.gguf is good enough: all 2 bounds of its gate hold.");
  const Verdict worse = judge(report_of({gated("worse")}));
  EXPECT_EQ(worse.outcome, "worse");
  EXPECT_EQ(worse.sentence, "small.gguf is not good enough: 1 of 2 bounds of its gate does not hold.");
  EXPECT_EQ(worse.reasons, std::vector<std::string>{"small.gguf: kl_divergence.mean is 0.01235, above 0.01"});
  EXPECT_EQ(judge(report_of({gated("undecided")})).outcome, "undecided");
  json other = gated("worse");
  other["model"]["path"] = "out/other.gguf";
  EXPECT_EQ(judge(report_of({gated("pass"), other})).outcome, "worse") << "the worst of all";
  other["gate"] = test::gate_json("pass");
  other["gate"]["outcome"] = "splendid";
  EXPECT_EQ(judge(report_of({gated("pass"), other})).outcome, "undecided") << "a word that is not known passes nothing";
  json empty = gated("pass"), torn = gated("pass");
  empty["gate"]["checks"] = json::array();
  torn["gate"]["checks"][0]["outcome"] = "worse";
  EXPECT_EQ(judge(report_of({empty})).outcome, "undecided") << "nothing was checked";
  EXPECT_EQ(judge(report_of({torn})).outcome, "worse") << "no better than its checks";
  const Verdict open = judge(report_of({test::eval_json()}));
  EXPECT_EQ(open.outcome, "open");
  EXPECT_HAS(open.sentence, "No gate was given");
  EXPECT_HAS(judge(report_of({test::quantize_json()})).sentence, "nothing is known of quality");
}

TEST(Verdict, WarningsOfTheGateAreSaid) {
  json blind = gated("pass");
  blind["gate"]["checks"][0].update({{"warning", true}, {"note", "cannot tell changes of 0.01 from chance"}});
  const Verdict verdict = judge(report_of({blind}));
  EXPECT_EQ(verdict.outcome, "pass");
  EXPECT_TRUE(verdict.sentence.ends_with("all 2 bounds of its gate hold, but the gate cannot see all it is to guard.")) << verdict.sentence;
  ASSERT_EQ(verdict.reasons.size(), 1u);
  EXPECT_TRUE(verdict.reasons[0].find("passes, with a warning: cannot tell changes of 0.01 from chance") != std::string::npos) << verdict.reasons[0];
}

TEST(Verdict, FactsAreThoseOfTheFiles) {
  const auto facts = plain_facts(report_of({test::eval_json()}));
  ASSERT_EQ(facts.size(), 3u);
  EXPECT_EQ(facts[0], "The weights of small.gguf take 1.25 MB, those of big 4.00 MB: 3.20 times as much.");
  EXPECT_EQ(facts[1], "Its perplexity is 2.779 ± 0.013, 7.5 % higher than the 2.585 of big, over 504 tokens of heldout.txt.");
  EXPECT_EQ(facts[2], "It diverges from big by 0.01235 ± 0.00051 nats a token on average and finds the same token most probable at 86.4 ± 1.1 % of them.");
  EXPECT_TRUE(plain_facts(report_of({test::quantize_json()})).empty());
}

TEST(Groups, AreOfOneProtocolEach) {
  json same = test::eval_json("other", 0.02), context = test::eval_json("third", 0.03), text = test::eval_json("fourth", 0.04);
  same["protocol"]["data"] = "renamed.txt";  // the same text by another name
  context["protocol"]["context"] = 256;
  text["protocol"]["data_hash"] = "d2";
  const Report report = report_of({test::eval_json(), same, context, text});
  const auto groups = groups_of(report);
  ASSERT_EQ(groups.size(), 3u);
  EXPECT_EQ(groups[0].evaluations.size(), 2u);
  EXPECT_EQ(groups[0].reference, "models/big");
  EXPECT_EQ(report.evaluations[0].protocol->difference(*report.evaluations[2].protocol), "context 128 against 256");
  EXPECT_EQ(report.evaluations[0].protocol->difference(*report.evaluations[3].protocol), "text heldout.txt (hash d1) against heldout.txt (hash d2)");
  EXPECT_EQ(model_table(report, groups[0], false).rows.size(), 2u);
  EXPECT_EQ(model_table(report, groups[0], true).rows.size(), 5u) << "with the reference and those of other protocols";
}

TEST(Plots, TicksAreRoundAndCoverTheData) {
  EXPECT_EQ(round_ticks(0, 1, false), (std::vector<double>{0, 0.5, 1}));
  EXPECT_EQ(round_ticks(2.58, 2.79, false).size(), 6u);
  EXPECT_EQ(round_ticks(0.001, 1, true), (std::vector<double>{0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1}));
  for (const auto& [low, high] : {std::pair{1e-9, 3e5}, {0.0234, 0.31}, {5.0, 6.0}, {940.0, 5250.0}, {1e-9, 1e5}})
    for (const bool logarithmic : {false, true}) {
      const auto ticks = round_ticks(low, high, logarithmic);
      ASSERT_GE(ticks.size(), 2u);
      EXPECT_LE(ticks.size(), 12u) << low;
      EXPECT_LE(ticks.front(), low * (1 + 1e-9));
      EXPECT_GE(ticks.back(), high * (1 - 1e-9)) << low << " " << logarithmic;
    }
}

// Where the marks of a series are: the circles that are drawn, not those that widen what the pointer meets.
std::vector<std::pair<double, double>> places(const Plot& plot) {
  std::vector<std::pair<double, double>> found;
  for (const test::XmlElement& one : test::XmlReader(draw(plot).html()).elements)
    if (one.name == "circle" && one.attributes.count("class") == 0) found.emplace_back(std::stod(one.attributes.at("cx")), std::stod(one.attributes.at("cy")));
  return found;
}

TEST(Plots, PointsStandWhereTheirValuesAre) {
  Plot plot{.id = "p", .title = "P"};
  plot.series = {{"", Series::Style::kPoints, 0, 0, {{0, 0}, {5, 25}, {10, 100}, {2, NAN}}}};
  auto at = places(plot);
  ASSERT_EQ(at.size(), 3u) << "NaN is left out";
  EXPECT_NEAR(at[1].first - at[0].first, at[2].first - at[1].first, 0.02);
  EXPECT_NEAR((at[0].second - at[1].second) * 4, at[0].second - at[2].second, 0.06) << "up is larger";
  plot.y.logarithmic = true;
  plot.series[0].points = {{0, 1}, {5, 10}, {10, 100}, {3, 0}};
  at = places(plot);
  ASSERT_EQ(at.size(), 3u) << "0 has no logarithm";
  EXPECT_NEAR(at[0].second - at[1].second, at[1].second - at[2].second, 0.02);
  plot.series[0].points.clear();
  EXPECT_HAS(draw(plot).html(), "nothing to draw");
  for (const double value : {0.0, -3.0, 1e300, 1e-300}) {  // a single value, whatever it is
    plot.y.logarithmic = false;
    plot.series[0].points = {{value, value}};
    EXPECT_EQ(places(plot).size(), 1u) << value;
  }
}

TEST(Plots, TheFrontHoldsWhatNoOtherBeats) {
  const Report report = report_of({test::eval_json("a", 0.1, 1000), test::eval_json("b", 0.05, 2000), test::eval_json("c", 0.2, 1500), test::eval_json("d", 0.01, 3000)});
  const auto plots = trade_offs(report, groups_of(report)[0]);
  ASSERT_EQ(plots.size(), 1u) << "no speeds";
  std::vector<std::string> front, others;
  for (const Series& series : plots[0].series)
    for (const PlotPoint& point : series.points)
      if (!point.label.empty()) (series.colour == 0 ? front : others).push_back(point.label);
  EXPECT_EQ(front, (std::vector<std::string>{"a", "b", "d"}));
  EXPECT_EQ(others, std::vector<std::string>{"c"});
  EXPECT_EQ(trade_offs(report_of({test::quantize_json()}), {}).size(), 0u);
}

TEST(HeatMap, PlacesTensorsByLayerAndKind) {
  const auto check = [](const char* name, long layer, const char* kind) {
    EXPECT_EQ(heat_place(name).layer, layer) << name;
    EXPECT_EQ(heat_place(name).kind, kind) << name;
  };
  check("model.layers.12.mlp.down_proj.weight", 12, "down");
  check("model.layers.0.self_attn.q_proj.bias", 0, "q bias");
  check("model.layers.0.input_layernorm.weight", 0, "input_layernorm");
  check("model.embed_tokens.weight", -1, "embed_tokens");
  check("model.layers.x.weight", -1, "x");
  check("", -1, "");
  const Report report = report_of({test::quantize_json()});
  const auto measures = measures_of(report.tensors[0]);
  ASSERT_EQ(measures.size(), 2u) << "no divergences here";
  std::size_t cells = 0;
  double darkest = 0;
  std::string darkest_tip, tip;
  for (const test::XmlElement& one : test::XmlReader(draw_heat_map(report.tensors[0], measures[1], "h").html()).elements) {
    if (one.name == "title") tip = one.text;
    if (one.name != "rect") continue;
    ++cells;
    if (const double opacity = std::stod(one.attributes.at("fill-opacity")); opacity > darkest) darkest = opacity, darkest_tip = tip;
  }
  EXPECT_EQ(cells, 7u);
  EXPECT_HAS(darkest_tip, "model.layers.2.");
  EXPECT_HAS(darkest_tip, "asked for q4_k (288 columns)");
}

TEST(Numbers, ReadWellAndExactly) {
  EXPECT_EQ(rounded(0.118532), "0.1185");
  EXPECT_EQ(rounded(1476.3), "1476");
  EXPECT_EQ(rounded(0), "0");
  EXPECT_EQ(rounded(1.2345e-7), "1.23e-7");
  EXPECT_EQ(in_unit(0.8635, Unit::kShare), "86.4 %");
  EXPECT_EQ(in_unit(2623232, Unit::kCount), "2.62 M");
  EXPECT_EQ(in_unit(Figure{0.1204, 0.0042}, Unit::kPlain), "0.1204 ± 0.0042");
  EXPECT_EQ(in_unit(Figure{0.5, NAN}, Unit::kPlain), "0.5000");
  for (const double value : {0.1, 1.0 / 3, 1e-300, 123456789.0, -2.5}) EXPECT_EQ(std::stod(exact(value)), value);
  EXPECT_EQ(exact(1'250'000), "1250000");
}

}  // namespace
}  // namespace attar
