// The one table of metrics. JSON keys, gate names, the printed table and docs/evaluation.md derive from it.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "eval/result.h"

namespace attar {

// What has to be run for a metric to exist: a text; that text by the rolling protocol; a reference on it; the built-in items; a task.
enum class Needs { kText, kRolling, kReference, kCloze, kTask };

struct Metric {
  std::string name;         // dotted: "kl_divergence.mean" is {"kl_divergence": {"mean": ...}} in JSON
  std::string meaning;
  Needs needs;
  bool sampled = false;     // a mean over chunks, documents or items, which EvalResult::samples holds: its uncertainty is known
  bool of_reference = false;  // the reference model has one of its own
  std::function<double(const EvalResult&)> read;  // only if what it needs was run; NaN if it cannot be known
};

// All but those of tasks, which are called tasks.NAME.METRIC and tasks.NAME.METRIC_stderr.
const std::vector<Metric>& all_metrics();
// The task that a metric is of; empty if of none.
std::string task_of(const std::string& metric);
// Throws Error with the nearest right name. Any task's name will do.
Metric find_metric(std::string_view name);
// Whether the result holds what the metric needs.
bool measured(const Metric& metric, const EvalResult& result);

inline constexpr const char* kResultSchema = "attar.eval.1";

// Everything measured under its dotted name (NaN becomes null), and the rest of docs/evaluation.md's schema but what a gate adds.
nlohmann::json to_json(const EvalResult& result, const Resampling& resampling = {});

// The result for a person: a table with uncertainties, and the protocol.
std::string table_text(const EvalResult& result);

}  // namespace attar
