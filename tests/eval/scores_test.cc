#include "eval/scores.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/random.h"

namespace attar {
namespace {

// The definition, in double, term by term.
std::vector<double> log_softmax(const std::vector<float>& logits) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double z = 0;
  for (const float x : logits) z += std::exp(static_cast<double>(x) - top);
  std::vector<double> result;
  for (const float x : logits) result.push_back(static_cast<double>(x) - top - std::log(z));
  return result;
}

double divergence(const std::vector<float>& p, const std::vector<float>& q) {
  const auto lp = log_softmax(p), lq = log_softmax(q);
  double kl = 0;
  for (std::size_t i = 0; i < lp.size(); ++i) kl += std::exp(lp[i]) * (lp[i] - lq[i]);
  return kl;
}

std::vector<float> random_logits(Random& random, std::size_t n, double spread) {
  std::vector<float> logits(n);
  for (float& x : logits) x = static_cast<float>((random.uniform() + random.uniform() - 1) * spread);
  return logits;
}

TEST(Scores, TwoTokensByHand) {
  // Logits ln 3 and 0: p = 3/4, 1/4. Reference 0, 0: 1/2, 1/2. KL = 1/2 ln(2/3) + 1/2 ln 2 = 1/2 ln(4/3).
  const std::vector<float> model{std::log(3.0f), 0.0f}, reference{0.0f, 0.0f};
  EXPECT_NEAR(score_row(model, 0).nll, std::log(4.0 / 3), 1e-7);
  EXPECT_NEAR(score_row(model, 1).nll, std::log(4.0), 1e-7);
  const PairScore pair = score_rows(model, reference, 1);
  EXPECT_NEAR(pair.kl, 0.5 * std::log(4.0 / 3), 1e-7);
  EXPECT_NEAR(pair.model.nll, std::log(4.0), 1e-7);
  EXPECT_NEAR(pair.reference.nll, std::log(2.0), 1e-7);
  EXPECT_EQ(pair.model.top, 0);
  EXPECT_EQ(pair.reference.top, 0) << "the first of equals";
}

// Sizes around the lanes and blocks of the loops, spreads from flat to very sharp.
class ScoresAgainstDefinition : public ::testing::TestWithParam<std::tuple<int, double>> {};

TEST_P(ScoresAgainstDefinition, Agree) {
  const auto [size, spread] = GetParam();
  Random random(static_cast<std::uint64_t>(size) + static_cast<std::uint64_t>(spread));
  for (int round = 0; round < 10; ++round) {
    const auto model = random_logits(random, static_cast<std::size_t>(size), spread);
    auto reference = model;
    for (float& x : reference) x += static_cast<float>((random.uniform() - 0.5) * spread * 0.2);
    const auto target = static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(size)));
    const PairScore pair = score_rows(model, reference, target);
    const auto t = static_cast<std::size_t>(target);
    EXPECT_NEAR(pair.model.nll, -log_softmax(model)[t], 2e-6);
    EXPECT_NEAR(pair.reference.nll, -log_softmax(reference)[t], 2e-6);
    EXPECT_NEAR(pair.kl, divergence(reference, model), 1e-6 * (1 + spread));
    EXPECT_EQ(pair.model.top, std::max_element(model.begin(), model.end()) - model.begin());
    EXPECT_EQ(pair.reference.top, std::max_element(reference.begin(), reference.end()) - reference.begin());
    EXPECT_EQ(pair.model.nll, score_row(model, target).nll) << "alone or paired, the same bits";
  }
}
INSTANTIATE_TEST_SUITE_P(Sizes, ScoresAgainstDefinition,
                         ::testing::Combine(::testing::Values(1, 2, 15, 16, 17, 511, 512, 513, 4099, 32000),
                                            ::testing::Values(0.5, 10.0, 120.0)));

TEST(Scores, AModelAgainstItselfIsExactlyZero) {
  Random random(11);
  for (const double spread : {0.1, 5.0, 200.0}) {
    const auto logits = random_logits(random, 3001, spread);
    const PairScore pair = score_rows(logits, logits, 5);
    EXPECT_EQ(pair.kl, 0);
    EXPECT_EQ(pair.model.nll, pair.reference.nll);
  }
}

TEST(Scores, AShiftOfAllLogitsChangesNothing) {
  Random random(12);
  auto logits = random_logits(random, 1000, 4);
  for (float& x : logits) x = std::round(x * 1024) / 1024;  // so that the shift is exact
  auto shifted = logits;
  for (float& x : shifted) x += 64;
  EXPECT_EQ(score_rows(logits, shifted, 1).kl, 0);
  EXPECT_EQ(score_row(logits, 7).nll, score_row(shifted, 7).nll);
}

TEST(Scores, LogitsFarApartDoNotOverflow) {
  std::vector<float> logits(100, -30000.0f);
  logits[42] = 30000.0f;
  EXPECT_EQ(score_row(logits, 42).nll, 0);
  EXPECT_EQ(score_row(logits, 0).nll, 60000);
  EXPECT_EQ(score_row(logits, 0).top, 42);
}

TEST(Scores, ALogitThatIsNotFiniteIsSeenWhereverItStands) {
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                       -std::numeric_limits<float>::infinity()};
  for (const float value : bad)
    for (const std::size_t at : {0u, 3u, 511u, 512u, 599u}) {
      std::vector<float> logits(600, 1.0f), sound(600, 1.0f);
      logits[at] = value;
      EXPECT_TRUE(std::isnan(score_row(logits, 1).nll)) << value << " at " << at;
      EXPECT_TRUE(std::isnan(score_rows(logits, sound, 1).model.nll));
      EXPECT_TRUE(std::isnan(score_rows(sound, logits, 1).reference.nll));
      EXPECT_FALSE(std::isnan(score_rows(sound, logits, 1).model.nll));
    }
}

TEST(Scores, DeltaP) {
  TokenScores scores;
  scores.nll = {std::log(2.0), std::log(4.0)};
  scores.reference_nll = {std::log(4.0), std::log(4.0)};
  const auto delta = scores.delta_p();
  EXPECT_NEAR(delta[0], 0.25, 1e-15);
  EXPECT_EQ(delta[1], 0);
}

}  // namespace
}  // namespace attar
