#include "eval/significance.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>
#include <utility>

#include "base/random.h"

namespace attar {
namespace {

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

double linked(Samples::Link link, double sum, double weight) {
  if (!(weight > 0)) return kUnknown;
  const double m = sum / weight;
  switch (link) {
    case Samples::Link::kMean: return m;
    case Samples::Link::kExp: return std::exp(m);
    case Samples::Link::kRoot: return std::sqrt(m);
  }
  return kUnknown;
}

double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); }

double log_choose(double n, double k) { return std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1); }

double binomial(std::int64_t n, std::int64_t k, double p) {
  if (p <= 0) return k == 0 ? 1 : 0;
  if (p >= 1) return k == n ? 1 : 0;
  const auto N = static_cast<double>(n), K = static_cast<double>(k);
  return std::exp(log_choose(N, K) + K * std::log(p) + (N - K) * std::log1p(-p));
}

// A count that a binomial variable exceeds practically never.
std::int64_t ceiling(std::int64_t n, double p) {
  const double most = static_cast<double>(n) * p + 12 * std::sqrt(static_cast<double>(n) * p * (1 - p)) + 12;
  return most < static_cast<double>(n) ? static_cast<std::int64_t>(most) : n;
}

// P(X >= k) of n draws.
double upper_tail(std::int64_t n, std::int64_t k, double p) {
  double sum = 0;
  for (std::int64_t i = std::min(n, std::max(k, ceiling(n, p))); i >= std::max<std::int64_t>(k, 0); --i) sum += binomial(n, i, p);
  return std::min(1.0, sum);
}

// Student's distribution, by halving; exact enough for a p that is shown.
double student_cdf(double t, double degrees) {
  double low = 1e-12, high = 1 - 1e-12;
  for (int step = 0; step < 60; ++step) {
    const double middle = 0.5 * (low + high);
    (student_quantile(middle, degrees) < t ? low : high) = middle;
  }
  return 0.5 * (low + high);
}

double detectable_difference(double deviation, double alpha) { return (normal_quantile(1 - alpha) + normal_quantile(kPower)) * deviation; }

// The share of answers that differ, not quite 0 even if none did: the next item might.
double likely_discordance(const Discordance& d) {
  return static_cast<double>(d.lost + d.won + 1) / static_cast<double>(d.n + 2);
}

}  // namespace

double Samples::value() const {
  double sum = 0, weight = 0;
  for (std::size_t i = 0; i < size(); ++i) sum += sums[i], weight += weights[i];
  return linked(link, sum, weight);
}

bool Samples::binary() const {
  for (std::size_t i = 0; i < size(); ++i)
    if (weights[i] != 1 || (sums[i] != 0 && sums[i] != 1)) return false;
  return link == Link::kMean;
}

double compare(const Samples& a, const Samples& b, Statistic statistic) {
  if (statistic == Statistic::kRatio) return a.value() / b.value();
  if (a.link != Samples::Link::kMean || b.link != a.link || a.weights != b.weights) return a.value() - b.value();
  double sum = 0, weight = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a.sums[i] - b.sums[i], weight += a.weights[i];
  return linked(a.link, sum, weight);
}

Bootstrap::Bootstrap(const Samples& a, const Samples* b, Statistic statistic, const Resampling& resampling)
    : none_(statistic == Statistic::kRatio ? 1 : 0), units_(a.size()) {
  assert((b != nullptr) == (statistic != Statistic::kValue) && (b == nullptr || b->size() == units_));
  const auto combine = [&](double of_a, double of_b) {
    return statistic == Statistic::kValue ? of_a : statistic == Statistic::kDifference ? of_a - of_b : of_a / of_b;
  };
  value_ = b == nullptr ? a.value() : compare(a, *b, statistic);
  if (units_ < 2) return;
  Random random(resampling.seed);
  std::vector<std::uint32_t> drawn(units_);
  for (std::int64_t r = 0; r < resampling.replicates; ++r) {
    for (auto& i : drawn) i = static_cast<std::uint32_t>(random.below(units_));
    const auto resampled = [&](const Samples& s) {
      double sum = 0, weight = 0;
      for (const std::uint32_t i : drawn) sum += s.sums[i], weight += s.weights[i];
      return linked(s.link, sum, weight);
    };
    const double replicate = combine(resampled(a), b != nullptr ? resampled(*b) : 0);
    if (!std::isnan(replicate)) ascending_.push_back(replicate);  // units without weight may be all that is drawn
  }
  const Estimate spread = mean(ascending_);
  error_ = spread.uncertainty * std::sqrt(static_cast<double>(ascending_.size()) - 1);
  std::sort(ascending_.begin(), ascending_.end());

  // The jackknife: the value without each unit in turn.
  const auto without = [](const Samples& s, double sum, double weight, std::size_t i) { return linked(s.link, sum - s.sums[i], weight - s.weights[i]); };
  const auto totals = [](const Samples& s) { return std::pair(std::accumulate(s.sums.begin(), s.sums.end(), 0.0), std::accumulate(s.weights.begin(), s.weights.end(), 0.0)); };
  const auto of_a = totals(a), of_b = b != nullptr ? totals(*b) : std::pair(0.0, 0.0);
  std::vector<double> left;
  for (std::size_t i = 0; i < units_; ++i) {
    const double one = combine(without(a, of_a.first, of_a.second, i), b != nullptr ? without(*b, of_b.first, of_b.second, i) : 0);
    if (std::isfinite(one)) left.push_back(one);
  }
  if (left.size() < 2) return;
  const double middle = std::accumulate(left.begin(), left.end(), 0.0) / static_cast<double>(left.size());
  double squares = 0;
  for (const double one : left) squares += (one - middle) * (one - middle);
  const auto n = static_cast<double>(left.size());
  const double jackknife = std::sqrt(squares * (n - 1) / n);
  if (jackknife > 1e-12 * std::abs(value_)) error_ = std::max(error_, jackknife);  // else what rounding leaves of units that are all alike
}

double Bootstrap::quantile(double level) const {
  if (ascending_.empty() || std::isnan(value_)) return kUnknown;
  const auto n = static_cast<double>(units_);
  const double t = student_quantile(level, n - 1);
  const double drawn = percentile(ascending_, normal_cdf(std::sqrt(n / (n - 1)) * t)), student = value_ + t * error_;
  return level < 0.5 ? std::min(drawn, student) : std::max(drawn, student);
}

double Bootstrap::detectable(double alpha) const {
  if (ascending_.empty()) return kUnknown;
  return (student_quantile(1 - alpha, static_cast<double>(units_) - 1) + normal_quantile(kPower)) * error_;
}

double Bootstrap::p_value() const {
  if (ascending_.empty()) return kUnknown;
  const auto below = std::count_if(ascending_.begin(), ascending_.end(), [&](double v) { return v <= none_; });
  const auto above = std::count_if(ascending_.begin(), ascending_.end(), [&](double v) { return v >= none_; });
  const double drawn = std::min(1.0, 2.0 * static_cast<double>(std::min(below, above) + 1) / static_cast<double>(ascending_.size() + 1));
  if (error_ == 0) return drawn;
  return std::max(drawn, 2 * (1 - student_cdf(std::abs(value_ - none_) / error_, static_cast<double>(units_) - 1)));
}

Answers answers(const Samples& binary) {
  return {static_cast<std::int64_t>(binary.size()), static_cast<std::int64_t>(std::count(binary.sums.begin(), binary.sums.end(), 1.0))};
}

double share_p(const Answers& a, double share, bool upper) {
  return upper ? upper_tail(a.n, a.right, share) : upper_tail(a.n, a.n - a.right, 1 - share);
}

double share_bound(const Answers& a, double confidence, bool upper) {
  if (a.n < 1) return kUnknown;
  if (upper) return 1 - share_bound({a.n, a.n - a.right}, confidence, false);
  if (a.right == 0) return 0;
  double low = 0, high = 1;
  for (int step = 0; step < 60; ++step) {
    const double middle = 0.5 * (low + high);
    (share_p(a, middle, true) < 1 - confidence ? low : high) = middle;
  }
  return 0.5 * (low + high);
}

Interval interval(const Samples& samples, double one_sided, const Resampling& resampling) {
  if (samples.binary()) return {share_bound(answers(samples), one_sided, false), share_bound(answers(samples), one_sided, true)};
  const Bootstrap bootstrap(samples, nullptr, Statistic::kValue, resampling);
  return {bootstrap.lower(one_sided), bootstrap.upper(one_sided)};
}

double detectable_share(std::int64_t n, double share, double alpha, bool upper) {
  if (upper) return detectable_share(n, 1 - share, alpha, false);  // of wrong answers
  if (share <= 0) return 0;
  if (n < 1) return kUnknown;
  std::int64_t most = n;  // right answers that are still significant
  while (most >= 0 && share_p({n, most}, share, false) > alpha) --most;
  const auto power = [&](double truth) { return most < 0 ? 0.0 : share_p({n, most}, truth, false); };
  if (power(0) < kPower) return kUnknown;
  double low = 0, high = std::min(share, 1.0);
  for (int step = 0; step < 40; ++step) {
    const double middle = 0.5 * (low + high);
    (power(std::min(share, 1.0) - middle) < kPower ? low : high) = middle;
  }
  return high;
}

Discordance discordance(const Samples& model, const Samples& other) {
  assert(model.size() == other.size());
  Discordance d{static_cast<std::int64_t>(model.size())};
  for (std::size_t i = 0; i < model.size(); ++i) {
    d.lost += model.sums[i] < other.sums[i];
    d.won += model.sums[i] > other.sums[i];
  }
  return d;
}

double mcnemar_p(const Discordance& d) {
  return std::min(1.0, 2 * upper_tail(d.lost + d.won, std::max(d.lost, d.won), 0.5));
}

// Tango's test of p_lost - p_won <= delta. The likelihood under equality is largest at the root p_won of
//   2n p^2 - (b + c + (b - c - 2n) delta) p - c delta (1 - delta) = 0,   b = lost, c = won,
// and then b - c has the variance n (2 p_won + delta (1 - delta)).
double drop_p(const Discordance& d, double margin) {
  const double exact = upper_tail(d.lost + d.won, d.lost, 0.5);
  if (margin <= 0) return exact;
  const auto n = static_cast<double>(d.n), b = static_cast<double>(d.lost), c = static_cast<double>(d.won);
  const double B = b + c + (b - c - 2 * n) * margin;
  const double won = (B + std::sqrt(B * B + 8 * n * c * margin * (1 - margin))) / (4 * n);
  const double variance = n * (2 * std::max(won, 0.0) + margin * (1 - margin));
  const double score = variance > 0 ? 1 - normal_cdf((b - c - n * margin) / std::sqrt(variance)) : 1;
  return std::max(exact, score);
}

// The number of differing answers is binomial; given it, so is the number of lost ones.
double mcnemar_power(std::int64_t n, double drop, double discordant, double alpha) {
  const double lost = discordant > 0 ? std::min(1.0, 0.5 * (1 + drop / discordant)) : 0;
  double power = 0;
  for (std::int64_t m = 1; m <= n; ++m) {
    const double weight = binomial(n, m, discordant);
    if (weight < 1e-12) continue;
    std::int64_t needed = ceiling(m, 0.5) + 1;  // the smallest count that is significant
    for (double tail = 0; needed > 0; --needed) {
      tail += binomial(m, needed - 1, 0.5);
      if (tail > alpha) break;
    }
    if (needed <= m) power += weight * upper_tail(m, needed, lost);
  }
  return power;
}

double detectable_drop(const Discordance& d, double margin, double alpha) {
  if (d.n < 1) return kUnknown;
  const double observed = likely_discordance(d);
  if (margin > 0) {
    const double deviation = std::sqrt(std::max(observed, margin) / static_cast<double>(d.n));
    return detectable_difference(deviation, alpha);
  }
  double low = 0, high = 1;
  if (mcnemar_power(d.n, 1, 1, alpha) < kPower) return kUnknown;  // too few items to see even a total loss
  for (int step = 0; step < 20; ++step) {
    const double middle = 0.5 * (low + high);
    (mcnemar_power(d.n, middle, std::max(observed, middle), alpha) < kPower ? low : high) = middle;
  }
  return high;
}

double normal_quantile(double p) {
  assert(p > 0 && p < 1);
  double low = -40, high = 40;
  for (int step = 0; step < 80; ++step) {
    const double middle = 0.5 * (low + high);
    (normal_cdf(middle) < p ? low : high) = middle;
  }
  return 0.5 * (low + high);
}

// Exact for 1 and 2 degrees; else the expansion about the normal quantile (Abramowitz & Stegun, 26.7.5).
double student_quantile(double p, double degrees) {
  if (degrees == 1) return std::tan(std::numbers::pi * (p - 0.5));
  if (degrees == 2) return (2 * p - 1) / std::sqrt(2 * p * (1 - p));
  const double z = normal_quantile(p), z2 = z * z, n = degrees;
  const double g1 = (z2 + 1) * z / 4, g2 = ((5 * z2 + 16) * z2 + 3) * z / 96,
               g3 = (((3 * z2 + 19) * z2 + 17) * z2 - 15) * z / 384,
               g4 = ((((79 * z2 + 776) * z2 + 1482) * z2 - 1920) * z2 - 945) * z / 92160;
  return z + g1 / n + g2 / (n * n) + g3 / (n * n * n) + g4 / (n * n * n * n);
}

}  // namespace attar
