#include "distill/losses.h"

#include <gtest/gtest.h>
#include <ATen/ATen.h>

#include <cmath>

#include "base/error.h"
#include "model/tensor.h"

namespace attar {
namespace {

at::Tensor random(at::IntArrayRef shape, std::uint64_t seed) {
  return at::randn(shape, at::detail::createCPUGenerator(seed), at::kDouble) * 2.0;
}

// By the definitions of the header, one number at a time.
struct Expected {
  double total = 0, cross_entropy = 0, kl = 0;
};
Expected by_hand(const at::Tensor& z, const at::Tensor& v, const std::vector<std::int64_t>& y, double T, double alpha) {
  const auto softmax = [](const at::Tensor& x, std::int64_t row, double temperature) {
    std::vector<double> p;
    double sum = 0;
    for (std::int64_t i = 0; i < x.size(1); ++i) p.push_back(std::exp(x[row][i].item<double>() / temperature));
    for (const double value : p) sum += value;
    for (double& value : p) value /= sum;
    return p;
  };
  Expected e;
  for (std::size_t row = 0; row < y.size(); ++row) {
    if (y[row] == kIgnoredTarget) continue;
    const auto r = static_cast<std::int64_t>(row);
    e.cross_entropy -= std::log(softmax(z, r, 1.0)[static_cast<std::size_t>(y[row])]);
    const auto p = softmax(v, r, T), q = softmax(z, r, T);
    for (std::size_t i = 0; i < p.size(); ++i) e.kl += p[i] * std::log(p[i] / q[i]);
  }
  e.total = alpha * e.cross_entropy + (1 - alpha) * T * T * e.kl;
  return e;
}

struct Case {
  double temperature, alpha;
};
class DistillationLossTest : public ::testing::TestWithParam<Case> {};

TEST_P(DistillationLossTest, EqualsTheDefinition) {
  const auto [T, alpha] = GetParam();
  const at::Tensor z = random({5, 7}, 1), v = random({5, 7}, 2);
  const std::vector<std::int64_t> y = {3, 0, kIgnoredTarget, 6, 2};
  const LossSums sums = distillation_loss(z, v, tensor_of(y), {T, alpha});
  const Expected expected = by_hand(z, v, y, T, alpha);
  EXPECT_NEAR(sums.total.item<double>(), expected.total, 1e-12);
  EXPECT_NEAR(sums.cross_entropy.item<double>(), expected.cross_entropy, 1e-12);
  EXPECT_NEAR(sums.kl.item<double>(), expected.kl, 1e-12);
}

TEST_P(DistillationLossTest, GradientAgreesWithFiniteDifferences) {
  const auto [T, alpha] = GetParam();
  const at::Tensor v = random({4, 6}, 3), y = at::tensor({std::int64_t{5}, kIgnoredTarget, std::int64_t{0}, std::int64_t{1}});
  at::Tensor z = random({4, 6}, 4).set_requires_grad(true);
  (distillation_loss(z, v, y, {T, alpha}).total * 0.37).backward();
  constexpr double h = 1e-5;
  for (std::int64_t row = 0; row < 4; ++row)
    for (std::int64_t column = 0; column < 6; ++column) {
      const auto at_shift = [&](double shift) {
        at::Tensor moved = z.detach().clone();
        moved[row][column] += shift;
        return 0.37 * distillation_loss(moved, v, y, {T, alpha}).total.item<double>();
      };
      EXPECT_NEAR(z.grad()[row][column].item<double>(), (at_shift(h) - at_shift(-h)) / (2 * h), 1e-9)
          << row << ", " << column;
    }
}

TEST_P(DistillationLossTest, GradientEqualsAutograd) {
  const auto [T, alpha] = GetParam();
  const at::Tensor v = random({300, 1100}, 5), y = at::randint(0, 1100, {300}, at::kLong);  // several blocks of rows
  at::Tensor z = random({300, 1100}, 6).set_requires_grad(true);
  distillation_loss(z, v, y, {T, alpha}).total.backward();
  at::Tensor w = z.detach().clone().set_requires_grad(true);
  const at::Tensor p = at::softmax(v / T, -1);
  const at::Tensor kl = (p * (p.log() - at::log_softmax(w / T, -1))).sum();
  (alpha * at::nll_loss(at::log_softmax(w, -1), y, {}, at::Reduction::Sum) + (1 - alpha) * T * T * kl).backward();
  EXPECT_LT((z.grad() - w.grad()).abs().max().item<double>(), 1e-12);
}

INSTANTIATE_TEST_SUITE_P(Mixes, DistillationLossTest,
                         ::testing::Values(Case{1.0, 0.0}, Case{1.0, 0.3}, Case{2.0, 0.0}, Case{4.0, 0.5}, Case{0.5, 1.0}));

TEST(DistillationLoss, IsZeroForATeacherThatSaysTheSame) {
  at::Tensor z = random({3, 9}, 7).set_requires_grad(true);
  const LossSums sums = distillation_loss(z, z.detach(), at::tensor({1, 2, 3}, at::kLong), {2.0, 0.0});
  sums.total.backward();
  EXPECT_NEAR(sums.total.item<double>(), 0.0, 1e-14);
  EXPECT_LT(z.grad().abs().max().item<double>(), 1e-14);
}

TEST(DistillationLoss, WithoutTeacherIsCrossEntropy) {
  at::Tensor z = random({3, 9}, 8).set_requires_grad(true);
  const at::Tensor y = at::tensor({1, -100, 3}, at::kLong);
  const LossSums sums = distillation_loss(z, {}, y, {3.0, 0.2});
  sums.total.backward();
  at::Tensor w = z.detach().clone().set_requires_grad(true);
  const at::Tensor expected = at::nll_loss(at::log_softmax(w, -1), y, {}, at::Reduction::Sum, -100);
  expected.backward();
  EXPECT_NEAR(sums.total.item<double>(), expected.item<double>(), 1e-12);
  EXPECT_LT((z.grad() - w.grad()).abs().max().item<double>(), 1e-14);
  EXPECT_EQ(sums.kl.item<double>(), 0.0);
}

TEST(DistillationLoss, AllRowsMaskedGivesZeroNotNan) {
  at::Tensor z = random({2, 5}, 9).set_requires_grad(true);
  const LossSums sums = distillation_loss(z, random({2, 5}, 10), at::full({2}, kIgnoredTarget, at::kLong), {2.0, 0.5});
  sums.total.backward();
  EXPECT_EQ(sums.total.item<double>(), 0.0);
  EXPECT_EQ(z.grad().abs().max().item<double>(), 0.0);
}

TEST(DistillationLoss, VocabularyPaddingOnEitherSide) {
  const at::Tensor z = random({3, 8}, 11), v = random({3, 8}, 12), y = at::tensor({1, 2, 3}, at::kLong);
  const LossOptions options{2.0, 0.3};
  const double same = distillation_loss(z, v, y, options).total.item<double>();
  const double teacher_padded =
      distillation_loss(z, at::cat({v, random({3, 4}, 13)}, 1), y, options).total.item<double>();
  EXPECT_NEAR(teacher_padded, same, 1e-12);
  // A student's extra columns are pushed down, since the teacher gives them no probability.
  at::Tensor wide = at::cat({z, random({3, 2}, 14)}, 1).set_requires_grad(true);
  const LossSums sums = distillation_loss(wide, v, y, options);
  sums.total.backward();
  EXPECT_TRUE(std::isfinite(sums.total.item<double>()));
  EXPECT_GT(wide.grad().narrow(1, 8, 2).min().item<double>(), 0.0);
}

TEST(DistillationLoss, RefusesShapesThatDoNotFit) {
  EXPECT_THROW(distillation_loss(random({3, 8}, 1), random({2, 8}, 1), at::zeros({3}, at::kLong), {}), Error);
  EXPECT_THROW(distillation_loss(random({3, 8}, 1), {}, at::zeros({4}, at::kLong), {}), Error);
}

TEST(Agreement, CountsTheSameTopToken) {
  const at::Tensor z = at::tensor({0.0, 2.0, 1.0, 3.0, 0.0, 0.0, 0.0, 0.0, 1.0}, at::kDouble).view({3, 3});
  const at::Tensor v = at::tensor({0.0, 1.0, 0.5, 0.0, 1.0, 0.0, 0.0, 0.0, 5.0}, at::kDouble).view({3, 3});
  const AgreementSums all = agreement(z, v, at::tensor({0, 1, 2}, at::kLong));
  EXPECT_EQ(all.same_top.item<double>(), 2.0);
  const AgreementSums masked = agreement(z, v, at::tensor({0, 1, -100}, at::kLong));
  EXPECT_EQ(masked.same_top.item<double>(), 1.0);
  EXPECT_NEAR(all.kl.item<double>(), by_hand(z, v, {0, 1, 2}, 1.0, 0.0).kl, 1e-12);
}

}  // namespace
}  // namespace attar
