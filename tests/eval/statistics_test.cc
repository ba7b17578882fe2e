#include "eval/statistics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/random.h"

namespace attar {
namespace {

TEST(Statistics, MeanOfFourNumbers) {
  // mean 2.5; squared deviations 2.25 + 0.25 + 0.25 + 2.25 = 5; variance 1.25; error sqrt(1.25 / 3).
  const std::vector<double> values{1, 2, 3, 4};
  EXPECT_DOUBLE_EQ(mean(values).value, 2.5);
  EXPECT_DOUBLE_EQ(mean(values).uncertainty, std::sqrt(1.25 / 3));
}

TEST(Statistics, OneValueHasNoUncertaintyAndNoneHasNoMean) {
  const std::vector<double> one{7};
  EXPECT_EQ(mean(one).value, 7);
  EXPECT_TRUE(std::isnan(mean(one).uncertainty));
  EXPECT_TRUE(std::isnan(mean({}).value));
  EXPECT_TRUE(std::isnan(percentile({}, 0.5)));
  EXPECT_TRUE(std::isnan(share(0, 0).value));
}

TEST(Statistics, MeanKeepsItsDigitsOverManyValues) {
  std::vector<double> values(1'000'000, 0.1);
  EXPECT_DOUBLE_EQ(mean(values).value, 0.1);
  EXPECT_NEAR(mean(values).uncertainty, 0, 1e-15);
}

TEST(Statistics, BitsPerByte) {
  // 6 nats over 4 bytes, 1.5 nats a byte. What is left of each: 1 - 1.5, 5 - 4.5: mean square 0.25, error 0.5 nats per token
  // of two bytes.
  const std::vector<double> nll{1, 5}, bytes{1, 3};
  EXPECT_DOUBLE_EQ(bits_per_byte(nll, bytes).value, 1.5 / std::log(2.0));
  EXPECT_DOUBLE_EQ(bits_per_byte(nll, bytes).uncertainty, 0.25 / std::log(2.0));
  EXPECT_TRUE(std::isnan(bits_per_byte(nll, {}).value));
}

TEST(Statistics, RootMeanSquare) {
  // Squares 9 and 16: mean 12.5, error of it sqrt(3.5^2 / 1) = 3.5; divided by twice the root.
  const std::vector<double> values{3, -4};
  EXPECT_DOUBLE_EQ(root_mean_square(values).value, std::sqrt(12.5));
  EXPECT_DOUBLE_EQ(root_mean_square(values).uncertainty, 3.5 / (2 * std::sqrt(12.5)));
  const std::vector<double> zeros{0, 0, 0};
  EXPECT_EQ(root_mean_square(zeros).value, 0);
  EXPECT_EQ(root_mean_square(zeros).uncertainty, 0);
}

TEST(Statistics, ShareIsBinomial) {
  EXPECT_DOUBLE_EQ(share(8, 10).value, 0.8);
  EXPECT_DOUBLE_EQ(share(8, 10).uncertainty, std::sqrt(0.8 * 0.2 / 9));
  EXPECT_EQ(share(10, 10).uncertainty, 0);
}

TEST(Statistics, PercentilesInterpolateBetweenRanks) {
  const std::vector<double> values{10, 20, 30, 40, 50};
  EXPECT_EQ(percentile(values, 0), 10);
  EXPECT_EQ(percentile(values, 0.5), 30);
  EXPECT_EQ(percentile(values, 1), 50);
  EXPECT_DOUBLE_EQ(percentile(values, 0.9), 46);  // rank 3.6
  EXPECT_DOUBLE_EQ(percentile(values, 0.05), 12);
  const std::vector<double> even{1, 2, 3, 10};
  EXPECT_DOUBLE_EQ(percentile(even, 0.5), 2.5);
}

TEST(Statistics, ExponentialCarriesTheErrorAlong) {
  const Estimate result = exponential({std::log(4.0), 0.01});
  EXPECT_DOUBLE_EQ(result.value, 4);
  EXPECT_DOUBLE_EQ(result.uncertainty, 0.04);
}

TEST(Statistics, PairedMeansOfThreePairs) {
  // a - mean: -1 0 1; b - mean: -2 1 1. Products 2 + 0 + 1 = 3, covariance 3 / 3 / 2 = 0.5.
  // Errors: a sqrt(2/3/2) = sqrt(1/3), b sqrt(6/3/2) = 1. Difference: 1/3 + 1 - 1 = 1/3.
  const std::vector<double> a{1, 2, 3}, b{1, 4, 4};
  const PairedMeans pair = paired_means(a, b);
  EXPECT_DOUBLE_EQ(pair.covariance, 0.5);
  EXPECT_DOUBLE_EQ(pair.correlation, 0.5 / std::sqrt(1.0 / 3));
  EXPECT_DOUBLE_EQ(pair.difference.value, -1);
  EXPECT_NEAR(pair.difference.uncertainty, std::sqrt(1.0 / 3), 1e-15);
}

TEST(Statistics, DifferenceOfEqualSeriesIsExactlyZero) {
  Random random(3);
  std::vector<double> a(1000);
  for (double& v : a) v = random.uniform();
  const PairedMeans pair = paired_means(a, a);
  EXPECT_EQ(pair.difference.value, 0);
  EXPECT_EQ(pair.difference.uncertainty, 0);
  EXPECT_NEAR(pair.correlation, 1, 1e-12);
}

TEST(Statistics, PairedErrorIsThatOfTheDifferences) {
  // The error of a paired difference must equal the error of the mean of the differences.
  Random random(5);
  std::vector<double> a(500), b(500), d(500);
  for (std::size_t i = 0; i < a.size(); ++i) {
    a[i] = random.uniform();
    b[i] = 0.7 * a[i] + 0.3 * random.uniform();
    d[i] = a[i] - b[i];
  }
  EXPECT_NEAR(paired_means(a, b).difference.uncertainty, mean(d).uncertainty, 1e-12);
}

TEST(Statistics, NothingVariesNothingCorrelates) {
  const std::vector<double> flat{2, 2, 2}, rising{1, 2, 3};
  EXPECT_TRUE(std::isnan(paired_means(flat, rising).correlation));
}

}  // namespace
}  // namespace attar
