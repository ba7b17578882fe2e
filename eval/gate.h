// Thresholds that decide whether a result is good enough. TOML, a table per metric:
//
//   [kl_divergence.mean]          # absolute
//   max = 0.05
//
//   [tasks.arc_easy.acc]          # against the reference model, or a result stored earlier
//   against = "baseline"
//   max_decrease = 0.01
//   significance = 0.05           # worse only if that is no chance: at most 1 in 20 sound models is refused
//
// A bound that is met exactly passes. Nothing is rounded before it is compared.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "eval/baseline.h"
#include "eval/evaluate.h"
#include "eval/metrics.h"

namespace attar {

enum class Other { kNone, kReference, kBaseline };

struct Threshold {
  std::string metric;
  std::optional<double> min, max;                    // of the value
  Other against = Other::kNone;
  std::optional<double> max_decrease, max_increase;  // of value - other's value; 0 or more
  std::optional<double> min_ratio, max_ratio;        // of value / other's value
  std::optional<double> significance;                // chance of calling a sound model worse; nothing: the value alone decides
  std::optional<double> detect;                      // a worsening beyond the bound that must be visible, or nothing is decided
};

// Throws Error: not TOML, no threshold at all, an unknown metric (with the nearest right name), an unknown key, a bound that
// is not a finite number, min above max, keys that need another one.
std::vector<Threshold> parse_gate(const std::string& content, const std::string& source);
std::vector<Threshold> read_gate(const std::string& path);
// Throws Error if a metric, or what it is compared with, will not be measured: to be called before the long work.
void require_measurable(const std::vector<Threshold>& gate, const Planned& planned, bool baseline);

enum class Outcome { kPass, kWorse, kUndecided };
const char* word(Outcome outcome);

// One bound of a threshold.
struct GateCheck {
  std::string metric;
  std::string key;                   // "max"
  double limit = 0;                  // as the file says it
  std::string rule;                  // "max 0.05", "decrease against the baseline at most 0.01, significance 0.05"
  Outcome outcome = Outcome::kUndecided;
  double value = 0;                  // of the metric; NaN if not known
  double other = 0, judged = 0;      // the other's value (NaN without); what the bound is compared with
  double bound = 0;
  double low = 0, high = 0;          // 95 % interval of judged; NaN if not known
  double detectable = 0;             // the smallest worsening beyond the bound that is seen 4 times in 5; NaN if not known
  std::int64_t units = 0;            // chunks, documents or items; 0 if not known
  std::string note;                  // why it is undecided, or a warning that the gate cannot see what it guards
  bool is_warning = false;
};

struct GateVerdict {
  std::vector<GateCheck> checks;
  // A single worse metric fails the gate whatever the others say; else a single undecided one leaves it undecided.
  Outcome outcome = Outcome::kUndecided;
};

// baseline: nullptr if there is none; thresholds against it are then undecided.
GateVerdict check_gate(const std::vector<Threshold>& gate, const EvalResult& result, const Baseline* baseline = nullptr,
                       const Resampling& resampling = {});

nlohmann::json to_json(const GateVerdict& verdict);
std::string text(const GateVerdict& verdict);  // one line per check, and its note

}  // namespace attar
