#include "eval/confidence.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace attar {
namespace {

constexpr std::pair<const char*, Samples::Link> kLinks[] = {{"mean", Samples::Link::kMean}, {"exp", Samples::Link::kExp}, {"root", Samples::Link::kRoot}};

}  // namespace

nlohmann::json number_or_null(double value) { return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json(nullptr); }

nlohmann::json to_json(const Samples& samples) {
  const auto link = std::find_if(std::begin(kLinks), std::end(kLinks), [&](const auto& one) { return one.second == samples.link; });
  const bool alike = std::all_of(samples.weights.begin(), samples.weights.end(), [&](double w) { return w == samples.weights[0]; });
  return {{"link", link->first},
          {"sums", samples.sums},
          {"weights", alike && !samples.weights.empty() ? nlohmann::json(samples.weights[0]) : nlohmann::json(samples.weights)}};
}

Samples read_samples(const JsonReader& json) {
  const std::string name = json.text("link");
  const auto link = std::find_if(std::begin(kLinks), std::end(kLinks), [&](const auto& one) { return one.first == name; });
  if (link == std::end(kLinks)) fail(json.source(), ": unknown link '", name, "'; one of mean, exp, root");
  Samples samples{link->second, json.numbers("sums"), {}};
  const nlohmann::json* weights = json.find("weights");
  samples.weights = weights != nullptr && weights->is_number() ? std::vector<double>(samples.sums.size(), weights->get<double>()) : json.numbers("weights");
  if (samples.weights.size() != samples.sums.size()) fail(json.source(), ": as many weights as sums are needed");
  return samples;
}

nlohmann::json interval_json(const Samples& samples, const Resampling& resampling) {
  const auto [low, high] = interval(samples, kOneSided, resampling);
  return {{"n", samples.size()}, {"low", number_or_null(low)}, {"high", number_or_null(high)}};
}

Difference difference(const Samples& model, const Samples& other, const Resampling& resampling) {
  const Bootstrap bootstrap(model, &other, Statistic::kDifference, resampling);
  Difference found{static_cast<std::int64_t>(model.size()), other.value(), bootstrap.value(), bootstrap.lower(kOneSided), bootstrap.upper(kOneSided), 1, 0, {}};
  if (model.binary() && other.binary()) {
    found.answers = discordance(model, other);
    found.p = mcnemar_p(*found.answers);
    found.detectable = detectable_drop(*found.answers, 0, kAlpha);
  } else {
    found.p = bootstrap.p_value();
    found.detectable = bootstrap.detectable(kAlpha);
  }
  return found;
}

nlohmann::json to_json(const Difference& d, const char* other) {
  nlohmann::json json{{"n", d.n},           {other, number_or_null(d.other)}, {"difference", number_or_null(d.value)},       {"low", number_or_null(d.low)},
                      {"high", number_or_null(d.high)}, {"p", number_or_null(d.p)},       {"detectable", number_or_null(d.detectable)}};
  if (d.answers) json["lost"] = d.answers->lost, json["won"] = d.answers->won;
  return json;
}

}  // namespace attar
