// Whether a difference is more than chance, and how large it would have to be to be seen.
//
// Everything is paired: two models are compared on the same items, chunks or documents ("units"), which are what is resampled, because
// the tokens of one text do not vary independently.
//
//   intervals    bootstrap over units, percentiles widened for few units (T. Hesterberg, "What Teachers Should Know About the
//                Bootstrap", 2015, section 4.3.2 on the expanded percentile interval, https://arxiv.org/abs/1411.5279)
//   right/wrong  exact test of McNemar (Q. McNemar, Psychometrika 12, 1947); against a margin also the score test of T. Tango
//                (Statistics in Medicine 17, 1998)
#pragma once

#include <cstdint>
#include <vector>

#include "eval/statistics.h"

namespace attar {

// What a figure is the mean of: link(sum of sums / sum of weights).
struct Samples {
  enum class Link { kMean, kExp, kRoot };
  Link link = Link::kMean;
  std::vector<double> sums, weights;  // one of each per unit

  std::size_t size() const { return sums.size(); }
  double value() const;               // NaN without weight
  bool binary() const;                // each unit is one answer, right or wrong
};

struct Resampling {
  std::uint64_t seed = 0;
  std::int64_t replicates = 2000;
};

enum class Statistic { kValue, kDifference, kRatio };

// kDifference or kRatio of two paired figures. The difference of two means over the same units is the mean of the differences: 62 and 67
// right answers of 100 differ by exactly -5/100, which 0.62 - 0.67 is not.
double compare(const Samples& a, const Samples& b, Statistic statistic);

// A statistic with its uncertainty. Intervals are two-sided.
class Bootstrap {
 public:
  // b: paired with a, or nullptr for kValue. The same units are drawn for both.
  Bootstrap(const Samples& a, const Samples* b, Statistic statistic, const Resampling& resampling);
  double value() const { return value_; }
  // The bound that the true value lies above with this confidence; NaN for fewer than two units.
  double lower(double confidence) const { return quantile(1 - confidence); }
  double upper(double confidence) const { return quantile(confidence); }
  double deviation() const { return deviation_; }  // of the replicates
  double p_value() const;                           // two-sided, of no difference (kDifference: 0; kRatio: 1)

 private:
  double quantile(double level) const;
  double value_, deviation_ = 0, none_;
  std::size_t units_;
  std::vector<double> ascending_;
};

// Right and wrong answers of two models to the same n items.
struct Discordance {
  std::int64_t n = 0;
  std::int64_t lost = 0, won = 0;  // only the other model was right; only this one
};
Discordance discordance(const Samples& model, const Samples& other);

double mcnemar_p(const Discordance& d);  // two-sided, exact
// One-sided: how likely so large a drop is if the true one is not above the margin (a share of the items, 0 or more).
double drop_p(const Discordance& d, double margin);

constexpr double kPower = 0.8;  // the chance with which what is called detectable is detected

// The smallest true drop in accuracy beyond the margin that a test at level alpha finds with that power among n items like these.
double detectable_drop(const Discordance& d, double margin, double alpha);
// How likely the exact test at level alpha finds a true drop when a share `discordant` of the answers differ.
double mcnemar_power(std::int64_t n, double drop, double discordant, double alpha);
// The same of a mean whose difference varies with this standard deviation.
double detectable_difference(double deviation, double alpha);

double normal_quantile(double p);
double student_quantile(double p, double degrees);  // degrees of freedom >= 1

}  // namespace attar
