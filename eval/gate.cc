#include "eval/gate.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <sstream>
#include <toml++/toml.h>

#include "base/error.h"
#include "base/files.h"
#include "base/text.h"
#include "eval/confidence.h"

namespace attar {
namespace {

struct Bound {
  const char* key;
  std::optional<double> Threshold::* field;
  Statistic statistic;
  bool upper;         // the judged figure may not lie above it; else not below
  const char* words;
};

// What a table may say, but against = "reference" or "baseline".
constexpr Bound kBounds[] = {
    {"min", &Threshold::min, Statistic::kValue, false, "min "},
    {"max", &Threshold::max, Statistic::kValue, true, "max "},
    {"max_decrease", &Threshold::max_decrease, Statistic::kDifference, false, "decrease at most "},
    {"max_increase", &Threshold::max_increase, Statistic::kDifference, true, "increase at most "},
    {"min_ratio", &Threshold::min_ratio, Statistic::kRatio, false, "ratio at least "},
    {"max_ratio", &Threshold::max_ratio, Statistic::kRatio, true, "ratio at most "}};
constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
constexpr double kBlind = 0.25;       // a gate without a margin that cannot even see a worsening by this share says so
constexpr double kUsualAlpha = 0.05;  // for intervals and what is detectable if a threshold says nothing

std::string place(const toml::node& node) { return cat("line ", node.source().begin.line); }

double bound(const toml::node& node, const std::string& where) {
  const std::optional<double> value = node.is_number() ? node.value<double>() : std::nullopt;
  if (!value || !std::isfinite(*value)) fail(where, " must be a finite number (", place(node), ")");
  return *value;
}

std::string rounded(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

std::vector<std::string> keys() {
  std::vector<std::string> names{"against", "significance", "detect"};
  for (const Bound& b : kBounds) names.emplace_back(b.key);
  return names;
}

Other other(const toml::node& node, const std::string& where) {
  const std::string name = node.value<std::string>().value_or("");
  if (name == "reference") return Other::kReference;
  if (name == "baseline") return Other::kBaseline;
  fail(where, " must be \"reference\" or \"baseline\" (", place(node), ")");
}

// Keys that contradict each other, or need another one.
void check(const Threshold& t, const std::string& where) {
  const Metric metric = find_metric(t.metric);
  bool any = false, relative = false;
  for (const Bound& b : kBounds) {
    const std::optional<double>& value = t.*(b.field);
    any |= value.has_value();
    relative |= value && b.statistic != Statistic::kValue;
    if (value && b.statistic == Statistic::kDifference && *value < 0)
      fail(where, " has ", b.key, " ", *value, "; say how far it may move, 0 or more");
    if (value && b.statistic == Statistic::kRatio && *value <= 0) fail(where, " has ", b.key, " ", *value, "; a ratio is above 0");
  }
  if (!any) fail(where, " has neither min nor max, nor a bound against the reference or a baseline");
  if (t.min && t.max && *t.min > *t.max) fail(where, " has min ", *t.min, " above max ", *t.max, ": nothing can pass");
  if (relative && t.against == Other::kNone) fail(where, " needs against = \"reference\" or against = \"baseline\"");
  if (!relative && t.against != Other::kNone)
    fail(where, " says against, but not by how much: max_decrease, max_increase, min_ratio or max_ratio");
  if (t.against == Other::kReference && !metric.of_reference)
    fail(where, ": the reference has no ", t.metric, " of its own; give min or max, or against = \"baseline\"");
  if ((t.significance || t.detect) && !metric.sampled)
    fail(where, ": ", t.metric, " is no mean, so chance cannot be told; leave significance and detect out");
  if (t.significance && (*t.significance <= 0 || *t.significance >= 0.5))
    fail(where, " has significance ", *t.significance, "; it is a probability above 0 and below 0.5, such as 0.05");
  if (t.detect && *t.detect <= 0) fail(where, " has detect ", *t.detect, "; it must be above 0");
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
    const auto known = std::find_if(std::begin(kBounds), std::end(kBounds), [&](const Bound& b) { return key.str() == b.key; });
    if (known != std::end(kBounds)) threshold.*(known->field) = bound(node, where);
    else if (key.str() == "significance") threshold.significance = bound(node, where);
    else if (key.str() == "detect") threshold.detect = bound(node, where);
    else if (key.str() == "against") threshold.against = other(node, where);
    else fail(where, ": unknown key (", place(node), ")", suggest(key.str(), keys()));
  }
  check(threshold, cat("gate ", source, ": [", name, "]"));
  gate.push_back(std::move(threshold));
}

std::string rule(const Bound& bound, const Threshold& t) {
  std::string text = bound.words + exact(*(t.*(bound.field)));
  if (bound.statistic != Statistic::kValue) text += t.against == Other::kReference ? " against the reference" : " against the baseline";
  if (t.significance) text += cat(", significance ", exact(*t.significance));
  return text;
}

// Fills what samples tell: the interval, what is detectable, and with a significance level the outcome.
void weigh(GateCheck& check, const Bound& bound, const Threshold& t, const Samples& samples, const Samples* other,
           const Resampling& resampling) {
  check.units = static_cast<std::int64_t>(samples.size());
  const Bootstrap bootstrap(samples, other, bound.statistic, resampling);
  check.low = bootstrap.lower(1 - kUsualAlpha / 2), check.high = bootstrap.upper(1 - kUsualAlpha / 2);
  const double alpha = t.significance.value_or(kUsualAlpha);
  const bool beyond = bound.upper ? check.judged > check.bound : check.judged < check.bound;
  const bool ratio = bound.statistic == Statistic::kRatio;
  bool certain;
  if (bound.statistic == Statistic::kValue && samples.binary()) {
    const Answers a = answers(samples);
    const auto [low, high] = interval(samples, 1 - kUsualAlpha / 2, resampling);
    check.low = low, check.high = high;
    certain = share_p(a, check.bound, bound.upper) <= alpha;
    check.detectable = detectable_share(a.n, check.bound, alpha, bound.upper);
  } else if (bound.statistic != Statistic::kValue && samples.binary() && other->binary() && (!ratio || (bound.upper ? check.bound >= 1 : check.bound <= 1))) {
    Discordance d = discordance(samples, *other);
    if (bound.upper) std::swap(d.lost, d.won);
    const double whole = ratio ? other->value() : 1, margin = std::abs(ratio ? check.bound - 1 : check.bound) * whole;
    certain = drop_p(d, margin) <= alpha;
    check.detectable = detectable_drop(d, margin, alpha) / whole;
  } else {
    certain = bound.upper ? bootstrap.lower(1 - alpha) > check.bound : bootstrap.upper(1 - alpha) < check.bound;
    check.detectable = bootstrap.detectable(alpha);
  }
  if (!t.significance) return;
  if (std::isnan(check.low)) {
    check.outcome = Outcome::kUndecided;
    check.note = cat("only ", check.units, " chunk, document or item: chance cannot be told");
  } else {
    check.outcome = beyond && certain ? Outcome::kWorse : Outcome::kPass;
  }
}

// Says if the gate cannot see what it is to guard.
void add_note(GateCheck& check, const Bound& bound, const Threshold& t, bool beyond) {
  const double margin = bound.statistic == Statistic::kDifference ? std::abs(check.bound)
                        : bound.statistic == Statistic::kRatio    ? std::abs(check.bound - 1)
                                                                  : 0;
  const double wanted = t.detect.value_or(margin);
  if (t.detect && !(check.detectable <= wanted)) {
    if (check.outcome == Outcome::kPass) check.outcome = Outcome::kUndecided;
    check.note = cat("cannot see a worsening of ", exact(wanted), " beyond the bound");
  } else if (t.significance && check.outcome == Outcome::kPass && std::isnan(check.detectable)) {
    check.outcome = Outcome::kUndecided;
    check.note = "could not tell even a total loss from chance";
  } else if (t.significance && check.outcome == Outcome::kPass && beyond) {
    check.is_warning = true;
    check.note = cat("beyond the bound, but chance alone goes so far more often than ", exact(*t.significance));
  } else if (wanted > 0 && check.detectable > wanted) {
    check.is_warning = true;
    check.note = cat("cannot tell changes of ", exact(wanted), " from chance");
  } else if (t.significance && check.outcome == Outcome::kPass && wanted == 0 && check.detectable > kBlind * (bound.statistic == Statistic::kRatio ? 1 : std::abs(std::isnan(check.other) ? check.bound : check.other))) {
    check.is_warning = true;
    check.note = "cannot even see a worsening by a quarter";
  } else if (!t.significance && check.low <= check.bound && check.bound <= check.high && check.low < check.high) {
    check.is_warning = true;
    check.note = cat("the bound lies inside the 95 % interval ", rounded(check.low), " .. ", rounded(check.high), ": chance decides");
    return;
  } else {
    return;
  }
  check.note += cat(" with ", check.units, " chunks, documents or items");
  if (!std::isfinite(check.detectable)) return;
  check.note += cat("; the smallest that is seen 4 times in 5 is ", rounded(check.detectable));
  if (wanted > 0) check.note += cat(", and about ", std::ceil(static_cast<double>(check.units) * std::pow(check.detectable / wanted, 2)), " would do");
}

GateCheck judge(const Bound& bound, const Threshold& t, const EvalResult& result, const Baseline* baseline,
                const Resampling& resampling) {
  const Metric metric = find_metric(t.metric);
  const auto of = [&](const std::map<std::string, Samples>& all) {
    const auto found = all.find(t.metric);
    return found == all.end() ? nullptr : &found->second;
  };
  GateCheck check{.metric = t.metric,
                  .key = bound.key,
                  .limit = *(t.*(bound.field)),
                  .rule = rule(bound, t),
                  .value = measured(metric, result) ? metric.read(result) : kUnknown,
                  .other = kUnknown,
                  .judged = kUnknown,
                  .bound = *(t.*(bound.field)),
                  .low = kUnknown,
                  .high = kUnknown,
                  .detectable = kUnknown};
  if (bound.field == &Threshold::max_decrease) check.bound = 0 - check.bound;
  std::optional<Samples> stored;
  const Samples *samples = of(result.samples), *other = nullptr;
  if (bound.statistic == Statistic::kValue) {
    check.judged = check.value;
  } else {
    if (t.against == Other::kReference) {
      other = of(result.reference_samples);
      if (other != nullptr) check.other = other->value();
    } else if (baseline != nullptr) {
      check.other = baseline->value(t.metric);
      stored = baseline->samples(t.metric);
      other = stored ? &*stored : nullptr;
    }
    check.judged = bound.statistic == Statistic::kDifference ? check.value - check.other : check.value / check.other;
    if (baseline != nullptr && t.against == Other::kBaseline && stored)
      if (const double told = stored->value(); !(std::abs(told - check.other) <= 1e-6 * std::abs(told) + 1e-12)) {
        check.note = cat("the baseline contradicts itself: it says ", exact(check.other), ", its samples ", exact(told), "; make it anew with --update-baseline");
        return check;
      }
  }
  const bool compared = other != nullptr && samples != nullptr && other->size() == samples->size();
  const bool paired = bound.statistic == Statistic::kValue || compared;
  if (compared) check.judged = compare(*samples, *other, bound.statistic);
  if (!std::isfinite(check.judged)) {
    check.note = std::isnan(check.value) ? "the value is not known" : "there is nothing to compare it with";
    return check;
  }
  const double own = compared ? samples->value() : check.value, theirs = compared ? other->value() : check.other;
  if (bound.statistic == Statistic::kRatio && !(own > 0 && theirs > 0)) {
    check.note = cat("a ratio says nothing of ", exact(own), " and ", exact(theirs), ", which are not both above 0; give max_decrease or max_increase");
    return check;
  }
  if (other != nullptr && samples != nullptr && !compared) {
    check.note = cat("measured on ", samples->size(), " chunks, documents or items here and on ", other->size(), " there");
    return check;
  }
  const bool beyond = bound.upper ? check.judged > check.bound : check.judged < check.bound;
  check.outcome = beyond ? Outcome::kWorse : Outcome::kPass;
  if (samples != nullptr && paired) {
    weigh(check, bound, t, *samples, other, resampling);
  } else if (t.significance || t.detect) {
    check.outcome = Outcome::kUndecided;
    check.note = "there are no samples to tell chance from";
    return check;
  }
  if (samples != nullptr && check.outcome != Outcome::kUndecided) add_note(check, bound, t, beyond);
  return check;
}

}  // namespace

const char* word(Outcome outcome) {
  switch (outcome) {
    case Outcome::kPass: return "pass";
    case Outcome::kWorse: return "worse";
    case Outcome::kUndecided: return "undecided";
  }
  return "";
}

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

namespace {

void require_task(const Metric& metric, const Planned& planned) {
  const std::string name = task_of(metric.name);
  const auto task = planned.tasks.find(name);
  if (task == planned.tasks.end()) {
    std::vector<std::string> names;
    for (const auto& [known, metrics] : planned.tasks) names.push_back(known);
    fail("gate: ", metric.name, ": no task '", name, "' in this run", names.empty() ? "; give --tasks" : suggest(name, names));
  }
  std::string known;
  for (const std::string& one : task->second) {
    const std::string full = cat("tasks.", name, ".", one);
    if (metric.name == full || metric.name == full + "_stderr") return;
    known += (known.empty() ? "" : ", ") + one;
  }
  fail("gate: ", metric.name, ": tasks like ", name, " are scored otherwise; it has ", known);
}

}  // namespace

void require_measurable(const std::vector<Threshold>& gate, const Planned& planned, bool baseline) {
  for (const Threshold& threshold : gate) {
    const Metric metric = find_metric(threshold.metric);
    const bool needs_text = metric.needs == Needs::kText || metric.needs == Needs::kRolling || metric.needs == Needs::kReference;
    if (needs_text && !planned.text) fail("gate: ", metric.name, " is measured on a text; give --data TEXT");
    if (metric.needs == Needs::kRolling && !planned.rolling)
      fail("gate: ", metric.name, " belongs to the rolling protocol; give --protocol rolling");
    if (metric.needs == Needs::kReference && !planned.reference)
      fail("gate: ", metric.name, " compares with a reference model; give --reference MODEL");
    if (metric.needs == Needs::kCloze && !planned.cloze)
      fail("gate: ", metric.name, " is measured on the built-in items only; give --data builtin:heldout");
    if (metric.needs == Needs::kTask) require_task(metric, planned);
    if (threshold.against == Other::kBaseline && !baseline)
      fail("gate: ", metric.name, " is compared with a baseline; give --baseline FILE");
    const bool of_model = metric.needs == Needs::kCloze || metric.needs == Needs::kTask;
    if (threshold.against == Other::kReference && !(of_model ? planned.tasks_of_reference : planned.reference))
      fail("gate: ", metric.name, " is compared with the reference's; give --reference MODEL",
           of_model && planned.reference ? ", which a stored reference cannot stand for" : "");
  }
}

GateVerdict check_gate(const std::vector<Threshold>& gate, const EvalResult& result, const Baseline* baseline,
                       const Resampling& resampling) {
  GateVerdict verdict;
  bool worse = false, undecided = gate.empty();
  for (const Threshold& threshold : gate)
    for (const Bound& bound : kBounds) {
      if (!(threshold.*(bound.field))) continue;
      verdict.checks.push_back(judge(bound, threshold, result, baseline, resampling));
      worse |= verdict.checks.back().outcome == Outcome::kWorse;
      undecided |= verdict.checks.back().outcome == Outcome::kUndecided;
    }
  verdict.outcome = worse ? Outcome::kWorse : undecided ? Outcome::kUndecided : Outcome::kPass;
  return verdict;
}

nlohmann::json to_json(const GateVerdict& verdict) {
  nlohmann::json json{{"outcome", word(verdict.outcome)}, {"checks", nlohmann::json::array()}};
  for (const GateCheck& check : verdict.checks) {
    nlohmann::json entry{{"metric", check.metric}, {"outcome", word(check.outcome)}, {"rule", check.rule},
                         {"units", check.units}, {check.key, check.limit}};
    const auto add = [&](const char* key, double value) {
      entry[key] = number_or_null(value);
    };
    add("value", check.value), add("other", check.other), add("judged", check.judged), add("bound", check.bound);
    add("low", check.low), add("high", check.high), add("detectable", check.detectable);
    if (!check.note.empty()) entry["note"] = check.note, entry["warning"] = check.is_warning;
    json["checks"].push_back(std::move(entry));
  }
  return json;
}

std::string text(const GateVerdict& verdict) {
  std::string lines;
  for (const GateCheck& check : verdict.checks) {
    lines += cat("gate: ", word(check.outcome), ": ", check.metric, " = ", std::isnan(check.value) ? "not known" : exact(check.value), ", ",
                 check.rule);
    if (std::isfinite(check.other)) lines += cat(" (", exact(check.other), ")");
    lines += "\n";
    if (!check.note.empty()) lines += cat("gate:   ", check.is_warning ? "warning: " : "", check.note, "\n");
  }
  return lines;
}

}  // namespace attar
