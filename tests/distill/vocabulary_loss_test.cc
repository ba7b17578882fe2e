#include "distill/vocabulary_loss.h"

#include <gtest/gtest.h>

#include "distill/checkpointing.h"
#include "tests/distill/tiny.h"

namespace attar {
namespace {

at::Tensor random(at::IntArrayRef shape, std::uint64_t seed) {
  return at::randn(shape, at::detail::createCPUGenerator(seed), at::kDouble);
}

// Groups of rows of every size give, in float64, what autograd gives for all rows at once.
class VocabularyLoss : public ::testing::TestWithParam<std::tuple<double, const char*>> {};

TEST_P(VocabularyLoss, EqualsAutogradOverWholeLogits) {
  const auto [cap, name] = GetParam();
  const at::Tensor h = random({23, 12}, 1).set_requires_grad(true), W = random({70, 12}, 2).set_requires_grad(true);
  const at::Tensor v = random({23, 70}, 3), y = at::randint(0, 70, {23}, at::kLong).index_put_({at::tensor({4, 9}, at::kLong)}, at::tensor(kIgnoredTarget));
  const LossOptions options{2.0, 0.3, parse_divergence(name)};
  at::Tensor z = at::linear(h, W);
  if (cap > 0) z = at::tanh(z / cap) * cap;
  const at::Tensor z_gradient = at::empty_like(z);
  const double expected = distillation_loss(z.detach(), {v}, y, options, z_gradient).total.item<double>();
  z.backward(z_gradient * 0.37);
  for (const std::int64_t rows : {1, 5, 23, 100}) {
    at::Tensor h_gradient = at::full({23, 12}, 9.0, at::kDouble), W_gradient = at::ones({70, 12}, at::kDouble);
    const LossSums sums = vocabulary_loss(h.detach(), {"", W.detach(), cap},
        [&](std::int64_t begin, std::int64_t count) { return TeacherRows{v.narrow(0, begin, count), {}, {}, {}}; }, y, options, 0.37, rows,
        h_gradient, W_gradient);
    EXPECT_NEAR(sums.total.item<double>(), expected, 1e-10);
    EXPECT_LT((h_gradient - h.grad()).abs().max().item<double>(), 1e-12) << rows;
    EXPECT_LT((W_gradient - 1 - W.grad()).abs().max().item<double>(), 1e-12) << rows;  // added to what was there
  }
}

INSTANTIATE_TEST_SUITE_P(CapsAndLosses, VocabularyLoss,
                         ::testing::Combine(::testing::Values(0.0, 3.0), ::testing::Values("forward_kl", "jsd", "tvd")));

// What is computed twice is computed the same.
TEST(Backbone, CheckpointsGiveTheSameGradientsToTheBit) {
  const auto decoder = test::tiny_decoder(4);
  const at::Tensor ids = at::randint(0, 256, {3, 17}, at::kLong);
  std::vector<std::vector<at::Tensor>> gradients;
  std::vector<at::Tensor> outputs;
  at::Tensor gradient;
  for (const bool checkpoints : {false, true}) {
    for (at::Tensor& parameter : decoder->parameters()) parameter.mutable_grad() = at::Tensor();
    Backbone backbone(*decoder, checkpoints);
    outputs.push_back(backbone.forward(ids));
    if (!gradient.defined()) gradient = at::randn_like(outputs.back());
    backbone.backward(gradient);
    gradients.emplace_back();
    for (const at::Tensor& parameter : decoder->parameters()) gradients.back().push_back(parameter.grad().clone());
  }
  EXPECT_TRUE(at::equal(outputs[0], outputs[1]));
  for (std::size_t i = 0; i < gradients[0].size(); ++i) EXPECT_TRUE(at::equal(gradients[0][i], gradients[1][i])) << i;
  EXPECT_GT(gradients[0][0].abs().max().item<float>(), 0.0f);
}

}  // namespace
}  // namespace attar
