#include "runtime/generate.h"

#include <cmath>

#include "tests/support.h"

namespace attar {
namespace {

TEST(Sample, GreedyTakesTheFirstOfEquals) {
  Random random(1);
  EXPECT_EQ(sample(std::vector{0.5f, 2.0f, 2.0f, -1.0f}, {}, random), 1);
}

TEST(Sample, LogitsThatAreNoNumbersAreAnError) {
  Random random(1);
  for (const double temperature : {0.0, 1.0})
    for (const float bad : {std::nanf(""), HUGE_VALF}) {
      std::vector<float> logits(4);
      logits[2] = bad;
      EXPECT_HAS(test::error_of([&] { (void)sample(logits, {.temperature = temperature}, random); }), "logits are not finite");
    }
}

TEST(Sample, FollowsTheDistribution) {
  const std::vector<float> logits = {0.0f, 1.0f, 2.0f, -3.0f};
  const auto counts = [&](const SamplingOptions& options) {
    Random random(5);
    std::vector<double> count(logits.size());
    for (int i = 0; i < 20000; ++i) count[static_cast<std::size_t>(sample(logits, options, random))] += 1;
    return count;
  };
  const auto expect = [&](const SamplingOptions& options, const std::vector<bool>& allowed) {
    const std::vector<double> got = counts(options);
    double total = 0;
    for (std::size_t i = 0; i < 4; ++i) total += allowed[i] ? std::exp(logits[i] / options.temperature) : 0.0;
    for (std::size_t i = 0; i < 4; ++i) {
      const double p = allowed[i] ? std::exp(logits[i] / options.temperature) / total : 0.0;
      EXPECT_NEAR(got[i] / 20000, p, 5 * std::sqrt(p * (1 - p) / 20000) + 1e-12) << i;
    }
  };
  expect({1.0, 0, 1.0}, {true, true, true, true});
  expect({2.0, 0, 1.0}, {true, true, true, true});
  expect({1.0, 2, 1.0}, {false, true, true, false});
  expect({1.0, 0, 0.6}, {false, false, true, false});  // token 2 alone has 0.66
  expect({1.0, 0, 0.8}, {false, true, true, false});
  expect({1.0, 3, 0.8}, {false, true, true, false});
}

}  // namespace
}  // namespace attar
