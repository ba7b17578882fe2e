#include "eval/report/evidence.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/text.h"

namespace attar {

Table confidence_table(const Report& report, const Group& group, bool main_only) {
  Table table{"", {"model", "metric", "value", "from", "to", "n", "less the reference's", "from", "to", "p", "only the reference right", "only it right", "detectable"}, {}};
  for (const ReportedEvaluation* one : group.evaluations)
    for (const auto& [metric, sure] : one->confidence) {
      if (main_only && !is_main(metric)) continue;
      const Unit unit = unit_of(metric);
      const auto value = one->metrics.find(metric);
      table.rows.push_back({label_of(report.model(one->model)), label_of(metric), value != one->metrics.end() ? Cell(Figure{value->second.value, {}}, unit) : Cell(),
                            Cell(sure.low, unit), Cell(sure.high, unit), Cell(sure.n, Unit::kCount), Cell(sure.difference, unit), Cell(sure.difference_low, unit),
                            Cell(sure.difference_high, unit), Cell(sure.p), Cell(sure.lost, Unit::kCount), Cell(sure.won, Unit::kCount), Cell(sure.detectable, unit)});
    }
  return without_empty_columns(table);
}

std::vector<Differences> against_first(const Group& group, const Resampling& resampling) {
  std::vector<Differences> all;
  for (const ReportedEvaluation* one : group.evaluations) {
    const ReportedEvaluation& first = *group.evaluations.front();
    Differences& found = all.emplace_back();
    if (one == &first) continue;
    for (const auto& [metric, samples] : one->samples) {
      const auto other = first.samples.find(metric);
      if (!is_main(metric) || other == first.samples.end()) continue;
      if (samples.weights != other->second.weights || samples.link != other->second.link)
        fail(one->file, ": the samples of ", metric, " are not of the same chunks or items as those of ", first.file, "; measure both anew");
      found.emplace(metric, difference(samples, other->second, resampling));
    }
  }
  return all;
}

Table difference_table(const Report& report, const Group& group, const std::vector<Differences>& differences) {
  if (group.evaluations.empty()) return {};
  const std::string first = label_of(report.model(group.evaluations.front()->model));
  Table table{"", {"model", "metric", cat("less that of ", first), "from", "to", "n", "p", cat("only ", first, " right"), "only it right", "detectable"}, {}};
  for (std::size_t i = 0; i < differences.size(); ++i)
    for (const auto& [metric, d] : differences[i]) {
      const Unit unit = unit_of(metric);
      const auto count = [](auto n) { return Cell(std::optional(static_cast<double>(n)), Unit::kCount); };
      const auto figure = [](double value, Unit in) { return std::isfinite(value) ? Cell(std::optional(value), in) : Cell(); };
      table.rows.push_back({label_of(report.model(group.evaluations[i]->model)), label_of(metric), figure(d.value, unit), figure(d.low, unit), figure(d.high, unit), count(d.n),
                            figure(d.p, Unit::kPlain), d.answers ? count(d.answers->lost) : Cell(), d.answers ? count(d.answers->won) : Cell(), figure(d.detectable, unit)});
    }
  return without_empty_columns(table);
}

Table unit_table(const ReportedEvaluation& evaluation, std::size_t count) {
  std::vector<const ReportedUnit*> units;
  for (const ReportedUnit& unit : evaluation.by_unit) units.push_back(&unit);
  const auto badness = [](const ReportedUnit* unit) { return unit->kl.value_or(unit->nll); };
  std::stable_sort(units.begin(), units.end(), [&](const ReportedUnit* a, const ReportedUnit* b) { return badness(a) > badness(b); });
  units.resize(std::min(units.size(), count));
  Table table{"", {"number", "begins", "positions", "-ln p", "-ln p of the reference", "KL"}, {}};
  for (const ReportedUnit* unit : units)
    table.rows.push_back({exact(unit->unit), unit->begins, Cell(std::optional(unit->scored), Unit::kCount), Cell(std::optional(unit->nll)), Cell(unit->reference_nll),
                          Cell(unit->kl)});
  return without_empty_columns(table);
}

Table place_table(const Report& report, const Group& group) {
  const bool kl = knows_divergence_by_place(group);
  Table table{"", {"tokens before"}, {}};
  std::size_t columns = 1;
  for (const ReportedEvaluation* one : group.evaluations) {
    if (one->by_place.empty()) continue;
    table.head.push_back(cat(label_of(report.model(one->model)), kl ? ", KL" : ", -ln p"));
    ++columns;
    for (const ReportedBand& band : one->by_place) {
      const std::string places = cat(exact(band.from), " to ", exact(band.to - 1));
      auto row = std::find_if(table.rows.begin(), table.rows.end(), [&](const auto& other) { return other.front().text == places; });
      if (row == table.rows.end()) row = table.rows.insert(row, {Cell(places)});
      row->resize(columns);
      row->back() = kl ? Cell(band.kl) : Cell(std::optional(band.nll));
    }
  }
  for (auto& row : table.rows) row.resize(columns);
  return table;
}

}  // namespace attar
