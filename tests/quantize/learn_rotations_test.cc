#include "quantize/learn_rotations.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"
#include "base/threads.h"
#include "model/tensor.h"
#include "quantize/fold.h"
#include "quantize/rotate.h"
#include "quantize/tensors.h"
#include "tests/quantize/transforms.h"
#include "tests/support.h"

namespace attar {
namespace {

QuantizeOptions with_text(const ModelConfig& config, const char* type = "q4_0") {
  QuantizeOptions options;
  options.plan.preset = &preset_from_name(type);
  options.plan.pure = true;
  options.calibration = test::random_chunks(config, 8);
  options.seed = 1;
  return options;
}

double off_orthogonal(const at::Tensor& R) {
  return (at::matmul(R.transpose(-1, -2), R) - at::eye(R.size(-1), at::kDouble)).abs().max().item<double>();
}

// The nearest rotation to T is T.
TEST(RotationSteps, ReachARotationThatIsAsked) {
  const OneTorchThread one_thread;
  at::manual_seed(3);
  const at::Tensor B = 0.2 * at::randn({2, 12, 12}, at::kDouble), T = at::matrix_exp(B - B.transpose(-1, -2));
  RotationSteps steps(2, 12);
  const double before = (steps.R() - T).square().sum().item<double>();
  for (int step = 0; step < 400; ++step) steps.step(2 * (steps.R() - T), 1 - step / 400.0);
  EXPECT_LT((steps.R() - T).square().sum().item<double>(), 1e-4 * before);
  EXPECT_LT(off_orthogonal(steps.R()), 1e-12);
}

TEST(RotationSteps, StayOrthogonalHoweverFarTheyGo) {
  const OneTorchThread one_thread;
  at::manual_seed(4);
  RotationSteps steps(1, 96);
  const at::Tensor G = at::randn({1, 96, 96}, at::kDouble);  // always the same way: the largest steps there are
  for (int step = 0; step < 300; ++step) steps.step(G, 1);
  EXPECT_LT(off_orthogonal(steps.R()), 1e-11);
}

// |(Q - W) X^T|^2 / |W X^T|^2 over the layers' matrices that rotations meet, X as the whole model meets them.
double output_error(const Checkpoint& model, const QuantizeOptions& options, bool stream) {
  const at::NoGradGuard no_grad;
  const auto decoder = load_decoder(model);
  std::map<std::string, at::Tensor> H;
  decoder->observer = [&](const std::string& name, const at::Tensor& x) {
    const at::Tensor X = x.reshape({-1, x.size(-1)}).to(at::kDouble);
    at::Tensor& sum = H[name + ".weight"];
    sum = sum.defined() ? sum + at::mm(X.t(), X) : at::mm(X.t(), X);
  };
  for (const Ids& chunk : options.calibration) decoder->forward(tensor_of(chunk).unsqueeze(0));
  double sum = 0, count = 0;
  const auto add = [&](const at::Tensor& Q, const at::Tensor& W, const at::Tensor& inputs) {
    const at::Tensor w = W.to(at::kDouble), e = Q.to(at::kDouble) - w;
    sum += ((at::mm(e, inputs) * e).sum() / (at::mm(w, inputs) * w).sum()).item<double>(), ++count;
  };
  for (const TensorPlan& entry : plan_types(model, options.plan)) {
    const bool values = entry.role == Role::kValue || entry.role == Role::kQkv || entry.role == Role::kAttentionOutput;
    if (entry.layer < 0 || (!stream && !values)) continue;
    const at::Tensor Q = decoded(rtn(entry.got, model.at(entry.name)).Q), W = read_tensor(model.at(entry.name));
    const std::int64_t split = entry.role == Role::kQkv ? (model.config.heads + model.config.kv_heads) * model.config.head_dim : 0, rest = W.size(0) - split;
    if (split > 0 && stream) add(Q.narrow(0, 0, split), W.narrow(0, 0, split), H.at(entry.name));
    add(Q.narrow(0, split, rest), W.narrow(0, split, rest), H.at(entry.name));
  }
  return sum / count;
}

class Learned : public testing::TestWithParam<test::TransformCase> {
 protected:
  Checkpoint model = test::transform_model(GetParam().config);
  QuantizeOptions options = with_text(GetParam().config);
  RotateReport report;
};

TEST_P(Learned, LeavesTheFunctionAndLosesLess) {
  const Checkpoint learned = rotate(model, options, report);
  EXPECT_LT(test::logit_difference(model, learned), 1e-4);
  EXPECT_LT(report.learned_error, 0.97 * report.random_error);
  // What is reported is what the models lose, before and after.
  const bool stream = report.left_out.empty();
  EXPECT_NEAR(output_error(learned, options, stream), report.learned_error, 0.02 * report.learned_error);
  const double learned_error = report.random_error;
  options.calibration.clear();
  const Checkpoint random = rotate(model, options, report);
  EXPECT_EQ(report.learned_error, -1);
  options.calibration = with_text(model.config).calibration;
  EXPECT_NEAR(output_error(random, options, stream), learned_error, 1e-3 * learned_error);
}

INSTANTIATE_TEST_SUITE_P(Families, Learned, testing::ValuesIn(test::transform_cases()), [](const auto& one) { return one.param.name; });

class LearnRotations : public testing::Test {
 protected:
  Checkpoint model = test::transform_model(test::transform_cases().front().config);
  QuantizeOptions options = with_text(model.config);
  RotateReport report;
};

void expect_equal(const LearnedRotations& a, const LearnedRotations& b) {
  EXPECT_TRUE(at::equal(a.stream, b.stream));
  for (std::size_t layer = 0; layer < a.heads.size(); ++layer) EXPECT_TRUE(at::equal(a.heads[layer], b.heads[layer])) << layer;
  EXPECT_EQ(a.error_before, b.error_before);
  EXPECT_EQ(a.error_after, b.error_after);
}

TEST_F(LearnRotations, AreOrthogonalAndTheSameOnAnyNumberOfThreads) {
  options.calibration.resize(3);  // not a multiple of the threads
  const int before = thread_count();
  set_thread_count(1);
  const LearnedRotations once = learn_rotations(model, options, false);
  ASSERT_FALSE(once.stream.defined());
  const LearnedRotations whole = learn_rotations(rotate(model, {.plan = options.plan}, report), options, true);
  EXPECT_LT(off_orthogonal(whole.stream), 1e-13);
  for (const at::Tensor& R2 : whole.heads) EXPECT_LT(off_orthogonal(R2), 1e-13);
  for (const int threads : {2, 3}) {
    set_thread_count(threads);
    expect_equal(whole, learn_rotations(rotate(model, {.plan = options.plan}, report), options, true));
  }
  set_thread_count(before);
}

TEST_F(LearnRotations, AreKeptUntilTheRunIsOver) {
  const test::TempFolder folder;
  options.folder = folder / "work";
  const Checkpoint start = rotate(model, {.plan = options.plan}, report);
  const LearnedRotations first = learn_rotations(start, options, true);
  EXPECT_THROW(learn_rotations(start, options, true), ResumeError);
  options.resume = true;
  expect_equal(first, learn_rotations(start, options, true));
  options.seed = 2;
  EXPECT_THROW(learn_rotations(start, options, true), ResumeError);
}

TEST_F(LearnRotations, StayAsTheyAreWhereNothingIsRounded) {
  options = with_text(model.config, "f16");
  const LearnedRotations none = learn_rotations(rotate(model, {.plan = options.plan}, report), options, true);
  EXPECT_EQ(none.error_before, 0);
  EXPECT_EQ(none.error_after, 0);
  EXPECT_TRUE(at::equal(none.stream, at::eye(model.config.hidden_size, at::kDouble)));
}

TEST_F(LearnRotations, NameWhatIsNotANumberAndTextOfAnotherModel) {
  const std::string name = "model.layers.1.self_attn.v_proj.weight";
  Checkpoint damaged = model;
  for (Tensor& tensor : damaged.tensors) {
    if (tensor.name != name) continue;
    tensor = edit_rows(tensor, [](std::int64_t first, std::span<float> rows) {
      if (first == 0) rows[5] = std::nanf("");
    });
  }
  try {
    rotate(damaged, options, report);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(name + " holds NaN"), std::string::npos) << error.what();
  }
  options.calibration[2][3] = model.config.vocab_size;
  EXPECT_THROW(rotate(model, options, report), Error);
}

}  // namespace
}  // namespace attar
