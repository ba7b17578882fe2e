#include "base/error.h"
#include "eval/report/digest.h"
#include "eval/report/evidence.h"
#include "eval/report/figures.h"
#include "eval/report/page.h"
#include "eval/report/tensor_table.h"

namespace attar {
namespace {

std::string folded(const std::string& summary, const std::string& content) {
  return cat("\n<details><summary>", escaped(summary), "</summary>\n\n", content, "\n</details>\n");
}

std::string verdict(const Report& report) {
  const Verdict found = judge(report);
  std::string text = cat("**", markdown_escaped(found.sentence), "**\n");
  for (const std::string& reason : found.reasons) text += cat("\n- ", markdown_escaped(reason));
  if (!found.reasons.empty()) text += "\n";
  text += "\n";
  for (const std::string& fact : plain_facts(report)) text += cat(markdown_escaped(fact), "\n");
  return text;
}

std::string models(const Report& report) {
  const std::vector<Group> groups = groups_of(report);
  if (groups.empty()) return cat("\n## Models\n\n", markdown(model_table(report, {}, true)));
  std::string text = "\n## Models\n";
  if (groups.size() > 1) text += "\nThe files were measured under protocols that differ. Figures of different tables here cannot be compared.\n";
  for (const Group& group : groups) {
    Table table = model_table(report, group, &group == &groups.front());
    table.caption = cat("Measured on ", describe(group), group.reference.empty() ? "" : cat("; divergence from ", report.model(group.reference).name), ".");
    text += cat("\n", markdown(table));
    if (Table sure = confidence_table(report, group, true); !sure.rows.empty()) {
      sure.caption = kHowSure;
      text += cat("\n", markdown(sure));
    }
    text += folded("Every figure", markdown(metric_table(report, group)));
    if (const Table sure = confidence_table(report, group, false); !sure.rows.empty()) text += folded("How sure every figure is", markdown(sure));
    if (const Table places = place_table(report, group); !places.rows.empty()) text += folded("By place in the context", markdown(places));
    for (const ReportedEvaluation* one : group.evaluations)
      if (const Table units = unit_table(*one); !units.rows.empty())
        text += folded(cat("The worst of ", one->by_unit.size(), " chunks or documents, ", label_of(report.model(one->model))), markdown(units));
  }
  return text;
}

std::string worst_tokens(const Report& report) {
  std::string text;
  for (const ReportedEvaluation& one : report.evaluations) {
    if (one.worst_tokens.empty()) continue;
    Table table{cat(report.model(one.model).name), {"context"}, {}};
    for (const auto& [name, value] : one.worst_tokens.front().figures) table.head.push_back(name);
    for (const ReportedToken& token : one.worst_tokens) {
      std::vector<Cell> row = {cat(token.before, "⟦", token.token, "⟧", token.after)};
      for (std::size_t i = 1; i < table.head.size(); ++i) {
        const auto at = token.figures.find(table.head[i]);
        row.push_back(at != token.figures.end() ? Cell(Figure{at->second, {}}) : Cell());
      }
      table.rows.push_back(std::move(row));
    }
    text += cat("\n", markdown(table));
  }
  return text.empty() ? text : cat("\n## Worst tokens in context\n", text);
}

}  // namespace

std::string markdown_page(const Report& report) {
  std::string text = cat("# Attar: what a compression cost\n\n", verdict(report));
  if (!report.models.empty()) text += models(report);
  if (!report.tensors.empty()) text += "\n## Layer by layer\n";
  for (const TensorTable& table : report.tensors)
    text += cat("\n### ", markdown_escaped(report.model(table.model).name), "\n\n", markdown_escaped(meaning_of(table)), "\n", folded("Every tensor", markdown(tensor_table(table))));
  if (!report.curves.empty()) text += "\n## Size chosen by sensitivity\n";
  for (const SizeCurve& curve : report.curves) text += folded(curve.file, markdown(size_table(curve)));
  for (const TrainingLog& log : report.training) text += cat("\n## Training\n", folded(log.file, markdown(training_table(log))));
  text += worst_tokens(report);
  if (!report.samples.empty()) text += "\n## Samples\n";
  for (const ReportedSample& sample : report.samples) {
    Table table{sample.how, {"", "text"}, {}};
    for (const auto& [who, words] : sample.answers) table.rows.push_back({Cell(who), Cell(sample.prompt + words)});
    text += cat("\n", markdown(table));
  }
  text += "\n## How it was made\n";
  for (const Origin& origin : report.origins) {
    Table table{"", {"", ""}, {{Cell("written by"), Cell(cat("attar ", origin.version, " ", origin.command))}}};
    for (const auto& [name, value] : origin.facts) table.rows.push_back({Cell(name), Cell(value)});
    text += folded(origin.file, markdown(table));
  }
  return text;
}

}  // namespace attar
