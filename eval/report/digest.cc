#include "eval/report/digest.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "base/error.h"

namespace attar {
namespace {

struct Shown {
  const char* metric;
  const char* label;
};
// The metrics of the main table, in its order; tasks follow.
constexpr std::array<Shown, 4> kMain = {{{"perplexity.value", "perplexity"},
                                         {"kl_divergence.mean", "mean KL"},
                                         {"same_top.share", "same top"},
                                         {"cloze.accuracy", "cloze accuracy"}}};

constexpr std::array<const char*, 3> kOutcomes = {"worse", "undecided", "pass"};  // the worst first

int rank(const std::string& outcome) {
  const auto at = std::find(kOutcomes.begin(), kOutcomes.end(), outcome) - kOutcomes.begin();
  return at == static_cast<std::ptrdiff_t>(kOutcomes.size()) ? 1 : static_cast<int>(at);  // a word from elsewhere decides nothing
}

// A gate is no better than its worst check, and one without checks decides nothing.
int rank(const ReportedGate& gate) {
  int worst = gate.checks.empty() ? 1 : rank(gate.outcome);
  for (const ReportedCheck& check : gate.checks) worst = std::min(worst, rank(check.outcome));
  return std::min(worst, rank(gate.outcome));
}

const Figure* find(const ReportedEvaluation& evaluation, const std::string& metric) {
  const auto found = evaluation.metrics.find(metric);
  return found == evaluation.metrics.end() ? nullptr : &found->second;
}

bool is_task_score(const std::string& metric) {
  const std::string of = metric.substr(0, metric.rfind('.'));  // "tasks.NAME", and "tasks.NAME.reference" of the reference's own
  return of.starts_with("tasks.") && (of == "tasks.reference" || !of.ends_with(".reference")) && (metric.ends_with(".acc") || metric.ends_with(".exact_match"));
}

// The last evaluation that a gate judged, else the last against a reference, else the last of all: files are named in the order of the work.
const ReportedEvaluation* subject_of(const Report& report) {
  const auto rank = [](const ReportedEvaluation& one) { return std::pair(one.gate.has_value(), !one.reference.empty()); };
  const ReportedEvaluation* best = nullptr;
  for (const ReportedEvaluation& one : report.evaluations)
    if (best == nullptr || rank(one) >= rank(*best)) best = &one;
  return best;
}

std::string percent_change(double ratio) {
  const double change = 100 * (ratio - 1);
  return cat(rounded(std::abs(change), 2), " % ", change >= 0 ? "higher" : "lower");
}

std::string plural(std::size_t count, const std::string& word) { return cat(count, " ", word, count == 1 ? "" : "s"); }

}  // namespace

Verdict judge(const Report& report) {
  Verdict verdict{.outcome = "open"};
  std::size_t checks = 0, failed = 0;
  std::set<std::string> judged;
  for (const ReportedEvaluation& one : report.evaluations) {
    if (!one.gate) continue;
    if (const int found = rank(*one.gate); verdict.outcome == "open" || found < rank(verdict.outcome)) verdict.outcome = kOutcomes[static_cast<std::size_t>(found)];
    const ReportedModel& model = report.model(one.model);
    judged.insert(model.role.empty() ? model.name : cat("The ", model.role, " model"));
    for (const ReportedCheck& check : one.gate->checks) {
      ++checks;
      failed += check.outcome != "pass";
      if (check.outcome != "pass") verdict.reasons.push_back(cat(label_of(model), ": ", check.text()));
      else if (check.warning) verdict.reasons.push_back(cat(label_of(model), ": ", check.metric, " passes, with a warning: ", check.note));
    }
  }
  const std::string who = judged.size() == 1 ? *judged.begin() : "The small model";
  if (verdict.outcome == "pass")
    verdict.sentence = cat(who, " is good enough: ", checks == 1 ? "the one bound of its gate holds" : cat("all ", checks, " bounds of its gate hold"),
                           verdict.reasons.empty() ? "." : ", but the gate cannot see all it is to guard.");
  else if (verdict.outcome == "worse")
    verdict.sentence = cat(who, " is not good enough: ", failed, " of ", plural(checks, "bound"), " of its gate ",
                           failed == 1 ? "does" : "do", " not hold.");
  else if (verdict.outcome == "undecided")
    verdict.sentence = cat("Whether the small model is good enough could not be decided: ",
                           checks == 0 ? "its gate checked nothing." : cat(failed, " of ", plural(checks, "bound"), " could not be judged."));
  else
    verdict.sentence = report.evaluations.empty() ? "Nothing here was evaluated, so nothing is known of quality."
                                                  : "No gate was given, so whether the small model is good enough is for you to say. What was measured:";
  return verdict;
}

std::vector<std::string> plain_facts(const Report& report) {
  std::vector<std::string> facts;
  const ReportedEvaluation* subject = subject_of(report);
  if (subject == nullptr) return facts;
  const ReportedModel& model = report.model(subject->model);
  const std::string name = model.name;
  const bool paired = !subject->reference.empty();
  const std::string reference = paired ? report.model(subject->reference).name : "";
  if (paired)
    if (const ReportedModel& other = report.model(subject->reference); model.weight_bytes && other.weight_bytes && *model.weight_bytes > 0) {
      const double ratio = *other.weight_bytes / *model.weight_bytes;
      facts.push_back(cat("The weights of ", name, " take ", in_unit(*model.weight_bytes, Unit::kBytes), ", those of ", reference, " ",
                          in_unit(*other.weight_bytes, Unit::kBytes), ratio >= 1.005 ? cat(": ", rounded(ratio, 3), " times as much.") : "."));
    }
  if (const Figure* found = find(*subject, "perplexity.value")) {
    std::string sentence = cat("Its perplexity is ", in_unit(*found, Unit::kPlain));
    if (const Figure* of_reference = find(*subject, "reference_perplexity.value"); of_reference != nullptr && of_reference->value > 0)
      sentence += cat(", ", percent_change(found->value / of_reference->value), " than the ", in_unit(of_reference->value, Unit::kPlain), " of ", reference);
    if (subject->protocol) sentence += cat(", over ", subject->protocol->scored, " tokens of ", subject->protocol->data);
    facts.push_back(sentence + ".");
  }
  const Figure *kl = find(*subject, "kl_divergence.mean"), *top = find(*subject, "same_top.share");
  if (kl != nullptr) facts.push_back(cat("It diverges from ", paired ? reference : "its reference", " by ", in_unit(*kl, Unit::kPlain), " nats a token on average",
                                         top != nullptr ? cat(" and finds the same token most probable at ", in_unit(*top, Unit::kShare), " of them") : "", "."));
  return facts;
}

std::vector<Group> groups_of(const Report& report) {
  std::vector<Group> groups;
  for (const ReportedEvaluation& one : report.evaluations) {
    const ReportedProtocol* protocol = one.protocol ? &*one.protocol : nullptr;
    auto group = std::find_if(groups.begin(), groups.end(), [&](const Group& other) {
      if (protocol == nullptr || other.protocol == nullptr) return protocol == other.protocol;
      // With each of them: a task that one does not have tells nothing of two that do.
      return std::all_of(other.evaluations.begin(), other.evaluations.end(), [&](const ReportedEvaluation* member) { return *protocol == *member->protocol; });
    });
    if (group == groups.end()) group = groups.insert(group, Group{protocol, "", {}});
    group->evaluations.push_back(&one);
  }
  for (Group& group : groups) {
    std::set<std::string> references;
    for (const ReportedEvaluation* one : group.evaluations)
      if (!one->reference.empty()) references.insert(one->reference);
    if (references.size() == 1) group.reference = *references.begin();
  }
  const auto weight = [](const Group& group) { return std::pair(group.protocol != nullptr, group.evaluations.size()); };
  std::stable_sort(groups.begin(), groups.end(), [&](const Group& a, const Group& b) { return weight(a) > weight(b); });
  return groups;
}

bool knows_divergence_by_place(const Group& group) {
  return std::any_of(group.evaluations.begin(), group.evaluations.end(), [](const ReportedEvaluation* one) { return !one->by_place.empty() && one->by_place.front().kl; });
}

Table model_table(const Report& report, const Group& group, bool all_models) {
  std::vector<std::string> metrics;
  for (const Shown& shown : kMain) metrics.emplace_back(shown.metric);
  std::set<std::string> tasks;
  for (const ReportedEvaluation* one : group.evaluations)
    for (const auto& [metric, value] : one->metrics)
      if (is_task_score(metric)) tasks.insert(metric);
  metrics.insert(metrics.end(), tasks.begin(), tasks.end());

  Table table;
  constexpr std::size_t kFileColumn = 5;
  table.head = {"model", "", "parameters", "weights", "bits/weight", "file"};
  for (const std::string& metric : metrics) table.head.push_back(label_of(metric));
  table.head.insert(table.head.end(), {"against", "prompt tokens/s", "decode tokens/s"});
  const auto add = [&](const ReportedModel& model, const ReportedEvaluation* evaluation) {
    std::vector<Cell> row = {model.name, model.role, {model.parameters, Unit::kCount}, {model.weight_bytes, Unit::kBytes}};
    row.push_back(model.weight_bytes && model.parameters && *model.parameters > 0 ? Cell(Figure{model.bits_per_weight(), {}}) : Cell());
    row.push_back({model.file_bytes, Unit::kBytes});
    for (const std::string& metric : metrics) {
      const Figure* found = evaluation != nullptr ? find(*evaluation, metric) : nullptr;
      row.push_back(found != nullptr ? Cell(*found, unit_of(metric)) : Cell());
    }
    const bool own = evaluation != nullptr && group.reference.empty() && !evaluation->reference.empty();
    row.push_back(own ? Cell(report.model(evaluation->reference).name) : Cell());
    row.push_back({model.prompt_rate, Unit::kRate});
    row.push_back({model.decode_rate, Unit::kRate});
    table.rows.push_back(std::move(row));
  };
  // A reference that was not evaluated itself: its perplexity stands in the results of what was measured against it.
  const auto as_reference = [&](const ReportedModel& model) {
    ReportedEvaluation own{.model = model.path};
    for (const ReportedEvaluation* one : group.evaluations)
      if (const Figure* found = find(*one, "reference_perplexity.value"); found != nullptr && one->reference == model.path)
        own.metrics["perplexity.value"] = *found;
    return own;
  };
  for (const ReportedModel& model : report.models) {
    bool evaluated = false;
    for (const ReportedEvaluation* one : group.evaluations)
      if (one->model == model.path) add(model, one), evaluated = true;
    const bool known = model.weight_bytes || model.file_bytes || model.decode_rate || model.prompt_rate;  // what was only passed through is not
    if (evaluated || !all_models) continue;
    if (const ReportedEvaluation reference = as_reference(model); !reference.metrics.empty())
      add(model, &reference);
    else if (known || group.evaluations.empty())
      add(model, nullptr);
  }
  const bool weights = std::none_of(table.rows.begin(), table.rows.end(), [](const auto& row) { return row[kFileColumn - 2].empty(); });
  if (weights)  // sizes that compare; those of files hold tokenizers too
    for (auto& row : table.rows) row[kFileColumn] = Cell();
  return without_empty_columns(table);
}

Table metric_table(const Report& report, const Group& group) {
  Table table{"", {"metric"}, {}};
  std::set<std::string> metrics;
  for (const ReportedEvaluation* one : group.evaluations) {
    table.head.push_back(label_of(report.model(one->model)));
    for (const auto& [metric, value] : one->metrics) metrics.insert(metric);
  }
  for (const std::string& metric : metrics) {
    std::vector<Cell> row = {metric};
    for (const ReportedEvaluation* one : group.evaluations) {
      const Figure* found = find(*one, metric);
      row.push_back(found != nullptr ? Cell(*found, unit_of(metric)) : Cell());
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

std::string label_of(const ReportedModel& model) { return model.role.empty() ? model.name : model.role; }

bool is_main(const std::string& metric) {
  return is_task_score(metric) || std::any_of(kMain.begin(), kMain.end(), [&](const Shown& shown) { return metric == shown.metric; });
}

std::string label_of(const std::string& metric) {
  for (const Shown& shown : kMain)
    if (metric == shown.metric) return shown.label;
  return metric.starts_with("tasks.") ? metric.substr(6) : metric;
}

Unit unit_of(const std::string& metric) {
  const bool share = metric == "same_top.share" || metric == "acceptance.rate" || metric.starts_with("delta_p.") || metric.ends_with(".accuracy") || is_task_score(metric);
  return share ? Unit::kShare : Unit::kPlain;
}

std::string describe(const Group& group) {
  if (group.protocol == nullptr) return "text that the file does not name";
  const ReportedProtocol& p = *group.protocol;
  if (p.scored == 0) return cat(plural(p.tasks.size(), "task"), " and no text");
  return cat(p.data, ", ", p.chunks, " chunks of ", p.context, " tokens, ", p.scored, " positions scored", p.name.empty() ? "" : cat(", as ", p.name, " does"));
}

}  // namespace attar
