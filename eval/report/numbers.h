// Numbers as a person reads them; nothing is decided on these.
#pragma once

#include <optional>
#include <string>

#include "eval/report/markup.h"

namespace attar {

// A value with its standard error, if that is known.
struct Figure {
  double value = 0;
  std::optional<double> uncertainty;
};

enum class Unit { kPlain, kBytes, kShare, kCount, kRate };  // kShare: 0 .. 1, shown in percent

std::string rounded(double value, int digits = 4);         // significant digits: "0.1185", "1476", "1.2e-7"
std::string in_unit(double value, Unit unit);              // "5.25 MB", "86.4 %", "2.62 M"
std::string in_unit(const Figure& figure, Unit unit);      // "2.585 ± 0.013": as many digits as the error leaves

// <data value="exact">in_unit</data>, the exact value also on hovering.
Element figure(const Figure& figure, Unit unit = Unit::kPlain);
Element figure(double value, Unit unit = Unit::kPlain);

}  // namespace attar
