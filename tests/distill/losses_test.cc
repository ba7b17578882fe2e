#include "distill/losses.h"

#include <gtest/gtest.h>
#include <ATen/ATen.h>

#include <cmath>
#include <tuple>
#include <utility>
#include <vector>

#include "base/error.h"
#include "model/tensor.h"

namespace attar {
namespace {

at::Tensor random(at::IntArrayRef shape, std::uint64_t seed) {
  return at::randn(shape, at::detail::createCPUGenerator(seed), at::kDouble) * 2.0;
}

// By the definitions in divergences.h, one number at a time.
double divergence_by_hand(const Divergence& d, const std::vector<double>& p, const std::vector<double>& q) {
  const auto kl = [](const std::vector<double>& a, const std::vector<double>& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * std::log(a[i] / b[i]);
    return sum;
  };
  const auto mix = [&](double of_p) {
    std::vector<double> m;
    for (std::size_t i = 0; i < p.size(); ++i) m.push_back(of_p * p[i] + (1 - of_p) * q[i]);
    return m;
  };
  const double x = d.parameter;
  switch (d.measure) {
    case Measure::kForwardKl: return kl(p, q);
    case Measure::kReverseKl: return kl(q, p);
    case Measure::kJsd: return x * kl(p, mix(x)) + (1 - x) * kl(q, mix(x));
    case Measure::kSkewKl: return kl(p, mix(x));
    case Measure::kSkewReverseKl: return kl(q, mix(1 - x));
    case Measure::kTotalVariation: break;
  }
  double sum = 0;
  for (std::size_t i = 0; i < p.size(); ++i) sum += 0.5 * std::abs(p[i] - q[i]);
  return sum;
}

std::vector<double> softmax_row(const at::Tensor& x, std::int64_t row, double temperature) {
  std::vector<double> p;
  double sum = 0;
  for (std::int64_t i = 0; i < x.size(1); ++i) p.push_back(std::exp(x[row][i].item<double>() / temperature));
  for (const double value : p) sum += value;
  for (double& value : p) value /= sum;
  return p;
}

struct Expected {
  double total = 0, cross_entropy = 0, divergence = 0;
};
Expected by_hand(const at::Tensor& z, const at::Tensor& v, const std::vector<std::int64_t>& y, const LossOptions& o) {
  Expected e;
  for (std::size_t row = 0; row < y.size(); ++row) {
    if (y[row] == kIgnoredTarget) continue;
    const auto r = static_cast<std::int64_t>(row);
    e.cross_entropy -= std::log(softmax_row(z, r, 1.0)[static_cast<std::size_t>(y[row])]);
    e.divergence += divergence_by_hand(o.divergence, softmax_row(v, r, o.temperature), softmax_row(z, r, o.temperature));
  }
  e.total = o.alpha * e.cross_entropy + (1 - o.alpha) * o.temperature * o.temperature * e.divergence;
  return e;
}

// The same as a chain of LibTorch's own operations, for autograd.
at::Tensor by_autograd(const at::Tensor& w, const at::Tensor& v, const at::Tensor& y, const LossOptions& o) {
  const at::Tensor p = at::softmax(v / o.temperature, -1), q = at::softmax(w / o.temperature, -1);
  const auto kl = [](const at::Tensor& a, const at::Tensor& b) { return (a * (a.log() - b.log())).sum(); };
  const double x = o.divergence.parameter;
  at::Tensor D;
  switch (o.divergence.measure) {
    case Measure::kForwardKl: D = kl(p, q); break;
    case Measure::kReverseKl: D = kl(q, p); break;
    case Measure::kJsd: D = x * kl(p, x * p + (1 - x) * q) + (1 - x) * kl(q, x * p + (1 - x) * q); break;
    case Measure::kSkewKl: D = kl(p, x * p + (1 - x) * q); break;
    case Measure::kSkewReverseKl: D = kl(q, (1 - x) * p + x * q); break;
    case Measure::kTotalVariation: D = 0.5 * (p - q).abs().sum(); break;
  }
  return o.alpha * at::nll_loss(at::log_softmax(w, -1), y, {}, at::Reduction::Sum) + (1 - o.alpha) * o.temperature * o.temperature * D;
}

class DistillationLossTest : public ::testing::TestWithParam<std::tuple<const char*, std::pair<double, double>>> {
 protected:
  LossOptions options() const {
    const auto [name, mix] = GetParam();
    return {mix.first, mix.second, parse_divergence(name)};
  }
};

TEST_P(DistillationLossTest, EqualsTheDefinition) {
  const at::Tensor z = random({5, 7}, 1), v = random({5, 7}, 2);
  const std::vector<std::int64_t> y = {3, 0, kIgnoredTarget, 6, 2};
  const LossSums sums = distillation_loss(z, {v}, tensor_of(y), options());
  const Expected expected = by_hand(z, v, y, options());
  EXPECT_NEAR(sums.total.item<double>(), expected.total, 1e-12);
  EXPECT_NEAR(sums.cross_entropy.item<double>(), expected.cross_entropy, 1e-12);
  EXPECT_NEAR(sums.divergence.item<double>(), expected.divergence, 1e-12);
}

TEST_P(DistillationLossTest, GradientAgreesWithFiniteDifferences) {
  const at::Tensor v = random({4, 6}, 3), y = at::tensor({std::int64_t{5}, kIgnoredTarget, std::int64_t{0}, std::int64_t{1}});
  const at::Tensor z = random({4, 6}, 4), gradient = at::empty_like(z);
  distillation_loss(z, {v}, y, options(), gradient);
  constexpr double h = 1e-5;
  for (std::int64_t row = 0; row < 4; ++row)
    for (std::int64_t column = 0; column < 6; ++column) {
      const auto at_shift = [&](double shift) {
        at::Tensor moved = z.clone();
        moved[row][column] += shift;
        return distillation_loss(moved, {v}, y, options()).total.item<double>();
      };
      EXPECT_NEAR(gradient[row][column].item<double>(), (at_shift(h) - at_shift(-h)) / (2 * h), 2e-9) << row << ", " << column;
    }
}

TEST_P(DistillationLossTest, GradientEqualsAutogradAndMayReplaceTheLogits) {
  const at::Tensor v = random({300, 1100}, 5), y = at::randint(0, 1100, {300}, at::kLong);  // several blocks of rows
  at::Tensor z = random({300, 1100}, 6);
  const at::Tensor w = z.clone().set_requires_grad(true);
  distillation_loss(z, {v}, y, options(), z);
  by_autograd(w, v, y, options()).backward();
  EXPECT_LT((z - w.grad()).abs().max().item<double>(), 1e-12);
  EXPECT_LT((z - w.grad()).norm().item<double>(), 1e-10 * w.grad().norm().item<double>());
}

INSTANTIATE_TEST_SUITE_P(
    All, DistillationLossTest,
    ::testing::Combine(::testing::Values("forward_kl", "reverse_kl", "jsd", "jsd:0.1", "skew_kl", "skew_reverse_kl", "skew_kl:0.7", "tvd"),
                       ::testing::Values(std::pair{1.0, 0.0}, std::pair{1.0, 0.3}, std::pair{2.0, 0.0}, std::pair{4.0, 0.5},
                                         std::pair{0.5, 1.0})));

TEST(Divergences, AreNamedOnceAndRefuseWhatMakesNoSense) {
  for (const char* name : {"forward_kl", "reverse_kl", "tvd", "jsd:0.25", "skew_kl:0.1", "skew_reverse_kl:0.5"})
    EXPECT_EQ(divergence_text(parse_divergence(name)), name);
  EXPECT_EQ(divergence_text(parse_divergence("jsd")), "jsd:0.5");
  const auto message = [](const char* text) -> std::string {
    try {
      parse_divergence(text);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(message("reverse_lk").find("did you mean"), std::string::npos) << message("reverse_lk");
  EXPECT_NE(message("tvd:0.5").find("takes no parameter"), std::string::npos);
  for (const char* bad : {"jsd:0", "jsd:1", "jsd:", "jsd:0.5x", "skew_kl:-0.1", "skew_kl:nan"}) EXPECT_NE(message(bad).find("between 0 and 1"), std::string::npos) << bad;
}

class EveryLoss : public ::testing::TestWithParam<const char*> {};

TEST_P(EveryLoss, IsZeroForATeacherThatSaysTheSame) {
  const at::Tensor z = random({3, 9}, 7), gradient = at::empty_like(z);
  const LossSums sums = distillation_loss(z, {z}, at::tensor({1, 2, 3}, at::kLong), {2.0, 0.0, parse_divergence(GetParam())}, gradient);
  EXPECT_NEAR(sums.total.item<double>(), 0.0, 1e-14);
  EXPECT_LT(gradient.abs().max().item<double>(), 1e-14);
}

TEST_P(EveryLoss, AllRowsMaskedGivesZeroNotNan) {
  const at::Tensor z = random({2, 5}, 9), gradient = at::empty_like(z);
  const LossSums sums = distillation_loss(z, {random({2, 5}, 10)}, at::full({2}, kIgnoredTarget, at::kLong),
                                          {2.0, 0.5, parse_divergence(GetParam())}, gradient);
  EXPECT_EQ(sums.total.item<double>(), 0.0);
  EXPECT_EQ(gradient.abs().max().item<double>(), 0.0);
}

// Logits far apart, in float32: probabilities of 0 beside others.
TEST_P(EveryLoss, IsFiniteWhereProbabilitiesVanish) {
  const at::Tensor z = (random({4, 50}, 20) * 200).to(at::kFloat), v = (random({4, 50}, 21) * 200).to(at::kFloat), gradient = at::empty_like(z);
  const LossSums sums = distillation_loss(z, {v}, at::tensor({1, 2, 3, 4}, at::kLong), {1.0, 0.2, parse_divergence(GetParam())}, gradient);
  EXPECT_TRUE(std::isfinite(sums.total.item<double>()));
  EXPECT_TRUE(gradient.isfinite().all().item<bool>());
}

TEST_P(EveryLoss, VocabularyPaddingOnEitherSide) {
  const at::Tensor z = random({3, 8}, 11), v = random({3, 8}, 12), y = at::tensor({1, 2, 3}, at::kLong);
  const LossOptions options{2.0, 0.3, parse_divergence(GetParam())};
  const double same = distillation_loss(z, {v}, y, options).total.item<double>();
  const double teacher_padded = distillation_loss(z, {at::cat({v, random({3, 4}, 13)}, 1)}, y, options).total.item<double>();
  EXPECT_NEAR(teacher_padded, same, 1e-12);
  // A student's extra columns are pushed down, since the teacher gives them no probability.
  const at::Tensor wide = at::cat({z, random({3, 2}, 14)}, 1), gradient = at::empty_like(wide);
  const LossSums sums = distillation_loss(wide, {v}, y, options, gradient);
  EXPECT_TRUE(std::isfinite(sums.total.item<double>()));
  EXPECT_GT(gradient.narrow(1, 8, 2).min().item<double>(), 0.0);
}

INSTANTIATE_TEST_SUITE_P(All, EveryLoss, ::testing::Values("forward_kl", "reverse_kl", "jsd", "skew_kl", "skew_reverse_kl", "tvd"));

TEST(DistillationLoss, WithoutTeacherIsCrossEntropy) {
  const at::Tensor z = random({3, 9}, 8), gradient = at::empty_like(z), y = at::tensor({1, -100, 3}, at::kLong);
  const LossSums sums = distillation_loss(z, {}, y, {3.0, 0.2}, gradient);
  const at::Tensor w = z.clone().set_requires_grad(true);
  const at::Tensor expected = at::nll_loss(at::log_softmax(w, -1), y, {}, at::Reduction::Sum, -100);
  expected.backward();
  EXPECT_NEAR(sums.total.item<double>(), expected.item<double>(), 1e-12);
  EXPECT_LT((gradient - w.grad()).abs().max().item<double>(), 1e-14);
  EXPECT_EQ(sums.divergence.item<double>(), 0.0);
}

// All of the vocabulary, as a cache would hold it, is the distribution itself.
TEST(DistillationLoss, KeptTokensGiveTheSameAsLogitsWhenNothingIsLeftOut) {
  const at::Tensor z = random({4, 9}, 30), v = random({4, 9}, 31), y = at::tensor({1, 2, -100, 4}, at::kLong);
  const LossOptions options{2.0, 0.3};
  const at::Tensor log_p = at::log_softmax(v / 2.0, -1), ids = at::arange(9, at::kLong).expand({4, 9}).contiguous();
  const at::Tensor a = at::empty_like(z), b = at::empty_like(z);
  const LossSums live = distillation_loss(z, {v}, y, options, a), kept = distillation_loss(z, {{}, ids, log_p, log_p.exp()}, y, options, b);
  EXPECT_NEAR(live.total.item<double>(), kept.total.item<double>(), 1e-12);
  EXPECT_LT((a - b).abs().max().item<double>(), 1e-14);
  EXPECT_THROW(distillation_loss(z, {{}, ids, log_p, log_p.exp()}, y, {1.0, 0.0, parse_divergence("tvd")}), Error);
}

TEST(DistillationLoss, RefusesShapesThatDoNotFit) {
  EXPECT_THROW(distillation_loss(random({3, 8}, 1), {random({2, 8}, 1)}, at::zeros({3}, at::kLong), {}), Error);
  EXPECT_THROW(distillation_loss(random({3, 8}, 1), {}, at::zeros({4}, at::kLong), {}), Error);
}

TEST(Agreement, CountsTheSameTopToken) {
  const at::Tensor z = at::tensor({0.0, 2.0, 1.0, 3.0, 0.0, 0.0, 0.0, 0.0, 1.0}, at::kDouble).view({3, 3});
  const at::Tensor v = at::tensor({0.0, 1.0, 0.5, 0.0, 1.0, 0.0, 0.0, 0.0, 5.0}, at::kDouble).view({3, 3});
  const AgreementSums all = agreement(z, {v}, at::tensor({0, 1, 2}, at::kLong));
  EXPECT_EQ(all.same_top.item<double>(), 2.0);
  const AgreementSums masked = agreement(z, {v}, at::tensor({0, 1, -100}, at::kLong));
  EXPECT_EQ(masked.same_top.item<double>(), 1.0);
  EXPECT_NEAR(all.kl.item<double>(), by_hand(z, v, {0, 1, 2}, {}).divergence, 1e-12);
}

TEST(Agreement, SumsTheSquaresOfEachRowsDivergence) {
  const at::Tensor z = random({4, 9}, 40), v = random({4, 9}, 41);
  const std::vector<std::int64_t> y = {1, 2, kIgnoredTarget, 4};
  double squares = 0, cross_entropy = 0;
  for (std::size_t row = 0; row < y.size(); ++row) {
    std::vector<std::int64_t> alone(y.size(), kIgnoredTarget);
    alone[row] = y[row];
    squares += std::pow(by_hand(z, v, alone, {}).divergence, 2);
    cross_entropy += by_hand(z, v, alone, {}).cross_entropy;
  }
  const AgreementSums sums = agreement(z, {v}, tensor_of(y));
  EXPECT_NEAR(sums.kl_squares.item<double>(), squares, 1e-12);
  EXPECT_NEAR(sums.cross_entropy.item<double>(), cross_entropy, 1e-12);
  EXPECT_EQ(agreement(z, {}, tensor_of(y)).kl_squares.item<double>(), 0.0);  // nobody to differ from
}

}  // namespace
}  // namespace attar
