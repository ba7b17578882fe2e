#include "model/ops.h"

#include <ATen/Parallel.h>

#include <gtest/gtest.h>

namespace attar {
namespace {

using Pair = std::pair<at::Tensor, std::vector<at::Tensor>>;

// Value and gradients of sum(y * g) for fixed random g.
template <class F>
Pair value_and_gradients(F f, std::vector<at::Tensor> inputs) {
  for (auto& input : inputs) input = input.detach().clone().requires_grad_(true);
  const at::Tensor y = f(inputs);
  at::manual_seed(5);
  (y * at::randn(y.sizes()).to(y.dtype())).sum().backward();
  std::vector<at::Tensor> gradients;
  for (const auto& input : inputs) gradients.push_back(input.grad());
  return {y.detach(), gradients};
}

void expect_close(const Pair& got, const Pair& expected) {
  const auto near = [](const at::Tensor& a, const at::Tensor& b) {
    EXPECT_LE((a.to(at::kDouble) - b).abs().max().item<double>(), 2e-5 * std::max(1.0, b.abs().max().item<double>()));
  };
  near(got.first, expected.first);
  for (std::size_t i = 0; i < expected.second.size(); ++i) near(got.second[i], expected.second[i]);
}

TEST(Ops, RmsNormAgreesWithItsFormula) {
  for (const auto& [rows, n, offset] : {std::tuple{1, 5, 0.0}, {7, 288, 1.0}, {33, 37, 0.0}}) {
    at::manual_seed(1);
    const at::Tensor x = at::randn({2, rows, n}), w = at::randn({n});
    const double shift = offset;
    const auto formula = [&](const std::vector<at::Tensor>& in) {
      return in[0] * at::rsqrt(in[0].square().mean(-1, true) + 1e-6) * (in[1] + shift);
    };
    const auto ours = [&](const std::vector<at::Tensor>& in) { return rms_norm(in[0], in[1], 1e-6, shift); };
    expect_close(value_and_gradients(ours, {x, w}), value_and_gradients(formula, {x.to(at::kDouble), w.to(at::kDouble)}));
    // The plain path, which other devices take.
    expect_close(value_and_gradients(ours, {x.to(at::kDouble), w.to(at::kDouble)}),
                 value_and_gradients(formula, {x.to(at::kDouble), w.to(at::kDouble)}));
    const at::Tensor recorded = ours({x.detach().requires_grad_(true), w});
    const at::NoGradGuard no_grad;
    EXPECT_TRUE(ours({x, w}).equal(recorded.detach()));
  }
}

TEST(Ops, RotationAgreesWithItsFormula) {
  for (const auto& [head_dim, r] : {std::pair{8, 4}, {12, 4}, {6, 1}}) {
    at::manual_seed(2);
    const at::Tensor x = at::randn({2, 5, 3, head_dim}), angle = at::randn({5, r});
    const std::int64_t pairs = r, rest = head_dim - 2 * r;
    const auto formula = [&](const std::vector<at::Tensor>& in) {
      const at::Tensor y = in[0].transpose(1, 2), a = y.narrow(3, 0, pairs), b = y.narrow(3, pairs, pairs);
      const at::Tensor c = angle.to(y.dtype()).cos(), s = angle.to(y.dtype()).sin();
      return at::cat({a * c - b * s, b * c + a * s, y.narrow(3, 2 * pairs, rest)}, 3) * 0.7;
    };
    const auto ours = [&](const std::vector<at::Tensor>& in) {
      return rotate_heads(in[0].transpose(1, 2), angle.cos().to(in[0].dtype()), angle.sin().to(in[0].dtype()), 0.7);
    };
    expect_close(value_and_gradients(ours, {x}), value_and_gradients(formula, {x.to(at::kDouble)}));
    expect_close(value_and_gradients(ours, {x.to(at::kDouble)}), value_and_gradients(formula, {x.to(at::kDouble)}));
  }
}

TEST(Ops, SameBytesAtAnyThreadCount) {
  at::manual_seed(3);
  const at::Tensor x = at::randn({300, 129}), w = at::randn({129});
  const int threads = at::get_num_threads();
  const auto ours = [&](const std::vector<at::Tensor>& in) { return rms_norm(in[0], in[1], 1e-6, 0.0); };
  at::set_num_threads(1);
  const Pair one = value_and_gradients(ours, {x, w});
  at::set_num_threads(3);
  const Pair three = value_and_gradients(ours, {x, w});
  at::set_num_threads(threads);
  EXPECT_TRUE(one.first.equal(three.first));
  EXPECT_TRUE(one.second[0].equal(three.second[0]));
  EXPECT_TRUE(one.second[1].equal(three.second[1]));
}

}  // namespace
}  // namespace attar
