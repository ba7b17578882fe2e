// Whether a difference is more than chance, and how large it would have to be to be seen.
//
// Everything is paired: two models are compared on the same items, chunks or documents ("units"), which are what is resampled, because
// the tokens of one text do not vary independently.
//
//   intervals    bootstrap over units, percentiles widened for few units (T. Hesterberg, "What Teachers Should Know About the
//                Bootstrap", 2015, section 4.3.2 on the expanded percentile interval, https://arxiv.org/abs/1411.5279), and no narrower than
//                Student's with the jackknife's error: no percentile goes beyond the units, of which few may all lie on one side
//   shares       of right answers: exact, from the binomial (C. Clopper, E. Pearson, Biometrika 26, 1934)
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
  double p_value() const;                   // two-sided, of no difference (kDifference: 0; kRatio: 1)
  double error() const { return error_; }   // standard error of the value
  double detectable(double alpha) const;    // the smallest true change that is found with kPower at level alpha; NaN for fewer than two units

 private:
  double quantile(double level) const;
  double value_, error_ = 0, none_;        // error_: the larger of the replicates' deviation and the jackknife's error
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

// Right answers of one model to n items, against a share of them.
struct Answers {
  std::int64_t n = 0, right = 0;
};
Answers answers(const Samples& binary);
// How likely so few right answers (upper: so many) are if the true share is `share`.
double share_p(const Answers& a, double share, bool upper);
// The bound of a one-sided interval, exact: the true share lies above (upper: below) it with this confidence.
double share_bound(const Answers& a, double confidence, bool upper);
// The interval of a figure with this confidence on either side: of answers exact, else by the bootstrap; NaN for too few units.
struct Interval {
  double low = 0, high = 0;
};
Interval interval(const Samples& samples, double one_sided, const Resampling& resampling);
// The smallest true worsening beyond `share` (upper: rise) that share_p finds at level alpha with kPower; 0 if nothing lies beyond, NaN if n
// items cannot show even the largest.
double detectable_share(std::int64_t n, double share, double alpha, bool upper);

// The smallest true drop in accuracy beyond the margin that a test at level alpha finds with that power among n items like these.
double detectable_drop(const Discordance& d, double margin, double alpha);
// How likely the exact test at level alpha finds a true drop when a share `discordant` of the answers differ.
double mcnemar_power(std::int64_t n, double drop, double discordant, double alpha);
double normal_quantile(double p);
double student_quantile(double p, double degrees);  // degrees of freedom >= 1

}  // namespace attar
