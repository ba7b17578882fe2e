// What the results come to: is the small model good enough, and the models side by side.
#pragma once

#include <string>
#include <vector>

#include "eval/report/results.h"
#include "eval/report/table.h"

namespace attar {

struct Verdict {
  std::string outcome;               // "pass", "worse", "undecided"; "open": there is no gate
  std::string sentence;
  std::vector<std::string> reasons;  // one for each check that did not pass
};

// By the gates' verdicts, the worst of them first; without a gate plain facts, and no more than they say.
Verdict judge(const Report& report);
// Size, quality and speed of the model that was judged against its reference, in sentences.
std::vector<std::string> plain_facts(const Report& report);

// Evaluations whose figures may stand side by side.
struct Group {
  const ReportedProtocol* protocol = nullptr;  // nullptr: not known
  std::string reference;                       // the one they share; empty: none, or several
  std::vector<const ReportedEvaluation*> evaluations;
};
std::vector<Group> groups_of(const Report& report);  // the largest of a known protocol first; each lives as long as the report

bool knows_divergence_by_place(const Group& group);

// One row per model: size, quality under the group's protocol, speed. all_models: also those without an evaluation in it.
Table model_table(const Report& report, const Group& group, bool all_models);
// Every figure of the group's evaluations, a row per metric.
Table metric_table(const Report& report, const Group& group);

std::string label_of(const ReportedModel& model);            // its role if it has one, else its name
bool is_main(const std::string& metric);                      // the table of models shows it
std::string label_of(const std::string& metric);             // "mean KL" for kl_divergence.mean
Unit unit_of(const std::string& metric);
std::string describe(const Group& group);                    // "heldout.txt, 16 chunks of 256 tokens, 2032 positions scored"

}  // namespace attar
