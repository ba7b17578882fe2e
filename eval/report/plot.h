// Plots as inline SVG: points and lines over two axes. Colours and fonts come from the page's style.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "eval/report/numbers.h"

namespace attar {

struct PlotPoint {
  double x = 0, y = 0;
  std::string tip;    // shown on hovering
  std::string label;  // beside the point; empty: none
};

struct Series {
  enum class Style { kLine, kDashed, kPoints, kPointsAndLine };
  std::string name;   // of the legend; empty: not in it
  Style style = Style::kLine;
  int colour = 0;     // 0 .. 5
  int shape = 0;      // of its marks
  std::vector<PlotPoint> points;
};

struct Tick {
  double at = 0;
  std::string text;
};

struct Axis {
  std::string label;
  Unit unit = Unit::kPlain;
  bool logarithmic = false;  // values must be above 0
  std::vector<Tick> ticks;   // empty: chosen
};

struct Plot {
  std::string id;            // unique on the page
  std::string title;
  std::string description;   // for those who cannot see it
  Axis x, y;
  std::vector<Series> series;
};

// A figure with caption, image and legend. Points that are not finite, or not above 0 on a logarithmic axis, are left out.
Element draw(const Plot& plot);

// The image alone, as a file.
std::string svg_file(const Plot& plot);

// Round numbers that cover [low, high]: 1, 2 or 5 times a power of ten apart; on a logarithmic axis powers of ten, between few of
// them also 2 and 5 times one.
std::vector<double> round_ticks(double low, double high, bool logarithmic);

}  // namespace attar
