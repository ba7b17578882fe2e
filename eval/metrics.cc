#include "eval/metrics.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/error.h"
#include "base/text.h"
#include "eval/confidence.h"

namespace attar {
namespace {

struct Rank {
  const char* name;
  double fraction;
  const char* words;
};

// Those that llama-perplexity prints.
constexpr Rank kKlRanks[] = {{"max", 1, "maximum"},
                             {"p99_9", 0.999, "99.9th percentile"},
                             {"p99", 0.99, "99th percentile"},
                             {"p95", 0.95, "95th percentile"},
                             {"p90", 0.9, "90th percentile"},
                             {"median", 0.5, "median"},
                             {"p10", 0.1, "10th percentile"},
                             {"p5", 0.05, "5th percentile"},
                             {"p1", 0.01, "1st percentile"},
                             {"p0_1", 0.001, "0.1th percentile"},
                             {"min", 0, "minimum"}};
constexpr Rank kDeltaRanks[] = {{"max", 1, "maximum"},
                                {"p99_9", 0.999, "99.9th percentile"},
                                {"p99", 0.99, "99th percentile"},
                                {"p95", 0.95, "95th percentile"},
                                {"p90", 0.9, "90th percentile"},
                                {"p75", 0.75, "75th percentile"},
                                {"median", 0.5, "median"},
                                {"p25", 0.25, "25th percentile"},
                                {"p10", 0.1, "10th percentile"},
                                {"p5", 0.05, "5th percentile"},
                                {"p1", 0.01, "1st percentile"},
                                {"p0_1", 0.001, "0.1th percentile"},
                                {"min", 0, "minimum"}};

// Metrics that summarise() and evaluate() keep samples of, for the reference too, and for the model only.
const std::set<std::string> kOfReference{"perplexity.value",      "perplexity.nll",        "bits_per_byte.value",
                                         "byte_perplexity.value", "word_perplexity.value", "cloze.accuracy"};
const std::set<std::string> kSampled{"perplexity_ratio.value", "perplexity_ratio.ln", "kl_divergence.mean",
                                     "delta_p.mean",           "delta_p.rms",         "same_top.share",
                                     "acceptance.rate",        "acceptance.expected_4", "acceptance.expected_8"};
const std::vector<std::string> kTaskMetrics{"acc", "acc_norm", "acc_bytes", "perplexity", "exact_match"};
constexpr std::string_view kTasks = "tasks.", kStderr = "_stderr";

std::vector<Metric> make_table() {
  std::vector<Metric> table;
  const auto add = [&](std::string name, std::string meaning, Needs needs, std::function<double(const EvalResult&)> read) {
    const bool of_reference = kOfReference.contains(name), sampled = of_reference || kSampled.contains(name);
    table.push_back({std::move(name), std::move(meaning), needs, sampled, of_reference, std::move(read)});
  };
  // A value and its uncertainty.
  const auto estimate = [&](const std::string& value_name, const std::string& uncertainty_name,
                            const std::string& meaning, Needs needs,
                            std::function<const Estimate&(const EvalResult&)> read) {
    add(value_name, meaning, needs, [read](const EvalResult& r) { return read(r).value; });
    add(uncertainty_name, "one standard error of " + value_name, needs,
        [read](const EvalResult& r) { return read(r).uncertainty; });
  };
  using R = const EvalResult&;
  using E = const Estimate&;
  constexpr Needs kRef = Needs::kReference;

  estimate("perplexity.value", "perplexity.uncertainty", "exp of the mean of -ln p(token)", Needs::kText,
           [](R r) -> E { return r.perplexity; });
  estimate("perplexity.nll", "perplexity.nll_uncertainty", "mean of -ln p(token), nats", Needs::kText,
           [](R r) -> E { return r.nll; });
  estimate("bits_per_byte.value", "bits_per_byte.uncertainty", "-log2 p of the tokens by the bytes they stand for", Needs::kText,
           [](R r) -> E { return r.bits_per_byte; });
  estimate("byte_perplexity.value", "byte_perplexity.uncertainty", "exp of -ln p(text) per byte", Needs::kRolling,
           [](R r) -> E { return r.byte_perplexity; });
  estimate("word_perplexity.value", "word_perplexity.uncertainty", "exp of -ln p(text) per word", Needs::kRolling,
           [](R r) -> E { return r.word_perplexity; });
  estimate("reference_perplexity.value", "reference_perplexity.uncertainty", "perplexity of the reference", kRef,
           [](R r) -> E { return r.divergence->reference_perplexity; });
  estimate("reference_bits_per_byte.value", "reference_bits_per_byte.uncertainty",
           "bits per byte of the reference, with its own tokens", kRef,
           [](R r) -> E { return r.divergence->reference_bits_per_byte; });
  estimate("perplexity_ratio.value", "perplexity_ratio.uncertainty", "perplexity / reference perplexity", kRef,
           [](R r) -> E { return r.divergence->perplexity_ratio; });
  estimate("perplexity_ratio.ln", "perplexity_ratio.ln_uncertainty", "ln of that ratio", kRef,
           [](R r) -> E { return r.divergence->log_ratio; });
  add("perplexity_ratio.correlation", "correlation of both models' mean -ln p", kRef,
      [](R r) { return r.divergence->correlation; });
  estimate("perplexity_difference.value", "perplexity_difference.uncertainty", "perplexity - reference perplexity", kRef,
           [](R r) -> E { return r.divergence->perplexity_difference; });

  estimate("kl_divergence.mean", "kl_divergence.uncertainty", "mean KL(reference || model), nats", kRef,
           [](R r) -> E { return r.divergence->kl.mean; });
  for (const Rank& rank : kKlRanks)
    add(cat("kl_divergence.", rank.name), cat(rank.words, " over positions"), kRef,
        [f = rank.fraction](R r) { return percentile(r.divergence->kl.ascending, f); });

  estimate("delta_p.mean", "delta_p.uncertainty", "mean of p(token) - reference p(token)", kRef,
           [](R r) -> E { return r.divergence->delta_p.mean; });
  estimate("delta_p.rms", "delta_p.rms_uncertainty", "root mean square of that difference", kRef,
           [](R r) -> E { return r.divergence->delta_p_rms; });
  for (const Rank& rank : kDeltaRanks)
    add(cat("delta_p.", rank.name), cat(rank.words, " over positions"), kRef,
        [f = rank.fraction](R r) { return percentile(r.divergence->delta_p.ascending, f); });

  estimate("same_top.share", "same_top.uncertainty", "share of positions with the same most probable token", kRef,
           [](R r) -> E { return r.divergence->same_top; });
  estimate("acceptance.rate", "acceptance.uncertainty", "mean of sum min(p, q): how often the reference takes a drafted token", kRef,
           [](R r) -> E { return r.divergence->acceptance; });
  add("acceptance.expected_4", "tokens of 4 drafted that the reference takes, on average", kRef,
      [](R r) { return r.divergence->expected_4; });
  add("acceptance.expected_8", "tokens of 8 drafted that the reference takes, on average", kRef,
      [](R r) { return r.divergence->expected_8; });
  estimate("cloze.accuracy", "cloze.uncertainty", "share of cloze items answered right", Needs::kCloze,
           [](R r) -> E { return r.cloze->accuracy; });
  return table;
}

// One standard error of a sampled figure, as statistics.h has it.
double standard_error(const Samples& samples) {
  const Estimate m = mean(samples.sums);
  return (samples.link == Samples::Link::kExp ? exponential(m) : m).uncertainty;
}

Metric task_metric(const std::string& name) {
  const bool error = name.ends_with(kStderr);
  const std::string of = error ? name.substr(0, name.size() - kStderr.size()) : name;
  const auto read = [of, error](const EvalResult& r) {
    const auto found = r.samples.find(of);
    return found == r.samples.end() ? std::nan("") : error ? standard_error(found->second) : found->second.value();
  };
  return {name, error ? cat("one standard error of ", of) : "of the task's items", Needs::kTask, !error, !error, read};
}

nlohmann::json task_json(const TaskResult& task, const EvalResult& result) {
  nlohmann::json json{{"kind", task.kind},   {"hash", task.hash},       {"items", task.items},
                      {"shots", task.shots}, {"context", task.context}, {"bos", task.bos}};
  for (const std::string& metric : task.metrics) {
    const std::string name = cat(kTasks, task.name, ".", metric);
    json[metric] = number_or_null(result.samples.at(name).value());
    json[metric + std::string(kStderr)] = number_or_null(standard_error(result.samples.at(name)));
    if (const auto found = result.reference_samples.find(name); found != result.reference_samples.end())
      json["reference"][metric] = number_or_null(found->second.value());
  }
  return json;
}

}  // namespace

const std::vector<Metric>& all_metrics() {
  static const std::vector<Metric> table = make_table();
  return table;
}

std::string task_of(const std::string& metric) {
  if (!metric.starts_with(kTasks)) return "";
  return metric.substr(kTasks.size(), metric.rfind('.') - std::min(metric.rfind('.'), kTasks.size()));
}

Metric find_metric(std::string_view wanted) {
  const std::string name(wanted);
  if (name.starts_with(kTasks)) {
    const auto dot = name.find('.', kTasks.size());
    std::string metric = dot == std::string::npos ? "" : name.substr(dot + 1);
    if (metric.ends_with(kStderr)) metric.resize(metric.size() - kStderr.size());
    if (std::find(kTaskMetrics.begin(), kTaskMetrics.end(), metric) != kTaskMetrics.end()) return task_metric(name);
    fail("unknown metric '", name, "': a task's are called tasks.NAME.METRIC", suggest(metric, kTaskMetrics));
  }
  std::vector<std::string> names;
  for (const Metric& metric : all_metrics()) {
    if (metric.name == name) return metric;
    names.push_back(metric.name);
  }
  const std::string near = nearest(name, names);
  fail("unknown metric '", name, "'",
       near.empty() ? "; docs/evaluation.md lists them, kl_divergence.mean is one" : cat("; did you mean '", near, "'?"));
}

bool measured(const Metric& metric, const EvalResult& result) {
  switch (metric.needs) {
    case Needs::kText: return result.protocol.scored > 0;
    case Needs::kRolling: return result.protocol.scored > 0 && result.rolling();
    case Needs::kReference: return result.divergence.has_value();
    case Needs::kCloze: return result.cloze.has_value();
    case Needs::kTask: return result.samples.contains(metric.name.ends_with(kStderr) ? metric.name.substr(0, metric.name.size() - kStderr.size()) : metric.name);
  }
  return false;
}

nlohmann::json to_json(const EvalResult& result, const Resampling& resampling) {
  nlohmann::json json{{"schema", kResultSchema}};
  for (const Metric& metric : all_metrics()) {
    if (!measured(metric, result)) continue;
    const auto dot = metric.name.find('.');
    json[metric.name.substr(0, dot)][metric.name.substr(dot + 1)] = number_or_null(metric.read(result));
  }
  if (result.cloze) json["cloze"]["items"] = result.cloze->items, json["cloze"]["hash"] = result.cloze->hash;
  for (const TaskResult& task : result.tasks) json["tasks"][task.name] = task_json(task, result);
  json["model"] = to_json(result.model);
  if (result.reference) json["reference"] = to_json(*result.reference), json["reference"]["stored"] = result.stored_reference;
  json["protocol"] = to_json(result.protocol);
  json["protocol"]["hash"] = result.protocol.hash();
  if (result.protocol.scored > 0) json["breakdown"] = to_json(result.breakdown);
  json["confidence"] = {{"level", kConfidence}, {"seed", resampling.seed}, {"replicates", resampling.replicates}};
  for (const auto& [name, samples] : result.samples) {
    json["samples"][name] = to_json(samples);
    json["confidence"]["intervals"][name] = interval_json(samples, resampling);
    if (const auto found = result.reference_samples.find(name); found != result.reference_samples.end())
      json["confidence"]["against_reference"][name] = to_json(difference(samples, found->second, resampling), "reference");
  }
  return json;
}

}  // namespace attar
