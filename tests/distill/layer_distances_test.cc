#include "distill/layer_distances.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "base/error.h"
#include "tests/support.h"

namespace attar {
namespace {

at::Tensor random(at::IntArrayRef shape, std::uint64_t seed) {
  return at::randn(shape, at::detail::createCPUGenerator(seed), at::kDouble) * 1.5;
}

const std::vector<double> kWeights = {0.7, 0.2};

// Distances and gradient, whatever is measured.
using Compute = std::function<at::Tensor(const at::Tensor& student, at::Tensor& gradient)>;

void expect_gradient(const at::Tensor& student, const Compute& compute, double tolerance) {
  const at::Tensor weights = at::tensor(kWeights, at::kDouble);
  at::Tensor gradient = at::full_like(student, 9.0), unused = at::empty_like(student);
  compute(student, gradient);
  constexpr double h = 1e-5;
  const at::Tensor flat = gradient.flatten();
  for (std::int64_t i = 0; i < student.numel(); ++i) {
    const auto at_shift = [&](double shift) {
      at::Tensor moved = student.clone();
      moved.view({-1})[i] += shift;
      return (compute(moved, unused) * weights).sum().item<double>();
    };
    EXPECT_NEAR(flat[i].item<double>(), (at_shift(h) - at_shift(-h)) / (2 * h), tolerance) << i;
  }
}

void expect_autograd(const at::Tensor& student, const Compute& compute, const std::function<at::Tensor(const at::Tensor&)>& distances) {
  at::Tensor gradient = at::empty_like(student);
  const at::Tensor D = compute(student, gradient), leaf = student.clone().set_requires_grad(true), expected = distances(leaf);
  (expected * at::tensor(kWeights, at::kDouble)).sum().backward();
  EXPECT_LT((D - expected.detach()).abs().max().item<double>(), 1e-12);
  EXPECT_LT((gradient - leaf.grad()).abs().max().item<double>(), 1e-12);
}

class HiddenDistances : public ::testing::TestWithParam<HiddenMeasure> {
 protected:
  Compute compute() const {
    return [this](const at::Tensor& student, at::Tensor& gradient) {
      return hidden_distances(GetParam(), student, teachers, kWeights, counts, gradient);
    };
  }
  const std::vector<at::Tensor> teachers = {random({5, 7}, 1), random({5, 7}, 2)};
  const at::Tensor counts = at::tensor({1, 1, 0, 1, 1}, at::kInt).to(at::kBool);
};

TEST_P(HiddenDistances, GradientAgreesWithFiniteDifferences) { expect_gradient(random({5, 7}, 3), compute(), 1e-9); }

TEST_P(HiddenDistances, EqualAutograd) {
  expect_autograd(random({5, 7}, 4), compute(), [&](const at::Tensor& s) {
    std::vector<at::Tensor> D;
    for (const at::Tensor& t : teachers) {
      const at::Tensor rows = GetParam() == HiddenMeasure::kMse ? (s - t).square().mean(-1)
                                                               : 1 - (s * t).sum(-1) / (s.norm(2, -1) * t.norm(2, -1));
      D.push_back((rows * counts).sum());
    }
    return at::stack(D);
  });
}

TEST_P(HiddenDistances, AreZeroForTheTeacherItselfAndFiniteForNothing) {
  at::Tensor gradient = at::empty({5, 7}, at::kDouble);
  const at::Tensor same = hidden_distances(GetParam(), teachers[0], {teachers[0]}, {1.0}, counts, gradient);
  EXPECT_NEAR(same.item<double>(), 0, 1e-14);
  EXPECT_LT(gradient.abs().max().item<double>(), 1e-14);
  const at::Tensor nothing = hidden_distances(GetParam(), at::zeros({5, 7}, at::kDouble), {teachers[0]}, {1.0}, counts, gradient);
  EXPECT_TRUE(std::isfinite(nothing.item<double>()));
}

INSTANTIATE_TEST_SUITE_P(All, HiddenDistances, ::testing::Values(HiddenMeasure::kCosine, HiddenMeasure::kMse));

TEST(HiddenMeasures, AreNamed) {
  EXPECT_EQ(parse_hidden_measure("mse"), HiddenMeasure::kMse);
  EXPECT_HAS(test::error_of([] { parse_hidden_measure("l1"); }), "not compared by 'l1'; there are cosine and mse");
}

// Student and teachers of different widths and the same number of relation heads.
class RelationDistances : public ::testing::TestWithParam<bool> {  // whether rows hold several texts
 protected:
  Compute compute() const {
    return [this](const at::Tensor& student, at::Tensor& gradient) {
      return relation_distances(student, teachers, kWeights, 3, document(), counts, gradient);
    };
  }
  at::Tensor document() const {
    return GetParam() ? at::tensor({0, 0, 1, 1, 1, 0, 1, 1, 1, 2}, at::kLong).view({2, 5}) : at::Tensor();
  }
  const std::vector<at::Tensor> teachers = {random({2, 5, 12}, 5), random({2, 5, 12}, 6)};
  const at::Tensor counts = at::tensor({1, 1, 0, 1, 1, 0, 1, 1, 1, 1}, at::kInt).to(at::kBool);
};

TEST_P(RelationDistances, GradientAgreesWithFiniteDifferences) { expect_gradient(random({2, 5, 6}, 7), compute(), 1e-8); }

TEST_P(RelationDistances, EqualAutograd) {
  expect_autograd(random({2, 5, 6}, 8), compute(), [&](const at::Tensor& s) {
    const auto relations = [&](const at::Tensor& X) {
      const at::Tensor heads = X.view({2, 5, 3, -1}).transpose(1, 2);  // (batch, heads, time, width)
      at::Tensor scores = at::matmul(heads, heads.transpose(2, 3)) / std::sqrt(static_cast<double>(heads.size(3)));
      at::Tensor hidden = at::ones({5, 5}, at::kBool).triu(1).expand({2, 1, 5, 5});
      if (GetParam()) hidden = hidden.logical_or(document().unsqueeze(2).ne(document().unsqueeze(1)).unsqueeze(1));
      return at::softmax(scores.masked_fill(hidden, -std::numeric_limits<double>::infinity()), -1);
    };
    std::vector<at::Tensor> D;
    for (const at::Tensor& t : teachers) {
      const at::Tensor R_T = relations(t), R_S = relations(s);
      const at::Tensor terms = at::where(R_T > 0, R_T * ((R_T + (R_T == 0)).log() - (R_S + (R_S == 0)).log()), at::zeros_like(R_T));
      D.push_back((terms.sum(-1).mean(1) * counts.view({2, 5})).sum());
    }
    return at::stack(D);
  });
}

TEST_P(RelationDistances, AreZeroForTheTeacherItself) {
  at::Tensor gradient = at::empty({2, 5, 12}, at::kDouble);
  const at::Tensor D = relation_distances(teachers[0], {teachers[0]}, {1.0}, 3, document(), counts, gradient);
  EXPECT_NEAR(D.item<double>(), 0, 1e-14);
  EXPECT_LT(gradient.abs().max().item<double>(), 1e-14);
}

INSTANTIATE_TEST_SUITE_P(AlonePacked, RelationDistances, ::testing::Bool());

TEST(RelationDistances, GroupsOfHeadsGiveTheSame) {  // 600^2 relations a head: one head at a time
  const at::Tensor t = random({1, 600, 8}, 9), s = random({1, 600, 8}, 10), counts = at::ones({600}, at::kBool);
  at::Tensor gradient = at::empty_like(s), part = at::empty_like(s);
  const double D = relation_distances(s, {t}, {1.0}, 4, {}, counts, gradient).item<double>();
  double sum = 0;
  for (std::int64_t head = 0; head < 4; ++head) {
    at::Tensor own = at::empty({1, 600, 2}, at::kDouble);
    sum += relation_distances(s.narrow(2, 2 * head, 2), {t.narrow(2, 2 * head, 2)}, {1.0}, 1, {}, counts, own).item<double>() / 4;
    part.narrow(2, 2 * head, 2).copy_(own / 4);
  }
  EXPECT_NEAR(D, sum, 1e-9);
  EXPECT_LT((gradient - part).abs().max().item<double>(), 1e-12);
}

TEST(LayerDistances, RefuseShapesThatDoNotFit) {
  at::Tensor gradient = at::empty({4, 6}, at::kDouble);
  const at::Tensor counts = at::ones({4}, at::kBool);
  EXPECT_THROW(hidden_distances(HiddenMeasure::kMse, random({4, 6}, 1), {random({4, 7}, 1)}, {1.0}, counts, gradient), Error);
  EXPECT_THROW(hidden_distances(HiddenMeasure::kMse, random({4, 6}, 1), {random({4, 6}, 1)}, {}, counts, gradient), Error);
  EXPECT_THROW(relation_distances(random({2, 2, 6}, 1), {random({2, 2, 6}, 1)}, {1.0}, 4, {}, counts, gradient), Error);
}

}  // namespace
}  // namespace attar
