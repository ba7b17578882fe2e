#include "eval/significance.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/random.h"

namespace attar {
namespace {

Samples answers(const std::vector<double>& right) { return {Samples::Link::kMean, right, std::vector<double>(right.size(), 1.0)}; }

// Two models' answers to n items: `both` right by chance, then `lost` and `won` of the share.
struct Pair {
  Samples model, other;
};
Pair draw(std::int64_t n, double lost, double won, Random& random) {
  std::vector<double> model, other;
  for (std::int64_t i = 0; i < n; ++i) {
    const double u = random.uniform();
    const double same = random.uniform() < 0.6 ? 1 : 0;
    model.push_back(u < lost ? 0 : u < lost + won ? 1 : same);
    other.push_back(u < lost ? 1 : u < lost + won ? 0 : same);
  }
  return {answers(model), answers(other)};
}

TEST(Significance, McNemarByHand) {
  EXPECT_DOUBLE_EQ(mcnemar_p({100, 5, 0}), 2.0 / 32);
  EXPECT_NEAR(mcnemar_p({100, 10, 2}), 2.0 * (66 + 12 + 1) / 4096, 1e-12);
  EXPECT_NEAR(mcnemar_p({100, 2, 10}), 2.0 * (66 + 12 + 1) / 4096, 1e-12);
  EXPECT_EQ(mcnemar_p({100, 0, 0}), 1);
  EXPECT_EQ(mcnemar_p({100, 4, 4}), 1);
  EXPECT_NEAR(drop_p({100, 10, 2}, 0), (66 + 12 + 1) / 4096.0, 1e-12);
  EXPECT_NEAR(mcnemar_p({100000, 5200, 4800}), std::erfc(399 / 100.0 / std::sqrt(2.0)), 2e-6) << "the normal limit";
}

// Tango's statistic with the constrained likelihood maximised by search instead of its closed form.
TEST(Significance, DropBeyondAMargin) {
  for (const Discordance d : {Discordance{200, 30, 5}, Discordance{50, 9, 1}, Discordance{1000, 60, 0}, Discordance{80, 12, 12}})
    for (const double margin : {0.01, 0.05, 0.1}) {
      const auto n = static_cast<double>(d.n), b = static_cast<double>(d.lost), c = static_cast<double>(d.won);
      double best = -1e300, won = 0;
      for (double p = 1e-7; p < (1 - margin) / 2; p += 1e-6) {
        const double likelihood = b * std::log(p + margin) + c * std::log(p) + (n - b - c) * std::log(1 - 2 * p - margin);
        if (likelihood > best) best = likelihood, won = p;
      }
      const double z = (b - c - n * margin) / std::sqrt(n * (2 * won + margin * (1 - margin)));
      const double tango = 0.5 * std::erfc(z / std::sqrt(2.0));
      EXPECT_NEAR(drop_p(d, margin), std::max(tango, drop_p(d, 0)), 2e-4) << d.n << " " << margin;
    }
}

TEST(Significance, PowerAndDetectableDropAreThoseOfSimulation) {
  Random random(5);
  for (const std::int64_t n : {50, 200, 1000}) {
    const Discordance seen{n, n / 10, n / 20};
    const double drop = detectable_drop(seen, 0, 0.05);
    const double discordant = std::max(drop, static_cast<double>(seen.lost + seen.won + 1) / static_cast<double>(n + 2));
    int found = 0;
    for (int trial = 0; trial < 1000; ++trial) {
      const Pair pair = draw(n, (discordant + drop) / 2, (discordant - drop) / 2, random);
      found += drop_p(discordance(pair.model, pair.other), 0) <= 0.05;
    }
    EXPECT_NEAR(found / 1000.0, kPower, 0.04) << n << " items: " << drop;
    EXPECT_NEAR(mcnemar_power(n, drop, discordant, 0.05), kPower, 1e-3);
  }
}

TEST(Significance, MoreItemsSeeSmallerDrops) {
  double last = 1;
  for (const std::int64_t n : {10, 50, 200, 1000, 5000}) {
    const double drop = detectable_drop({n, n / 20, n / 20}, 0, 0.05);
    EXPECT_LT(drop, last) << n;
    last = drop;
  }
  EXPECT_TRUE(std::isnan(detectable_drop({4, 0, 0}, 0, 0.05))) << "four losses of four are no proof";
  EXPECT_NEAR(detectable_drop({1000, 0, 0}, 0, 0.05), 6.7 / 1000, 1e-3) << "five losses and no win are, and come 4 times in 5";
}

TEST(Significance, SoundModelsAreSeldomCalledWorse) {
  Random random(6);
  int alarms = 0, bootstrapped = 0;
  constexpr int kTrials = 1000;
  for (int trial = 0; trial < kTrials; ++trial) {
    const Pair pair = draw(200, 0.05, 0.05, random);
    alarms += drop_p(discordance(pair.model, pair.other), 0) <= 0.05;
    if (trial < 400)
      bootstrapped += Bootstrap(pair.model, &pair.other, Statistic::kDifference, {static_cast<std::uint64_t>(trial), 400}).upper(0.95) < 0;
  }
  EXPECT_LE(alarms, 0.05 * kTrials + 20);
  EXPECT_LE(bootstrapped, 0.05 * 400 + 14);
}

TEST(Significance, AModelAgainstItselfIsNeverWorse) {
  Random random(7);
  const Pair pair = draw(100, 0.1, 0.1, random);
  Samples nll{Samples::Link::kExp, {}, {}};
  for (int i = 0; i < 60; ++i) nll.sums.push_back(100 + 50 * random.uniform()), nll.weights.push_back(32);
  for (std::uint64_t seed = 0; seed < 200; ++seed)
    for (const Samples* s : std::initializer_list<const Samples*>{&pair.model, &nll})
      for (const Statistic statistic : {Statistic::kDifference, Statistic::kRatio}) {
        const Bootstrap same(*s, s, statistic, {seed, 50});
        const double none = statistic == Statistic::kRatio ? 1 : 0;
        EXPECT_EQ(same.value(), none);
        EXPECT_EQ(same.lower(0.95), none);
        EXPECT_EQ(same.upper(0.95), none);
        EXPECT_EQ(same.p_value(), 1);
      }
}

TEST(Significance, IntervalsOfAMeanAreThoseOfStatistics) {
  Random random(8);
  Samples s{Samples::Link::kMean, {}, {}};
  for (int i = 0; i < 400; ++i) s.sums.push_back(random.uniform() + random.uniform()), s.weights.push_back(1);
  const Bootstrap bootstrap(s, nullptr, Statistic::kValue, {1, 4000});
  const Estimate m = mean(s.sums);
  EXPECT_DOUBLE_EQ(bootstrap.value(), m.value);
  EXPECT_NEAR(bootstrap.error(), m.uncertainty, 0.05 * m.uncertainty);
  EXPECT_NEAR(bootstrap.upper(0.975) - m.value, 1.966 * m.uncertainty, 0.1 * m.uncertainty);
  EXPECT_EQ(bootstrap.lower(0.975), Bootstrap(s, nullptr, Statistic::kValue, {1, 4000}).lower(0.975)) << "the seed decides";
  EXPECT_NE(bootstrap.lower(0.975), Bootstrap(s, nullptr, Statistic::kValue, {2, 4000}).lower(0.975));
}

// Clopper and Pearson's interval, from R's binom.test(2, 10) and binom.test(0, 10); tails by hand.
TEST(Significance, SharesAreExact) {
  EXPECT_NEAR(share_p({10, 2}, 0.5, false), 56.0 / 1024, 1e-12);
  EXPECT_NEAR(share_p({10, 9}, 0.5, true), 11.0 / 1024, 1e-12);
  EXPECT_NEAR(share_bound({10, 2}, 0.975, false), 0.02521073, 1e-6);
  EXPECT_NEAR(share_bound({10, 2}, 0.975, true), 0.5560955, 1e-6);
  EXPECT_EQ(share_bound({10, 0}, 0.975, false), 0);
  EXPECT_NEAR(share_bound({10, 0}, 0.975, true), 0.3084971, 1e-6);
  EXPECT_NEAR(share_bound({10, 10}, 0.975, false), 1 - 0.3084971, 1e-6);
  // Of two answers only none right is significant against 0.9, which is 4 times in 5 so at a true share of 1 - sqrt(0.8).
  EXPECT_NEAR(detectable_share(2, 0.9, 0.05, false), 0.9 - (1 - std::sqrt(0.8)), 1e-6);
  EXPECT_NEAR(detectable_share(2, 0.1, 0.05, true), 0.9 - (1 - std::sqrt(0.8)), 1e-6);
  EXPECT_TRUE(std::isnan(detectable_share(1, 0.9, 0.05, false)));
  EXPECT_EQ(detectable_share(10, 0, 0.05, false), 0);
}

// A model exactly at the bound: no more alarms than asked for, however few the units.
TEST(Significance, FewUnitsRaiseNoMoreAlarmsThanAsked) {
  Random random(11);
  constexpr int kTrials = 2000;
  for (const std::size_t n : {2u, 3u, 5u, 8u, 16u})
    for (const double alpha : {0.05, 0.01}) {
      int alarms = 0;
      for (int trial = 0; trial < kTrials; ++trial) {
        Samples s{Samples::Link::kMean, {}, std::vector<double>(n, 1.0)};
        for (std::size_t i = 0; i < n; ++i) {
          double normal = -6;
          for (int j = 0; j < 12; ++j) normal += random.uniform();
          s.sums.push_back(normal);
        }
        alarms += Bootstrap(s, nullptr, Statistic::kValue, {static_cast<std::uint64_t>(trial), 200}).lower(1 - alpha) > 0;
      }
      EXPECT_LE(alarms, kTrials * alpha + 3 * std::sqrt(kTrials * alpha)) << n << " units at " << alpha;
    }
}

TEST(Significance, FewUnitsGiveWiderIntervals) {
  Random random(9);
  int covered = 0;
  constexpr int kTrials = 400;
  for (int trial = 0; trial < kTrials; ++trial) {
    Samples s{Samples::Link::kMean, {}, std::vector<double>(6, 1.0)};
    for (int i = 0; i < 6; ++i) {
      double sum = 0;
      for (int j = 0; j < 12; ++j) sum += random.uniform() - 0.5;
      s.sums.push_back(sum);
    }
    const Bootstrap b(s, nullptr, Statistic::kValue, {static_cast<std::uint64_t>(trial), 400});
    covered += b.lower(0.975) <= 0 && 0 <= b.upper(0.975);
  }
  EXPECT_GE(covered, 0.9 * kTrials) << "plain percentiles of six units cover about 85 %";
}

TEST(Significance, PairingSeesWhatSeparateErrorsHide) {
  Random random(10);
  Samples a{Samples::Link::kMean, {}, {}}, b = a;
  for (int i = 0; i < 100; ++i) {
    const double hardness = 10 * random.uniform();
    a.sums.push_back(hardness + 0.1 + 0.1 * random.uniform()), b.sums.push_back(hardness);
    a.weights.push_back(1), b.weights.push_back(1);
  }
  const Bootstrap pair(a, &b, Statistic::kDifference, {});
  EXPECT_GT(pair.lower(0.975), 0);
  EXPECT_LT(pair.p_value(), 0.01);
  EXPECT_LT(0.15, mean(a.sums).uncertainty);
}

TEST(Significance, UnknownStaysUnknown) {
  const Samples one{Samples::Link::kMean, {1}, {2}}, none{};
  EXPECT_DOUBLE_EQ(one.value(), 0.5);
  EXPECT_TRUE(std::isnan(Bootstrap(one, nullptr, Statistic::kValue, {}).lower(0.9)));
  EXPECT_TRUE(std::isnan(none.value()));
  EXPECT_FALSE(one.binary());
}

TEST(Significance, Quantiles) {
  EXPECT_NEAR(normal_quantile(0.975), 1.959964, 1e-6);
  EXPECT_NEAR(normal_quantile(0.2), -0.841621, 1e-6);
  EXPECT_NEAR(student_quantile(0.975, 1), 12.7062, 1e-3);
  EXPECT_NEAR(student_quantile(0.95, 2), 2.9200, 1e-3);
  EXPECT_NEAR(student_quantile(0.95, 3), 2.3534, 2e-2);
  EXPECT_NEAR(student_quantile(0.975, 10), 2.2281, 1e-3);
  EXPECT_NEAR(student_quantile(0.025, 10), -2.2281, 1e-3);
}

}  // namespace
}  // namespace attar
