// Thresholds that decide whether a result is good enough. TOML, a table per metric:
//
//   [kl_divergence.mean]
//   max = 0.05
//
//   [same_top.share]
//   min = 0.9
//
// A bound that is met exactly passes. Nothing is rounded before it is compared.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "eval/metrics.h"

namespace attar {

struct Threshold {
  std::string metric;
  std::optional<double> min, max;
};

// Throws Error: not TOML, no threshold at all, an unknown metric (with the nearest right name), an unknown key, a bound that
// is not a finite number, min above max.
std::vector<Threshold> parse_gate(const std::string& content, const std::string& source);
std::vector<Threshold> read_gate(const std::string& path);
// Throws Error if a metric will not be measured: to be called before the long work.
void require_measurable(const std::vector<Threshold>& gate, bool reference, bool cloze);

enum class Outcome { kPass, kWorse, kUndecided };

struct GateCheck {
  Threshold threshold;
  double value = 0;      // NaN if undecided
  Outcome outcome = Outcome::kUndecided;
};

struct GateVerdict {
  std::vector<GateCheck> checks;
  // A single worse metric fails the gate whatever the others say; else a single undecided one leaves it undecided.
  Outcome outcome = Outcome::kUndecided;
};

GateVerdict check_gate(const std::vector<Threshold>& gate, const EvalResult& result);

nlohmann::json to_json(const GateVerdict& verdict);
std::string text(const GateVerdict& verdict);  // one line per check

}  // namespace attar
