#include "eval/report/figures.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/error.h"
#include "base/text.h"

namespace attar {
namespace {

constexpr std::size_t kMostPoints = 400;  // of a line
constexpr int kGrey = 5;

struct Candidate {
  const ReportedModel* model;
  double quality;  // the lower the better
};

std::vector<Candidate> candidates_for(const Report& report, const Group& group, const std::string& metric) {
  std::vector<Candidate> found;
  const auto add = [&](const std::string& path, double quality) {
    const ReportedModel& model = report.model(path);
    if (std::none_of(found.begin(), found.end(), [&](const Candidate& one) { return one.model == &model; })) found.push_back({&model, quality});
  };
  for (const ReportedEvaluation* one : group.evaluations)
    if (const auto at = one->metrics.find(metric); at != one->metrics.end()) add(one->model, at->second.value);
  return found;
}

// The reference, which need not have been evaluated by itself.
void add_reference(const Report& report, const Group& group, std::vector<Candidate>& found) {
  const auto add = [&](const std::string& path, double quality) {
    const ReportedModel& model = report.model(path);
    if (std::none_of(found.begin(), found.end(), [&](const Candidate& one) { return one.model == &model; })) found.push_back({&model, quality});
  };
  if (!group.reference.empty())
    for (const ReportedEvaluation* one : group.evaluations)
      if (const auto at = one->metrics.find("reference_perplexity.value"); at != one->metrics.end() && one->reference == group.reference)
        add(group.reference, at->second.value);
}

struct Place {
  const Candidate* candidate;
  double x;
};

// "q4_0" and "q5_0" for "stories-q4_0.gguf" and "stories-q5_0.gguf": what they share is said by the table.
std::vector<std::string> short_labels(const std::vector<Place>& places) {
  std::vector<std::string> labels;
  for (const Place& place : places) {
    std::string label = label_of(*place.candidate->model);
    if (label.ends_with(".gguf")) label.erase(label.size() - 5);
    labels.push_back(std::move(label));
  }
  std::size_t shared = labels.front().find_last_of("-/") + 1;  // npos + 1 is 0
  for (const std::string& label : labels)
    while (shared > 0 && (label.size() <= shared || label.compare(0, shared, labels.front(), 0, shared) != 0))
      shared = shared >= 2 ? labels.front().find_last_of("-/", shared - 2) + 1 : 0;
  for (std::string& label : labels) label.erase(0, shared);
  return labels;
}

// No other is at least as good in both and better in one.
bool on_front(const Place& one, const std::vector<Place>& all, bool less_is_better) {
  return std::none_of(all.begin(), all.end(), [&](const Place& other) {
    const double gain = less_is_better ? one.x - other.x : other.x - one.x, better = one.candidate->quality - other.candidate->quality;
    return gain >= 0 && better >= 0 && (gain > 0 || better > 0);
  });
}

std::optional<Plot> trade_off(const std::vector<Candidate>& candidates, std::optional<double> ReportedModel::*key, const Axis& axis, bool less_is_better,
                              const std::string& quality, bool logarithmic) {
  std::vector<Place> places;
  for (const Candidate& one : candidates)
    if (const auto& x = one.model->*key; x && *x > 0) places.push_back({&one, *x});
  if (places.size() < 2) return {};
  std::sort(places.begin(), places.end(), [](const Place& a, const Place& b) { return a.x < b.x; });
  Plot plot;
  plot.x = axis;
  plot.x.logarithmic = places.back().x > 8 * places.front().x;
  plot.y = {.label = quality, .logarithmic = logarithmic};
  Series front{"no other is better in both", Series::Style::kPoints, 0, 0, {}}, line{"", Series::Style::kDashed, 0, 0, {}}, others{"others", Series::Style::kPoints, kGrey, 1, {}};
  const std::vector<std::string> labels = short_labels(places);
  for (std::size_t i = 0; i < places.size(); ++i) {
    const Place& place = places[i];
    const bool best = on_front(place, places, less_is_better);
    const ReportedModel& model = *place.candidate->model;
    PlotPoint point{place.x, place.candidate->quality, cat(model.path, "\n", quality, " ", rounded(place.candidate->quality), "\n", axis.label, " ", in_unit(place.x, axis.unit)),
                    labels[i]};
    if (best) line.points.push_back({point.x, point.y, "", ""});
    (best ? front : others).points.push_back(std::move(point));
  }
  plot.series = {line, front};
  if (!others.points.empty()) plot.series.push_back(others);
  return plot;
}

// Every so manieth, and the last.
std::vector<PlotPoint> thinned(const std::vector<PlotPoint>& points) {
  const std::size_t step = (points.size() + kMostPoints - 1) / kMostPoints;
  if (step <= 1) return points;
  std::vector<PlotPoint> result;
  for (std::size_t i = 0; i < points.size(); i += step) result.push_back(points[i]);
  if ((points.size() - 1) % step != 0) result.push_back(points.back());
  return result;
}

std::vector<PlotPoint> points_of(const TrainingLog& log, const std::string& kind, const std::string& value) {
  std::vector<PlotPoint> points;
  for (const TrainingLine& line : log.lines)
    if (const auto at = line.values.find(value); line.kind == kind && at != line.values.end())
      points.push_back({line.step, at->second, cat("step ", rounded(line.step, 9), "\n", exact(at->second)), ""});
  return points;
}

}  // namespace

std::vector<Plot> trade_offs(const Report& report, const Group& group) {
  const auto by_kl = candidates_for(report, group, "kl_divergence.mean");
  auto by_perplexity = candidates_for(report, group, "perplexity.value");
  const bool kl = by_kl.size() >= 2 && by_kl.size() >= by_perplexity.size() && std::all_of(by_kl.begin(), by_kl.end(), [](const Candidate& one) { return one.quality > 0; });
  add_reference(report, group, by_perplexity);
  const auto& candidates = kl ? by_kl : by_perplexity;
  const std::string quality = kl ? "mean KL divergence, nats" : "perplexity";
  std::vector<Plot> plots;
  const auto add = [&](std::optional<Plot> plot, const char* id, const char* title) {
    if (!plot) return;
    plot->id = id, plot->title = title;
    plot->description = cat("Each model by ", plot->x.label, " and ", quality, ", of which less is better. The table of models holds the figures.");
    plots.push_back(std::move(*plot));
  };
  add(trade_off(candidates, &ReportedModel::weight_bytes, {.label = "size of the weights", .unit = Unit::kBytes}, true, quality, kl), "size", "Quality against size: down and left is better");
  add(trade_off(candidates, &ReportedModel::decode_rate, {.label = "decoding, tokens/s", .unit = Unit::kRate}, false, quality, kl), "speed", "Quality against speed: down and right is better");
  return plots;
}

std::optional<Plot> divergence_plot(const Report& report, const Group& group) {
  struct Rank {
    const char* name;
    double share;
    const char* text;
  };
  constexpr Rank kRanks[] = {{"p10", 0.1, "10 %"}, {"median", 0.5, "50 %"}, {"p90", 0.9, "90 %"}, {"p95", 0.95, "95 %"}, {"p99", 0.99, "99 %"}, {"p99_9", 0.999, "99.9 %"}};
  Plot plot{.id = "divergence", .title = "Divergence position by position",
            .description = "For each model the KL divergence from the reference that so many of the positions stay below. The axis is stretched towards the worst."};
  plot.x = {.label = "share of the positions below", .ticks = {}};
  plot.y = {.label = "KL divergence, nats", .logarithmic = true};
  const auto stretched = [](double share) { return -std::log10(1 - share); };
  for (const Rank& rank : kRanks)
    if (rank.share != 0.95) plot.x.ticks.push_back({stretched(rank.share), rank.text});
  for (const ReportedEvaluation* one : group.evaluations) {
    const int index = static_cast<int>(plot.series.size());
    Series series{label_of(report.model(one->model)), Series::Style::kPointsAndLine, index % kGrey, index, {}};
    const auto add = [&](const std::string& name, double share, const std::string& text) {
      if (const auto at = one->metrics.find("kl_divergence." + name); at != one->metrics.end())
        series.points.push_back({stretched(share), at->second.value, cat(series.name, ": ", text, " of the positions up to ", rounded(at->second.value)), ""});
    };
    for (const Rank& rank : kRanks) add(rank.name, rank.share, rank.text);
    // The largest of n is where all but one are below.
    if (one->protocol && one->protocol->scored > 2000) add("max", 1 - 1 / static_cast<double>(one->protocol->scored), "all");
    if (series.points.size() > 1) plot.series.push_back(std::move(series));
  }
  if (plot.series.empty()) return {};
  return plot;
}

std::optional<Plot> place_plot(const Report& report, const Group& group) {
  const bool kl = knows_divergence_by_place(group);
  Plot plot;
  plot.id = "place", plot.title = kl ? "Divergence by place in the context" : "Loss by place in the context";
  plot.description = cat("For each model the mean ", kl ? "divergence" : "of -ln p", " at tokens with so many before them.");
  plot.x = {.label = "tokens before", .unit = Unit::kCount};
  plot.y = {.label = kl ? "mean KL, nats" : "mean -ln p, nats"};
  for (const ReportedEvaluation* one : group.evaluations) {
    const int index = static_cast<int>(plot.series.size());
    Series series{label_of(report.model(one->model)), Series::Style::kPointsAndLine, index % kGrey, index, {}};
    for (const ReportedBand& band : one->by_place) {
      const std::optional<double> value = kl ? band.kl : band.nll;
      if (value) series.points.push_back({(band.from + band.to) / 2, *value, cat(series.name, ": places ", band.from, " to ", band.to - 1, "\n", rounded(*value)), ""});
    }
    if (series.points.size() > 1) plot.series.push_back(std::move(series));
  }
  if (plot.series.empty()) return {};
  return plot;
}

std::vector<Plot> training_plots(const TrainingLog& log, const std::string& id) {
  std::vector<Plot> plots;
  const auto add = [&](const char* value, const std::string& title, const std::string& label) {
    Plot plot{.id = cat(id, "-", value), .title = title, .description = cat(title, " over the steps of the training; the table below holds the figures.")};
    plot.x = {.label = "step", .unit = Unit::kCount};
    plot.y = {.label = label};
    const auto training = points_of(log, "train", value), heldout = points_of(log, "eval", value);
    if (!training.empty()) plot.series.push_back({"training text", Series::Style::kLine, 0, 0, thinned(training)});
    if (!heldout.empty()) plot.series.push_back({"held-out text", Series::Style::kPointsAndLine, 1, 0, thinned(heldout)});
    if (training.size() > kMostPoints) plot.title += cat(" (every ", (training.size() + kMostPoints - 1) / kMostPoints, "th of ", training.size(), " lines)");
    if (training.size() + heldout.size() > 1) plots.push_back(std::move(plot));
  };
  add("kl", "Divergence from the teacher", "KL, nats");
  add("divergence", "Divergence from the teacher as the loss has it", "divergence, nats");  // a loss other than KL
  add("cross_entropy", "Loss on the next token", "cross-entropy, nats");
  add("learning_rate", "Learning rate", "learning rate");
  return plots;
}

Table training_table(const TrainingLog& log) {
  static const std::vector<std::pair<std::string, std::string>> kColumns = {
      {"kl", "KL"}, {"divergence", "divergence of the loss"}, {"cross_entropy", "cross-entropy"}, {"perplexity", "perplexity"}, {"same_top", "same top"}, {"learning_rate", "learning rate"}, {"gradient_norm", "gradient norm"}};
  Table table{"", {"step", "text"}, {}};
  for (const auto& [key, name] : kColumns) table.head.push_back(name);
  std::size_t lines = 0;
  for (const TrainingLine& line : log.lines) lines += line.kind == "train";
  const std::size_t step = std::max<std::size_t>(1, (lines + kMostPoints - 1) / kMostPoints);
  std::size_t index = 0;
  for (const TrainingLine& line : log.lines) {
    if (line.kind == "train" && index++ % step != 0 && index != lines) continue;
    std::vector<Cell> row = {exact(line.step), line.kind == "eval" ? "held-out" : "training"};
    for (const auto& [key, name] : kColumns) {
      const auto at = line.values.find(key);
      const auto error = line.values.find(key + "_uncertainty");
      Figure figure;
      if (at != line.values.end()) figure.value = at->second;
      if (error != line.values.end()) figure.uncertainty = error->second;
      row.push_back(at != line.values.end() ? Cell(figure, key == "same_top" ? Unit::kShare : Unit::kPlain) : Cell());
    }
    table.rows.push_back(std::move(row));
  }
  return without_empty_columns(table);
}

Table size_table(const SizeCurve& curve) {
  Table table{"", {"size of the file", "", "expected KL", "measured KL"}, {}};
  const auto add = [&](const SizeCurve::Point& point, const char* what) {
    table.rows.push_back({in_unit(point.bytes, Unit::kBytes), what, Cell(std::optional(point.expected_kl)), Cell(point.measured_kl)});
  };
  for (const SizeCurve::Point& point : curve.points) add(point, point.chosen ? "chosen" : "");
  for (const SizeCurve::Point& trial : curve.trials) add(trial, "tried");
  return without_empty_columns(table);
}

Plot size_plot(const SizeCurve& curve, const std::string& id) {
  Plot plot{.id = id, .title = "What other sizes would cost",
            .description = "The divergence expected at each size, from the measured sensitivity of every matrix, and the choice that was made."};
  plot.x = {.label = "size of the file", .unit = Unit::kBytes};
  plot.y = {.label = "expected KL, nats", .logarithmic = true};
  Series line{"expected", Series::Style::kPointsAndLine, 0, 0, {}}, chosen{"chosen", Series::Style::kPoints, 1, 1, {}}, trials{"measured on text kept aside", Series::Style::kPoints, 2, 2, {}};
  const auto tip = [](double bytes, double kl) { return cat(in_unit(bytes, Unit::kBytes), "\n", rounded(kl), " nats"); };
  for (const SizeCurve::Point& point : curve.points) {
    line.points.push_back({point.bytes, point.expected_kl, tip(point.bytes, point.expected_kl), ""});
    if (point.chosen) chosen.points.push_back({point.bytes, point.expected_kl, tip(point.bytes, point.expected_kl), in_unit(point.bytes, Unit::kBytes)});
  }
  for (const SizeCurve::Point& trial : curve.trials)
    if (trial.measured_kl) trials.points.push_back({trial.bytes, *trial.measured_kl, tip(trial.bytes, *trial.measured_kl), ""});
  plot.series = {line, chosen};
  if (!trials.points.empty()) plot.series.push_back(trials);
  return plot;
}

}  // namespace attar
