#include "eval/statistics.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>

namespace attar {
namespace {

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

double sum(std::span<const double> values) {
  // Kahan's compensated sum: the result does not lose digits over millions of tokens.
  double total = 0, lost = 0;
  for (const double value : values) {
    const double y = value - lost;
    const double t = total + y;
    lost = (t - total) - y;
    total = t;
  }
  return total;
}

// sqrt of what rounding may have pushed a little below zero.
double root(double square) { return std::sqrt(std::max(square, 0.0)); }

}  // namespace

Estimate mean(std::span<const double> values) {
  const auto n = static_cast<double>(values.size());
  if (values.empty()) return {kUnknown, kUnknown};
  const double m = sum(values) / n;
  if (values.size() < 2) return {m, kUnknown};
  std::vector<double> squares(values.size());
  std::transform(values.begin(), values.end(), squares.begin(), [m](double v) { return (v - m) * (v - m); });
  return {m, std::sqrt(sum(squares) / n / (n - 1))};
}

Estimate root_mean_square(std::span<const double> values) {
  std::vector<double> squares(values.size());
  std::transform(values.begin(), values.end(), squares.begin(), [](double v) { return v * v; });
  const Estimate square = mean(squares);
  const double rms = std::sqrt(square.value);
  return {rms, rms > 0 ? 0.5 / rms * square.uncertainty : square.uncertainty};
}

Estimate share(std::int64_t count, std::int64_t total) {
  if (total == 0) return {kUnknown, kUnknown};
  const double p = static_cast<double>(count) / static_cast<double>(total);
  return {p, total < 2 ? kUnknown : std::sqrt(p * (1 - p) / static_cast<double>(total - 1))};
}

double percentile(std::span<const double> ascending, double fraction) {
  assert(fraction >= 0 && fraction <= 1);
  if (ascending.empty()) return kUnknown;
  const double position = fraction * static_cast<double>(ascending.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const double weight = position - static_cast<double>(below);
  if (weight == 0) return ascending[below];
  return (1 - weight) * ascending[below] + weight * ascending[below + 1];
}

Estimate bits_per_byte(std::span<const double> nll, std::span<const double> bytes) {
  if (nll.empty() || nll.size() != bytes.size()) return {kUnknown, kUnknown};
  const double all = sum(bytes), ratio = sum(nll) / all;
  std::vector<double> rest(nll.size());
  std::transform(nll.begin(), nll.end(), bytes.begin(), rest.begin(), [&](double a, double b) { return a - ratio * b; });
  const double bit = std::log(2.0), mean_bytes = all / static_cast<double>(nll.size());
  return {ratio / bit, mean(rest).uncertainty / mean_bytes / bit};
}

Estimate exponential(const Estimate& logarithm) {
  const double value = std::exp(logarithm.value);
  return {value, value * logarithm.uncertainty};
}

PairedMeans paired_means(std::span<const double> a, std::span<const double> b) {
  assert(a.size() == b.size());
  const Estimate mean_a = mean(a), mean_b = mean(b);
  const auto n = static_cast<double>(a.size());
  PairedMeans result;
  if (a.size() < 2) {
    result.difference = {mean_a.value - mean_b.value, kUnknown};
    result.covariance = result.correlation = kUnknown;
    return result;
  }
  std::vector<double> products(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) products[i] = (a[i] - mean_a.value) * (b[i] - mean_b.value);
  result.covariance = sum(products) / n / (n - 1);
  const double spread = mean_a.uncertainty * mean_b.uncertainty;
  result.correlation = spread > 0 ? result.covariance / spread : kUnknown;
  result.difference = difference(mean_a, mean_b, result.covariance);
  return result;
}

Estimate difference(const Estimate& a, const Estimate& b, double covariance) {
  return {a.value - b.value, root(a.uncertainty * a.uncertainty + b.uncertainty * b.uncertainty - 2 * covariance)};
}

}  // namespace attar
