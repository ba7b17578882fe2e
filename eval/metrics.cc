#include "eval/metrics.h"

#include <cmath>

#include "base/error.h"
#include "base/text.h"

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

std::vector<Metric> make_table() {
  std::vector<Metric> table;
  const auto add = [&](std::string name, std::string meaning, Needs needs, std::function<double(const EvalResult&)> read) {
    table.push_back({std::move(name), std::move(meaning), needs, std::move(read)});
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
  estimate("cloze.accuracy", "cloze.uncertainty", "share of cloze items answered right", Needs::kCloze,
           [](R r) -> E { return r.cloze->accuracy; });
  return table;
}

nlohmann::json number(double value) { return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json(nullptr); }

nlohmann::json model_json(const ModelSummary& model) {
  return {{"path", model.path},
          {"hash", model.hash},
          {"parameters", model.parameters},
          {"tensor_bytes", model.tensor_bytes}};
}

}  // namespace

const std::vector<Metric>& all_metrics() {
  static const std::vector<Metric> table = make_table();
  return table;
}

const Metric& find_metric(std::string_view name) {
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
    case Needs::kText: return true;
    case Needs::kReference: return result.divergence.has_value();
    case Needs::kCloze: return result.cloze.has_value();
  }
  return false;
}

nlohmann::json to_json(const EvalResult& result) {
  nlohmann::json json;
  for (const Metric& metric : all_metrics()) {
    if (!measured(metric, result)) continue;
    const auto dot = metric.name.find('.');
    json[metric.name.substr(0, dot)][metric.name.substr(dot + 1)] = number(metric.read(result));
  }
  if (result.cloze) json["cloze"]["items"] = result.cloze->items;
  json["model"] = model_json(result.model);
  if (result.reference) json["reference"] = model_json(*result.reference);
  const Protocol& p = result.protocol;
  json["protocol"] = {{"name", "llama-perplexity"},
                      {"data", p.data},
                      {"data_hash", p.data_hash},
                      {"tokenizer_hash", p.tokenizer_hash},
                      {"context", p.context},
                      {"chunks", p.chunks},
                      {"tokens", p.tokens},
                      {"bytes", p.bytes},
                      {"tokens_scored", p.scored}};
  if (p.reference_tokens > 0) json["protocol"]["reference_tokens"] = p.reference_tokens;
  return json;
}

}  // namespace attar
