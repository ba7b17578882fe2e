// The one table of metrics. JSON keys, gate names, the printed table and docs/evaluation.md derive from it.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "eval/result.h"

namespace attar {

enum class Needs { kText, kReference, kCloze };  // what has to be run for a metric to exist

struct Metric {
  std::string name;         // dotted: "kl_divergence.mean" is {"kl_divergence": {"mean": ...}} in JSON
  std::string meaning;
  Needs needs;
  std::function<double(const EvalResult&)> read;  // only if what it needs was run; NaN if it cannot be known
};

const std::vector<Metric>& all_metrics();
// Throws Error with the nearest right name.
const Metric& find_metric(std::string_view name);
// Whether the result holds what the metric needs.
bool measured(const Metric& metric, const EvalResult& result);

// Everything measured under its dotted name (NaN becomes null), and "model", "reference", "protocol".
nlohmann::json to_json(const EvalResult& result);

// The result for a person: a table with uncertainties, and the protocol.
std::string table_text(const EvalResult& result);

}  // namespace attar
