// How sure figures are: what they are means of, their intervals and paired differences, and how JSON says it (docs/evaluation.md).
#pragma once

#include <nlohmann/json.hpp>
#include <optional>

#include "convert/json.h"
#include "eval/significance.h"

namespace attar {

inline constexpr double kConfidence = 0.95, kOneSided = 0.975, kAlpha = 0.05;  // of intervals, each of their sides, and what is detectable

nlohmann::json number_or_null(double value);  // null: not finite
nlohmann::json to_json(const Samples& samples);
Samples read_samples(const JsonReader& json);  // throws Error naming what is damaged

nlohmann::json interval_json(const Samples& samples, const Resampling& resampling);

// A model's figure less another's, on the same units.
struct Difference {
  std::int64_t n = 0;                  // units
  double other = 0;                    // the other's figure
  double value = 0, low = 0, high = 0; // with the interval
  double p = 1;                        // two-sided, of no difference: of answers exact, else by the bootstrap
  double detectable = 0;               // the smallest worsening that so many units show with kPower
  std::optional<Discordance> answers;  // if both figures are shares of right answers
};
Difference difference(const Samples& model, const Samples& other, const Resampling& resampling);
// other: the key of the other's figure.
nlohmann::json to_json(const Difference& difference, const char* other);

}  // namespace attar
