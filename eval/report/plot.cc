#include "eval/report/plot.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "eval/report/page.h"

namespace attar {
namespace {

// The picture in its own units; on a phone it is about as wide.
constexpr double kWidth = 440, kHeight = 290, kLeft = 64, kRight = 14, kTop = 12, kBottom = 44;
constexpr double kLetter = 6.1, kLine = 13;  // of the labels: width of a letter, height of a line
constexpr double kBoldLetter = 7.2;

// Maps values to places. margin: room beside the outermost values, as a share; none: up to round numbers.
class Scale {
 public:
  Scale(const Axis& axis, double low, double high, double from, double to, std::optional<double> margin) : axis_(axis), from_(from), to_(to) {
    if (axis.logarithmic && high < 1.2 * low) low /= 1.5, high *= 1.5;
    if (!axis.logarithmic && high - low <= 1e-12 * std::abs(high)) low -= std::max(0.5, 0.1 * std::abs(low)), high += std::max(0.5, 0.1 * std::abs(high));
    if (axis.ticks.empty()) {
      const bool powers = axis.logarithmic && axis.unit == Unit::kPlain;
      for (const double at : round_ticks(low, high, axis.logarithmic)) ticks_.push_back({at, powers ? rounded(at, 1) : in_unit(at, axis.unit)});
      if (!margin) low = std::min(low, ticks_.front().at), high = std::max(high, ticks_.back().at);
    } else {
      ticks_ = axis.ticks;
    }
    const double room = margin.value_or(0) * (place(high) - place(low));
    low_ = place(low) - room, high_ = place(high) + room;
  }

  double operator()(double value) const { return from_ + (place(value) - low_) / (high_ - low_) * (to_ - from_); }
  const std::vector<Tick>& ticks() const { return ticks_; }

 private:
  double place(double value) const { return axis_.logarithmic ? std::log10(value) : value; }
  const Axis& axis_;
  double from_, to_, low_ = 0, high_ = 1;
  std::vector<Tick> ticks_;
};

bool drawable(const Plot& plot, const PlotPoint& p) {
  return std::isfinite(p.x) && std::isfinite(p.y) && (!plot.x.logarithmic || p.x > 0) && (!plot.y.logarithmic || p.y > 0);
}

struct Range {
  double low = INFINITY, high = -INFINITY;
  void take(double value) { low = std::min(low, value), high = std::max(high, value); }
};

std::string text_of(const Tick& tick) {
  // "0.50 MB" beside "1.50 MB" says no more than "0.5 MB"
  std::string text = tick.text;
  const auto dot = text.find('.');
  if (dot == std::string::npos || text.find('e') != std::string::npos) return text;
  auto end = text.find_first_not_of("0123456789", dot + 1);
  if (end == std::string::npos) end = text.size();
  auto last = end;
  while (text[last - 1] == '0') --last;
  if (last - 1 == dot) --last;
  return text.erase(last, end - last);
}

std::size_t letters(std::string_view utf8) {
  return static_cast<std::size_t>(std::count_if(utf8.begin(), utf8.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

Element grid(const Plot& plot, const Scale& x, const Scale& y) {
  Element all("g", {{"class", "axes"}});
  const double bottom = kHeight - kBottom, right = kWidth - kRight;
  double room = -INFINITY;  // where the last label of the x axis ends
  for (const Tick& tick : x.ticks()) {
    const double at = x(tick.at);
    if (at < kLeft - 0.5 || at > right + 0.5) continue;
    all.add(Element("line", {{"x1", at}, {"x2", at}, {"y1", kTop}, {"y2", bottom}}));
    const std::string text = text_of(tick);
    const double half = kLetter * static_cast<double>(letters(text)) / 2, middle = std::min(at, kWidth - half);
    if (middle - half < room + 4) continue;
    room = middle + half;
    all.add(Element("text", {{"x", middle}, {"y", bottom + 15}, {"text-anchor", "middle"}}, text));
  }
  for (const Tick& tick : y.ticks()) {
    const double at = y(tick.at);
    if (at < kTop - 0.5 || at > bottom + 0.5) continue;
    all.add(Element("line", {{"x1", kLeft}, {"x2", right}, {"y1", at}, {"y2", at}}));
    all.add(Element("text", {{"x", kLeft - 6}, {"y", at + 4}, {"text-anchor", "end"}}, text_of(tick)));
  }
  all.add(Element("text", {{"class", "label"}, {"x", (kLeft + right) / 2}, {"y", kHeight - 8}, {"text-anchor", "middle"}}, plot.x.label));
  all.add(Element("text", {{"class", "label"}, {"transform", cat("translate(11 ", coordinate((kTop + bottom) / 2), ") rotate(-90)")}, {"text-anchor", "middle"}},
                  plot.y.label));
  return all;
}

// Colour blind eyes, and printers, tell series by their shape.
Element marker(double x, double y, int shape, double size) {
  const auto path = [&](std::initializer_list<std::pair<double, double>> corners) {
    std::string d;
    for (const auto& [dx, dy] : corners) d += cat(d.empty() ? "M" : "L", coordinate(x + size * dx), " ", coordinate(y + size * dy));
    return Element("path", {{"d", d + "Z"}});
  };
  switch (shape % 4) {
    case 1: return path({{-1, -1}, {1, -1}, {1, 1}, {-1, 1}});
    case 2: return path({{0, -1.3}, {1.2, 0.9}, {-1.2, 0.9}});
    case 3: return path({{0, -1.4}, {1.4, 0}, {0, 1.4}, {-1.4, 0}});
    default: return Element("circle", {{"cx", x}, {"cy", y}, {"r", size}});
  }
}

struct Box {
  double left, top, right, bottom;
  bool meets(const Box& o) const { return left < o.right && o.left < right && top < o.bottom && o.top < bottom; }
};

// A label beside its point where it covers no other, with a line to it if that is not near; nowhere if there is no room.
Element placed_label(const std::string& text, double x, double y, std::vector<Box>& taken) {
  const double width = kBoldLetter * static_cast<double>(letters(text));
  const auto box = [&](double left, double middle) { return Box{left, middle - kLine / 2, left + width, middle + kLine / 2}; };
  const auto ends_at_point = [&](const Box& b) { return b.right < x; };
  std::vector<Box> choices = {box(x + 9, y), box(x - 9 - width, y), box(x - width / 2, y - 14), box(x - width / 2, y + 14)};
  for (double away = 12; away <= 72; away += 12)
    for (const double middle : {y - away, y + away})
      for (const double left : {x + 12, x - 12 - width}) choices.push_back(box(left, middle));
  const auto fits = [&](const Box& b) {
    return b.left >= kLeft && b.right <= kWidth && b.top >= 0 && b.bottom <= kHeight - kBottom &&
           std::none_of(taken.begin(), taken.end(), [&](const Box& o) { return b.meets(o); });
  };
  Element group("g", {{"class", "point"}});
  const auto found = std::find_if(choices.begin(), choices.end(), fits);
  if (found == choices.end()) return group;
  taken.push_back(*found);
  if (found - choices.begin() >= 4)
    group.add(Element("line", {{"x1", x}, {"y1", y}, {"x2", ends_at_point(*found) ? found->right + 2 : found->left - 2}, {"y2", found->top + kLine / 2}}));
  // However wide the browser's letters are, the side at the point stays where it is.
  if (ends_at_point(*found)) return group.add(Element("text", {{"x", found->right}, {"y", found->top + kLine - 3}, {"text-anchor", "end"}}, text));
  return group.add(Element("text", {{"x", found->left}, {"y", found->top + kLine - 3}}, text));
}

Element draw_series(const Plot& plot, const Series& series, const Scale& x, const Scale& y, std::vector<Box>& taken) {
  using Style = Series::Style;
  Element all("g", {{"class", cat("series s", series.colour, series.style == Style::kDashed ? " dashed" : "")}});
  std::string path;
  for (const PlotPoint& p : series.points)
    if (drawable(plot, p)) path += cat(path.empty() ? "M" : "L", coordinate(x(p.x)), " ", coordinate(y(p.y)));
  if (series.style != Style::kPoints && !path.empty()) all.add(Element("path", {{"class", "line"}, {"d", path}}));
  const bool marked = series.style == Style::kPoints || series.style == Style::kPointsAndLine;
  for (const PlotPoint& p : series.points) {
    if (!marked || !drawable(plot, p)) continue;
    const double size = series.style == Style::kPoints ? 5 : 3;
    all.add(Element("g", {{"class", "mark"}}, Element("title", {}, p.tip), Element("circle", {{"class", "touch"}, {"cx", x(p.x)}, {"cy", y(p.y)}, {"r", 9.0}}),
                    marker(x(p.x), y(p.y), series.shape, size)));
    if (!p.label.empty()) all.add(placed_label(p.label, x(p.x), y(p.y), taken));
  }
  return all;
}

Element legend(const Plot& plot) {
  Element list("ul", {{"class", "legend"}});
  for (const Series& series : plot.series) {
    if (series.name.empty()) continue;
    const bool line = series.style != Series::Style::kPoints;
    Element key("svg", {{"viewBox", "0 0 26 12"}, {"width", "26"}, {"height", "12"}, {"aria-hidden", "true"}});
    Element g("g", {{"class", cat("series s", series.colour, series.style == Series::Style::kDashed ? " dashed" : "")}});
    if (line) g.add(Element("path", {{"class", "line"}, {"d", "M1 6L25 6"}}));
    if (series.style == Series::Style::kPoints || series.style == Series::Style::kPointsAndLine) g.add(marker(13, 6, series.shape, line ? 3 : 4));
    list.add(Element("li", {}, key.add(g), " " + series.name));
  }
  return list;
}

}  // namespace

std::vector<double> round_ticks(double low, double high, bool logarithmic) {
  std::vector<double> ticks;
  if (logarithmic) {
    const double decades = std::log10(high) - std::log10(low);
    const auto first = static_cast<int>(std::floor(std::log10(low)));
    const int step = std::max(1, static_cast<int>(std::ceil(decades / 6)));
    std::vector<double> between = {1.0};
    if (decades <= 3) between = {1.0, 2.0, 5.0};
    for (int power = first;; power += step)
      for (const double part : between) {
        const double at = part * std::pow(10.0, power);
        if (at < low * (1 - 1e-9) && ticks.size() == 1) ticks.clear();  // only the last one below
        ticks.push_back(at);
        if (at >= high * (1 - 1e-9)) return ticks;
      }
  }
  const double rough = (high - low) / 4.5, power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double nice : {1.0, 2.0, 5.0})
    if (nice * power >= rough) {
      step = nice * power;
      break;
    }
  for (double at = std::floor(low / step); at <= std::ceil(high / step - 1e-9); ++at) ticks.push_back(at * step);
  return ticks;
}

namespace {

bool is_empty(const Plot& plot) {
  return std::none_of(plot.series.begin(), plot.series.end(), [&](const Series& series) {
    return std::any_of(series.points.begin(), series.points.end(), [&](const PlotPoint& p) { return drawable(plot, p); });
  });
}

Element image_of(const Plot& plot) {
  Range across, up;
  for (const Series& series : plot.series)
    for (const PlotPoint& p : series.points)
      if (drawable(plot, p)) across.take(p.x), up.take(p.y);
  const bool loose = std::any_of(plot.series.begin(), plot.series.end(), [](const Series& s) { return s.style == Series::Style::kPoints; });
  const Scale x(plot.x, across.low, across.high, kLeft, kWidth - kRight, loose ? 0.08 : 0.0), y(plot.y, up.low, up.high, kHeight - kBottom, kTop, {});
  const std::string title = plot.id + "-title", description = plot.id + "-desc";
  Element image("svg", {{"viewBox", cat("0 0 ", kWidth, " ", kHeight)}, {"role", "img"}, {"aria-labelledby", title + " " + description}});
  image.add(Element("title", {{"id", title}}, plot.title)).add(Element("desc", {{"id", description}}, plot.description)).add(grid(plot, x, y));
  std::vector<Box> taken;
  for (const Series& series : plot.series)
    for (const PlotPoint& p : series.points)
      if (series.style == Series::Style::kPoints && drawable(plot, p)) taken.push_back({x(p.x) - 6, y(p.y) - 6, x(p.x) + 6, y(p.y) + 6});
  for (const Series& series : plot.series) image.add(draw_series(plot, series, x, y, taken));
  return image;
}

// The page's look in light colours, for viewers that know no variables.
std::string without_variables(std::string css) {
  const std::size_t end = css.find('}');  // of the first rule, :root
  std::vector<std::pair<std::string, std::string>> values;
  for (std::size_t at = css.find("--"); at < end; at = css.find("--", at + 2)) {
    const std::size_t colon = css.find(':', at), semicolon = css.find(';', at);
    values.emplace_back(cat("var(", css.substr(at, colon - at), ")"), css.substr(colon + 2, semicolon - colon - 2));
  }
  const std::size_t rest = css.find("\n* {");  // after the dark colours
  css.erase(0, rest);
  for (const auto& [name, value] : values)
    for (std::size_t at = css.find(name); at != std::string::npos; at = css.find(name, at)) css.replace(at, name.size(), value);
  return css;
}

}  // namespace

std::string svg_file(const Plot& plot) {
  if (is_empty(plot)) fail("plot: there is nothing to draw");
  Element style("style");
  style.add_style(without_variables(kPageStyle));
  Element image = image_of(plot);
  image.set("xmlns", "http://www.w3.org/2000/svg");
  return image.add(style).html() + "\n";
}

Element draw(const Plot& plot) {
  Element frame("figure");
  frame.add(Element("figcaption", {}, plot.title));
  if (is_empty(plot)) return frame.add(Element("p", {{"class", "note"}}, "There is nothing to draw."));
  frame.add(image_of(plot));
  const bool named = std::count_if(plot.series.begin(), plot.series.end(), [](const Series& s) { return !s.name.empty(); }) > 1;
  return named ? frame.add(legend(plot)) : frame;
}

}  // namespace attar
