#include "eval/result.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>

#include "base/text.h"

namespace attar {
namespace {

Distribution distribution(std::vector<double> values) {
  Distribution result;
  result.mean = mean(values);
  std::sort(values.begin(), values.end());
  result.ascending = std::move(values);
  return result;
}

Estimate scaled(const Estimate& estimate, double factor) { return {estimate.value * factor, estimate.uncertainty * factor}; }

// Sums of per-position values over units.
class Units {
 public:
  Units(const TextPlan& plan, std::size_t positions) : plan_(plan) {
    for (const Sequence& s : plan.sequences) of_.insert(of_.end(), static_cast<std::size_t>(s.end - s.begin), s.unit);
    if (plan.sequences.empty()) {
      of_.resize(positions);
      std::iota(of_.begin(), of_.end(), std::size_t{0});
    }
    count_ = plan.sequences.empty() ? positions : plan.bytes.size();
  }

  template <class F>
  Samples samples(F value, Samples::Link link = Samples::Link::kMean) const {
    Samples result{link, std::vector<double>(count_), std::vector<double>(count_)};
    for (std::size_t i = 0; i < of_.size(); ++i) result.sums[of_[i]] += value(i), result.weights[of_[i]] += 1;
    return result;
  }

  // Drafts of `length` tokens, one begun at every position that has so many after it in its sequence: how many of them are taken,
  // a_1 + a_1 a_2 + ..., with a the acceptance of each position.
  Samples accepted(const std::vector<double>& acceptance, std::int64_t length) const {
    Samples result{Samples::Link::kMean, std::vector<double>(count_), std::vector<double>(count_)};
    std::size_t first = 0;
    for (const Sequence& s : plan_.sequences) {
      for (std::int64_t p = 0; p + length <= s.end - s.begin; ++p) {
        double run = 1, sum = 0;
        for (std::int64_t j = 0; j < length; ++j) sum += run *= acceptance[first + static_cast<std::size_t>(p + j)];
        result.sums[s.unit] += sum, result.weights[s.unit] += 1;
      }
      first += static_cast<std::size_t>(s.end - s.begin);
    }
    return result;
  }

 private:
  const TextPlan& plan_;
  std::vector<std::size_t> of_;  // per position
  std::size_t count_ = 0;
};

// Perplexity and its relatives of one model; nll gives -ln p at a position.
void add_perplexities(std::map<std::string, Samples>& samples, const Units& units, const std::vector<double>& nll,
                      const TextPlan& plan, bool rolling) {
  samples["perplexity.nll"] = units.samples([&](std::size_t i) { return nll[i]; });
  Samples perplexity = samples["perplexity.nll"];
  perplexity.link = Samples::Link::kExp;
  if (!plan.bytes.empty()) {
    Samples bits = samples["perplexity.nll"];
    for (double& sum : bits.sums) sum /= std::numbers::ln2;
    bits.weights = plan.bytes;
    samples["bits_per_byte.value"] = std::move(bits);
  }
  if (rolling) {
    samples["byte_perplexity.value"] = {Samples::Link::kExp, perplexity.sums, plan.bytes};
    samples["word_perplexity.value"] = {Samples::Link::kExp, perplexity.sums, plan.words};
  }
  samples["perplexity.value"] = std::move(perplexity);
}

double total(const std::vector<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); }

}  // namespace

nlohmann::json to_json(const ModelSummary& model) {
  return {{"path", model.path},
          {"hash", model.hash},
          {"parameters", model.parameters},
          {"tensor_bytes", model.tensor_bytes},
          {"architecture", model.architecture},
          {"layers", model.layers},
          {"hidden_size", model.hidden_size},
          {"vocab_size", model.vocab_size}};
}

ModelSummary read_model_summary(const JsonReader& json) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  return {json.text("path"),
          json.text("hash"),
          static_cast<std::uint64_t>(json.integer("parameters", 0, kMost)),
          static_cast<std::uint64_t>(json.integer("tensor_bytes", 0, kMost)),
          json.text("architecture"),
          json.integer("layers", 0, kMost),
          json.integer("hidden_size", 0, kMost),
          json.integer("vocab_size", 0, 1 << 24)};
}

std::string Protocol::hash() const {
  nlohmann::json json = to_json(*this);
  json.erase("data");
  json.erase("hash");
  const std::string text = json.dump();
  return content_hash(as_bytes(text));
}

nlohmann::json to_json(const Protocol& p) {
  nlohmann::json json{{"name", p.name},       {"data", p.data},     {"data_hash", p.data_hash}, {"tokenizer_hash", p.tokenizer_hash},
          {"context", p.context}, {"chunks", p.chunks}, {"tokens", p.tokens},       {"tokens_scored", p.scored},
          {"bytes", p.bytes},     {"packed", p.packed}};
  if (p.reference_tokens > 0) json["reference_tokens"] = p.reference_tokens;
  return json;
}

Protocol read_protocol(const JsonReader& json) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  return {json.text("name"),
          json.text("data"),
          json.text("data_hash"),
          json.text("tokenizer_hash"),
          json.integer("context", 0, kMost),
          json.integer("chunks", 0, kMost),
          json.integer("tokens", 0, kMost),
          json.integer("bytes", 0, kMost),
          json.integer("reference_tokens", 0, kMost, 0),
          json.integer("tokens_scored", 0, kMost),
          json.boolean("packed", false)};
}

void summarise(TokenScores scores, EvalResult& result, const TextPlan& plan) {
  const Units units(plan, scores.size());
  result.nll = mean(scores.nll);
  result.perplexity = exponential(result.nll);
  result.protocol.scored = static_cast<std::int64_t>(scores.size());
  add_perplexities(result.samples, units, scores.nll, plan, result.rolling());
  const auto positions = static_cast<double>(scores.size());
  const double bytes = total(plan.bytes), words = total(plan.words);
  result.bits_per_byte = result.rolling() ? scaled(result.nll, positions / bytes / std::numbers::ln2)
                                          : bits_per_byte(scores.nll, scores.bytes);
  result.byte_perplexity = exponential(scaled(result.nll, positions / bytes));
  result.word_perplexity = exponential(scaled(result.nll, positions / words));
  if (!scores.kl.empty()) {
    Divergence divergence;
    add_perplexities(result.reference_samples, units, scores.reference_nll, plan, result.rolling());
    const PairedMeans pair = paired_means(scores.nll, scores.reference_nll);
    divergence.reference_perplexity = exponential(mean(scores.reference_nll));
    divergence.reference_bits_per_byte = bits_per_byte(scores.reference_nll, scores.bytes);
    divergence.log_ratio = pair.difference;
    divergence.perplexity_ratio = exponential(pair.difference);
    divergence.perplexity_difference =
        difference(result.perplexity, divergence.reference_perplexity,
                   result.perplexity.value * divergence.reference_perplexity.value * pair.covariance);
    divergence.correlation = pair.correlation;
    divergence.kl = distribution(scores.kl);
    std::vector<double> delta_p = scores.delta_p();
    divergence.delta_p_rms = root_mean_square(delta_p);
    divergence.same_top = share(std::count(scores.same_top.begin(), scores.same_top.end(), 1),
                                static_cast<std::int64_t>(scores.same_top.size()));
    divergence.acceptance = mean(scores.acceptance);

    auto& samples = result.samples;
    samples["perplexity_ratio.ln"] = units.samples([&](std::size_t i) { return scores.nll[i] - scores.reference_nll[i]; });
    samples["perplexity_ratio.value"] = samples["perplexity_ratio.ln"];
    samples["perplexity_ratio.value"].link = Samples::Link::kExp;
    samples["kl_divergence.mean"] = units.samples([&](std::size_t i) { return scores.kl[i]; });
    samples["delta_p.mean"] = units.samples([&](std::size_t i) { return delta_p[i]; });
    samples["delta_p.rms"] = units.samples([&](std::size_t i) { return delta_p[i] * delta_p[i]; }, Samples::Link::kRoot);
    samples["same_top.share"] = units.samples([&](std::size_t i) { return scores.same_top[i] != 0 ? 1.0 : 0.0; });
    samples["acceptance.rate"] = units.samples([&](std::size_t i) { return scores.acceptance[i]; });
    samples["acceptance.expected_4"] = units.accepted(scores.acceptance, 4);
    samples["acceptance.expected_8"] = units.accepted(scores.acceptance, 8);
    divergence.expected_4 = samples["acceptance.expected_4"].value();
    divergence.expected_8 = samples["acceptance.expected_8"].value();
    divergence.delta_p = distribution(std::move(delta_p));
    result.divergence = std::move(divergence);
  }
  result.scores = std::move(scores);
}

}  // namespace attar
