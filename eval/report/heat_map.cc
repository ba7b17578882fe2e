#include "eval/report/heat_map.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"

namespace attar {
namespace {

constexpr double kCellHeight = 28, kHead = 20, kRowName = 40, kWidth = 520, kGap = 2;
constexpr double kSpan = 4;  // decades from the palest to the darkest, at most

constexpr HeatMeasure kMeasures[] = {{"share", "share of the divergence", &ReportedTensor::share, Unit::kShare},
                                     {"kl", "KL alone", &ReportedTensor::kl, Unit::kPlain},
                                     {"output", "output error", &ReportedTensor::output_error, Unit::kPlain},
                                     {"weight", "weight error", &ReportedTensor::weight_error, Unit::kPlain}};

std::string tip_of(const ReportedTensor& one) {
  std::string text = cat(one.name, "\n", one.type);
  if (!one.asked.empty() && one.asked != one.type) text += cat(", asked for ", one.asked, one.fallback.empty() ? "" : cat(" (", one.fallback, ")"));
  if (!one.method.empty()) text += cat(", ", one.method);
  for (const HeatMeasure& measure : kMeasures)
    if (const auto& value = one.*measure.value) text += cat("\n", measure.name, " ", in_unit(*value, measure.unit));
  return text;
}

struct Cell {
  const ReportedTensor* tensor;
  double left, top, width;
};

// Layers below one another, each kind in its column; then what is in no layer, side by side.
std::vector<Cell> arrange(const TensorTable& table, const std::vector<long>& layers, const std::vector<std::string>& kinds) {
  std::vector<Cell> cells;
  std::vector<const ReportedTensor*> outside;
  const double width = kinds.empty() ? 0 : (kWidth - kRowName) / static_cast<double>(kinds.size());
  for (const ReportedTensor& one : table.tensors) {
    const HeatPlace place = heat_place(one.name);
    if (place.layer < 0) {
      outside.push_back(&one);
      continue;
    }
    const auto row = std::find(layers.begin(), layers.end(), place.layer) - layers.begin();
    const auto column = std::find(kinds.begin(), kinds.end(), place.kind) - kinds.begin();
    cells.push_back({&one, kRowName + width * static_cast<double>(column), kHead + kCellHeight * static_cast<double>(row), width});
  }
  for (std::size_t i = 0; i < outside.size(); ++i) {
    const double wide = (kWidth - kRowName) / static_cast<double>(outside.size());
    cells.push_back({outside[i], kRowName + wide * static_cast<double>(i), kHead + kCellHeight * static_cast<double>(layers.size()) + 6, wide});
  }
  return cells;
}

std::string short_kind(std::string kind) {
  for (const char* end : {"_proj", ".weight"})
    if (kind.ends_with(end)) kind.erase(kind.size() - std::string_view(end).size());
  return kind;
}

}  // namespace

HeatPlace heat_place(const std::string& tensor) {
  constexpr std::string_view kLayers = "model.layers.";
  std::string name = tensor.ends_with(".weight") ? tensor.substr(0, tensor.size() - 7) : tensor;
  HeatPlace place;
  if (name.starts_with(kLayers)) {
    const char* end = name.data() + name.size();
    const auto [rest, error] = std::from_chars(name.data() + kLayers.size(), end, place.layer);
    if (error == std::errc() && rest != end && *rest == '.' && place.layer >= 0) name.erase(0, static_cast<std::size_t>(rest + 1 - name.data()));
    else place.layer = -1;
  }
  const bool bias = name.ends_with(".bias");
  if (bias) name.erase(name.size() - 5);
  place.kind = short_kind(name.substr(name.rfind('.') + 1)) + (bias ? " bias" : "");
  return place;
}

std::vector<HeatMeasure> measures_of(const TensorTable& table) {
  std::vector<HeatMeasure> found;
  for (const HeatMeasure& measure : kMeasures)
    if (std::any_of(table.tensors.begin(), table.tensors.end(), [&](const ReportedTensor& one) { return (one.*measure.value).has_value(); })) found.push_back(measure);
  return found;
}

Element draw_heat_map(const TensorTable& table, const HeatMeasure& measure, const std::string& id) {
  std::vector<long> layers;
  std::vector<std::string> kinds;
  double low = INFINITY, high = 0;
  for (const ReportedTensor& one : table.tensors) {
    const HeatPlace place = heat_place(one.name);
    if (place.layer >= 0 && std::find(layers.begin(), layers.end(), place.layer) == layers.end()) layers.push_back(place.layer);
    if (place.layer >= 0 && std::find(kinds.begin(), kinds.end(), place.kind) == kinds.end()) kinds.push_back(place.kind);
    if (const auto& value = one.*measure.value; value && *value > 0) low = std::min(low, *value), high = std::max(high, *value);
  }
  std::sort(layers.begin(), layers.end());
  low = std::max(low, high * std::pow(10.0, -kSpan));

  const std::vector<Cell> cells = arrange(table, layers, kinds);
  const bool outside = std::any_of(cells.begin(), cells.end(), [](const Cell& cell) { return heat_place(cell.tensor->name).layer < 0; });
  const double height = kHead + kCellHeight * static_cast<double>(layers.size()) + (outside ? kCellHeight + 6 : 0);
  Element image("svg", {{"class", "heat"}, {"viewBox", cat("0 0 ", kWidth, " ", height)}, {"role", "img"}, {"aria-labelledby", id + "-title " + id + "-desc"}});
  image.add(Element("title", {{"id", id + "-title"}}, cat("Tensors by ", measure.name)));
  image.add(Element("desc", {{"id", id + "-desc"}}, cat("One cell for each tensor, a row per layer, from pale (", rounded(low), " or less) to dark (", rounded(high), ") on a logarithmic scale. The table below holds the figures.")));
  const double column_width = kinds.empty() ? 0 : (kWidth - kRowName) / static_cast<double>(kinds.size());
  for (std::size_t i = 0; i < kinds.size(); ++i)
    image.add(Element("text", {{"class", "head"}, {"x", kRowName + column_width * (static_cast<double>(i) + 0.5)}, {"y", 13.0}, {"text-anchor", "middle"}}, kinds[i]));
  for (std::size_t i = 0; i < layers.size(); ++i)
    image.add(Element("text", {{"class", "head"}, {"x", kRowName - 8}, {"y", kHead + kCellHeight * (static_cast<double>(i) + 0.5) + 4}, {"text-anchor", "end"}}, cat(layers[i])));
  for (const Cell& cell : cells) {
    const auto& value = cell.tensor->*measure.value;
    double heat = 0;
    if (value && *value > 0) heat = high > low ? std::max(0.0, std::log(*value / low) / std::log(high / low)) : 1;
    const double middle = cell.left + cell.width / 2;
    Element group("g", {{"class", heat > 0.55 ? "cell hot" : "cell"}});
    group.add(Element("title", {}, tip_of(*cell.tensor)));
    group.add(Element("rect", {{"x", cell.left + kGap / 2}, {"y", cell.top + kGap / 2}, {"width", cell.width - kGap}, {"height", kCellHeight - kGap}, {"rx", 3.0}, {"fill-opacity", 0.06 + 0.94 * heat}}));
    const bool outer = heat_place(cell.tensor->name).layer < 0;
    const std::string type = outer ? heat_place(cell.tensor->name).kind + " " + cell.tensor->type : cell.tensor->type;
    group.add(Element("text", {{"x", middle}, {"y", cell.top + 12}, {"text-anchor", "middle"}}, type));
    group.add(Element("text", {{"class", "value"}, {"x", middle}, {"y", cell.top + 23}, {"text-anchor", "middle"}}, value ? (measure.unit == Unit::kShare ? in_unit(*value, measure.unit) : rounded(*value, 2)) : "–"));
    image.add(group);
  }
  return image;
}

}  // namespace attar
