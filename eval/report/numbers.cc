#include "eval/report/numbers.h"

#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/text.h"

namespace attar {
namespace {

std::string fixed(double value, int decimals) {
  char text[400];
  std::snprintf(text, sizeof text, "%.*f", decimals, value);
  return text;
}

int exponent(double value) { return value == 0 ? 0 : static_cast<int>(std::floor(std::log10(std::abs(value)))); }

std::string count(double value) {
  if (std::abs(value) >= 1e9) return fixed(value / 1e9, 2) + " B";
  if (std::abs(value) >= 1e6) return fixed(value / 1e6, 2) + " M";
  if (std::abs(value) >= 1e4) return fixed(value / 1e3, 1) + " k";
  return value == std::trunc(value) ? fixed(value, 0) : rounded(value);
}

}  // namespace

std::string rounded(double value, int digits) {
  if (!std::isfinite(value)) return "?";
  const int power = exponent(value);
  if (value == 0) return "0";
  if (power < -4 || power > 8) {
    char text[64];
    std::snprintf(text, sizeof text, "%.*e", std::max(0, digits - 2), value);
    std::string result = text;
    for (const char* padded : {"e-0", "e+0"})
      if (const auto at = result.find(padded); at != std::string::npos) result.erase(at + 2, 1);
    if (const auto at = result.find("e+"); at != std::string::npos) result.erase(at + 1, 1);
    return result;
  }
  return fixed(value, std::max(0, digits - 1 - power));
}

std::string in_unit(double value, Unit unit) {
  switch (unit) {
    case Unit::kBytes: return value >= 0 && value < 1e18 ? size_text(static_cast<std::uint64_t>(value)) : rounded(value);
    case Unit::kShare: return fixed(100 * value, 1) + " %";
    case Unit::kCount: return count(value);
    case Unit::kRate: return rounded(value, value >= 1000 ? 4 : 3);
    case Unit::kPlain: break;
  }
  return rounded(value);
}

std::string in_unit(const Figure& figure, Unit unit) {
  if (!figure.uncertainty || !std::isfinite(*figure.uncertainty) || *figure.uncertainty <= 0) return in_unit(figure.value, unit);
  const double scale = unit == Unit::kShare ? 100 : 1, error = *figure.uncertainty * scale, value = figure.value * scale;
  const int decimals = 1 - exponent(error);  // two digits of the error
  if (decimals > 6 || decimals < 0) return rounded(value) + " ± " + rounded(error, 2) + (unit == Unit::kShare ? " %" : "");
  return fixed(value, decimals) + " ± " + fixed(error, decimals) + (unit == Unit::kShare ? " %" : "");
}

Element figure(const Figure& figure, Unit unit) {
  std::string title = exact(figure.value);
  if (figure.uncertainty) title += " ± " + exact(*figure.uncertainty);
  return Element("data", {{"value", exact(figure.value)}, {"title", title}}, in_unit(figure, unit));
}

Element figure(double value, Unit unit) { return figure(Figure{value, {}}, unit); }

}  // namespace attar
