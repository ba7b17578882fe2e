#include "eval/gate.h"

#include <cmath>
#include <limits>
#include <sstream>
#include <toml++/toml.h>

#include "base/error.h"
#include "base/files.h"
#include "base/text.h"

namespace attar {
namespace {

const std::vector<std::string> kKeys{"min", "max"};

std::string place(const toml::node& node) { return cat("line ", node.source().begin.line); }

double bound(const toml::node& node, const std::string& where) {
  const std::optional<double> value = node.is_number() ? node.value<double>() : std::nullopt;
  if (!value || !std::isfinite(*value)) fail(where, " must be a finite number (", place(node), ")");
  return *value;
}

constexpr std::size_t kLongestName = 200;  // no metric is nested deeper than this: it bounds the recursion

// A table of tables only groups names; any other table is a metric's.
void collect(const toml::table& table, const std::string& name, const std::string& source, std::vector<Threshold>& gate) {
  bool group = !table.empty() && name.size() < kLongestName;
  for (const auto& [key, node] : table) group &= node.is_table();
  if (group) {
    for (const auto& [key, node] : table)
      collect(*node.as_table(), name.empty() ? std::string(key.str()) : cat(name, ".", key.str()), source, gate);
    return;
  }
  if (name.empty())
    for (const auto& [key, node] : table)
      if (!node.is_table())
        fail("gate ", source, ", ", place(node), ": '", key.str(), "' stands outside a metric's table; write [METRIC] above it, "
             "such as [kl_divergence.mean]");
  Threshold threshold{.metric = name};
  try {
    (void)find_metric(name);
  } catch (const Error& error) {
    fail("gate ", source, ", ", place(table), ": ", error.what());
  }
  for (const auto& [key, node] : table) {
    const std::string where = cat("gate ", source, ": ", name, ".", key.str());
    if (key.str() == "min") threshold.min = bound(node, where);
    else if (key.str() == "max") threshold.max = bound(node, where);
    else fail(where, ": unknown key (", place(node), ")", suggest(key.str(), kKeys));
  }
  if (!threshold.min && !threshold.max) fail("gate ", source, ": [", name, "] has neither min nor max");
  if (threshold.min && threshold.max && *threshold.min > *threshold.max)
    fail("gate ", source, ": [", name, "] has min ", *threshold.min, " above max ", *threshold.max, ": nothing can pass");
  gate.push_back(std::move(threshold));
}

// Every digit that decides: 0.05 stays "0.05", a value that differs in the last bit looks different.
std::string exact(double value) {
  for (int digits = 6; digits < 17; ++digits) {
    std::ostringstream out;
    out.precision(digits);
    out << value;
    if (std::stod(out.str()) == value) return out.str();
  }
  std::ostringstream out;
  out.precision(17);
  out << value;
  return out.str();
}

const char* word(Outcome outcome) {
  switch (outcome) {
    case Outcome::kPass: return "pass";
    case Outcome::kWorse: return "worse";
    case Outcome::kUndecided: return "undecided";
  }
  return "";
}

}  // namespace

std::vector<Threshold> parse_gate(const std::string& content, const std::string& source) {
  std::vector<Threshold> gate;
  try {
    const toml::table table = toml::parse(content, source);
    if (!table.empty()) collect(table, "", source, gate);
  } catch (const toml::parse_error& error) {
    fail("gate ", source, ", line ", error.source().begin.line, ": not TOML: ", error.description());
  }
  if (gate.empty()) fail("gate ", source, ": no threshold in it; everything would pass");
  return gate;
}

std::vector<Threshold> read_gate(const std::string& path) { return parse_gate(read_text_file(path), path); }

void require_measurable(const std::vector<Threshold>& gate, bool reference, bool cloze) {
  for (const Threshold& threshold : gate) {
    const Metric& metric = find_metric(threshold.metric);
    if (metric.needs == Needs::kReference && !reference)
      fail("gate: ", metric.name, " compares with a reference model; give --reference MODEL");
    if (metric.needs == Needs::kCloze && !cloze)
      fail("gate: ", metric.name, " is measured on the built-in items only; give --data builtin:heldout");
  }
}

GateVerdict check_gate(const std::vector<Threshold>& gate, const EvalResult& result) {
  GateVerdict verdict;
  bool worse = false, undecided = gate.empty();
  for (const Threshold& threshold : gate) {
    const Metric& metric = find_metric(threshold.metric);
    GateCheck check{.threshold = threshold,
                    .value = measured(metric, result) ? metric.read(result) : std::numeric_limits<double>::quiet_NaN()};
    if (std::isnan(check.value)) {
      undecided = true;
    } else {
      const bool passes = !(threshold.min && check.value < *threshold.min) && !(threshold.max && check.value > *threshold.max);
      check.outcome = passes ? Outcome::kPass : Outcome::kWorse;
      worse |= !passes;
    }
    verdict.checks.push_back(std::move(check));
  }
  verdict.outcome = worse ? Outcome::kWorse : undecided ? Outcome::kUndecided : Outcome::kPass;
  return verdict;
}

nlohmann::json to_json(const GateVerdict& verdict) {
  nlohmann::json json{{"outcome", word(verdict.outcome)}, {"checks", nlohmann::json::array()}};
  for (const GateCheck& check : verdict.checks) {
    nlohmann::json entry{{"metric", check.threshold.metric}, {"outcome", word(check.outcome)}};
    entry["value"] = std::isfinite(check.value) ? nlohmann::json(check.value) : nlohmann::json(nullptr);
    if (check.threshold.min) entry["min"] = *check.threshold.min;
    if (check.threshold.max) entry["max"] = *check.threshold.max;
    json["checks"].push_back(std::move(entry));
  }
  return json;
}

std::string text(const GateVerdict& verdict) {
  std::string lines;
  for (const GateCheck& check : verdict.checks) {
    const Threshold& t = check.threshold;
    lines += cat("gate: ", word(check.outcome), ": ", t.metric, " = ",
                 std::isnan(check.value) ? "not known" : exact(check.value));
    if (t.min) lines += cat(", min ", exact(*t.min));
    if (t.max) lines += cat(", max ", exact(*t.max));
    lines += "\n";
  }
  return lines;
}

}  // namespace attar
