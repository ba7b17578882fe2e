#include "eval/report/tensor_table.h"

#include <algorithm>

#include "base/error.h"
#include "eval/report/heat_map.h"

namespace attar {

Table tensor_table(const TensorTable& table) {
  Table result{"", {"tensor", "type", "asked", "method"}, {}};
  const std::vector<HeatMeasure> measures = measures_of(table);
  struct Work {
    const char* name;
    std::optional<double> ReportedTensor::*value;
    Unit unit;
  };
  constexpr Work kWork[] = {{"output error if rounded to nearest", &ReportedTensor::rounded_error, Unit::kPlain}, {"clipped", &ReportedTensor::clipped, Unit::kShare},
                            {"damping", &ReportedTensor::damping, Unit::kPlain}, {"columns never reached", &ReportedTensor::dead_columns, Unit::kCount},
                            {"seconds", &ReportedTensor::seconds, Unit::kPlain}};
  for (const HeatMeasure& measure : measures) result.head.emplace_back(measure.name);
  for (const Work& work : kWork) result.head.emplace_back(work.name);
  std::vector<ReportedTensor> rows = table.tensors;
  if (table.sums) rows.push_back(*table.sums);
  for (const ReportedTensor& one : rows) {
    std::vector<Cell> row = {one.name, one.type, one.asked == one.type ? Cell() : one.fallback.empty() ? Cell(one.asked) : Cell(cat(one.asked, ": ", one.fallback)), one.method};
    for (const HeatMeasure& measure : measures) row.emplace_back(one.*measure.value, measure.unit);
    for (const Work& work : kWork) row.emplace_back(one.*work.value, work.unit);
    result.rows.push_back(std::move(row));
  }
  return without_empty_columns(result);
}

std::string meaning_of(const TensorTable& table) {
  std::string text;
  if (table.kl_sum && table.kl_together) {
    const auto worst = std::max_element(table.tensors.begin(), table.tensors.end(), [](const auto& a, const auto& b) { return a.kl.value_or(0) < b.kl.value_or(0); });
    text = cat("With one tensor at a time as it was quantized and all others as they were, divergences add up to ", rounded(*table.kl_sum), " nats; all together cost ",
               rounded(*table.kl_together), ". ");
    if (!table.separable) text += "They make up for each other (as rotated, scaled or tuned weights do), so what one costs alone says little. ";
    else if (worst->share) text += cat("More bits help most in ", worst->name, ", which alone has ", in_unit(*worst->share, Unit::kShare), " of the sum. ");
  }
  return text + "Weight error is |Q − W|² / |W|², output error the same of what the tensor gives on real text.";
}

}  // namespace attar
