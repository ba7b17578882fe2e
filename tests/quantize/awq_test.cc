#include "model/tensor.h"
#include "quantize/awq.h"

#include <gtest/gtest.h>

#include <numeric>

#include "base/console.h"
#include "base/files.h"
#include "base/threads.h"
#include "tests/kernels_ref/gridded_types.h"
#include "tests/quantize/support.h"
#include "tests/quantize/transforms.h"
#include "tests/support.h"

namespace attar {
namespace {

using test::correlated_inputs;
using test::gram;
using test::normal;
using test::output_error;

ScaledGroup group_of(const std::vector<at::Tensor>& W, Type type, const at::Tensor& X) {
  ScaledGroup group{W, std::vector<Type>(W.size(), type), gram(X), static_cast<double>(X.size(0)), {}};
  group.scale_of.resize(static_cast<std::size_t>(X.size(1)));
  std::iota(group.scale_of.begin(), group.scale_of.end(), 0);
  return group;
}

std::vector<float> mean_squares(const at::Tensor& X) {
  const at::Tensor mean = X.square().mean(0).contiguous();
  return {mean.data_ptr<float>(), mean.data_ptr<float>() + mean.numel()};
}

class AwqTypes : public testing::TestWithParam<Type> {};

// Against sums over tokens, not over H.
TEST_P(AwqTypes, ErrorIsWhatItSaysAndNeverAbovePlainRounding) {
  set_up_torch(1);
  const at::Tensor W = normal(40, 256, 1) * 0.05, X = correlated_inputs(1024, 256, 2);
  const Scaling found = search_scaling(group_of({W}, GetParam(), X));
  const std::vector<float> importance = mean_squares(X);
  EXPECT_NEAR(found.error_before, output_error(test::tensor_of(test::rtn_of(GetParam(), W, importance)), W, X), 0.02 * found.error_before);
  const at::Tensor s = tensor_of(found.s);
  std::vector<float> scaled = importance;
  for (std::size_t j = 0; j < scaled.size(); ++j) scaled[j] /= found.s[j] * found.s[j];
  const at::Tensor Q = test::tensor_of(test::rtn_of(GetParam(), (W * s).contiguous(), scaled)) / s;
  EXPECT_NEAR(found.error, output_error(Q, W, X), 0.02 * found.error);
  EXPECT_LE(found.error, found.error_before);
}

INSTANTIATE_TEST_SUITE_P(Types, AwqTypes,
                         testing::Values(Type::kQ4_0, Type::kQ4_1, Type::kIQ4_NL, Type::kQ3_K, Type::kQ4_K, *group_type({false, 3, 32}),
                                         *group_type({true, 4, 64})),
                         test::TypeName());

// What the paper is about: few columns meet inputs far larger than the others.
TEST(Awq, ProtectsColumnsThatMeetLargeInputs) {
  set_up_torch(1);
  const at::Tensor W = normal(64, 128, 3) * 0.05;
  at::Tensor X = normal(512, 128, 4);
  X.narrow(1, 5, 1) *= 50;
  X.narrow(1, 90, 1) *= 50;
  const Scaling found = search_scaling(group_of({W}, *group_type({false, 3, 0}), X));
  EXPECT_GT(found.exponent, 0);
  EXPECT_GT(found.s[5], 1.5 * found.s[6]);
  EXPECT_LT(found.error, 0.95 * found.error_before);
}

TEST(Awq, TellsNothingFromInputsThatAreNothing) {
  set_up_torch(1);
  const Scaling found = search_scaling(group_of({normal(8, 64, 1)}, Type::kQ4_0, at::zeros({16, 64})));
  EXPECT_EQ(found.exponent, 0);
  EXPECT_EQ(found.s, std::vector<float>(64, 1.0f));
}

TEST(Awq, ColumnsThatNeverSeeInputKeepAFiniteScale) {
  set_up_torch(1);
  at::Tensor X = correlated_inputs(256, 64, 2);
  X.narrow(1, 9, 3).zero_();
  const Scaling found = search_scaling(group_of({normal(16, 64, 1)}, Type::kQ4_0, X));
  for (const float s : found.s) EXPECT_TRUE(std::isfinite(s) && s > 0) << s;
  EXPECT_LE(found.error, found.error_before);
}

class AwqModel : public testing::TestWithParam<test::TransformCase> {
 protected:
  void SetUp() override {
    set_verbosity(Verbosity::kQuiet);
    options.plan.preset = &preset_from_name("q4_0");
    options.plan.pure = true;
  }
  void TearDown() override { set_verbosity(Verbosity::kNormal); }
  QuantizeOptions options;
  AwqReport report;
};

TEST_P(AwqModel, LeavesTheFunctionAndLowersTheErrorOfEachGroup) {
  // Inputs of very different size, so that there is something to scale.
  Checkpoint model = test::transform_model(GetParam().config);
  for (Tensor& tensor : model.tensors) {
    if (!tensor.name.ends_with("layernorm.weight")) continue;
    std::vector<float> values = read_floats(tensor);
    for (std::size_t i = 0; i < values.size(); i += 11) values[i] = 8.0f;
    tensor = make_tensor(tensor.name, tensor.shape, std::move(values));
  }
  const test::TempFolder folder;
  options.calibration = test::random_chunks(model.config, 8);
  options.folder = folder / "out.quantizing";
  const Checkpoint scaled = awq(model, options, report);
  for (const auto& entry : fs::directory_iterator(awq_folder(options))) EXPECT_FALSE(entry.path().filename().string().starts_with("hidden"));
  EXPECT_LT(test::logit_difference(model, scaled), 1e-4);
  ASSERT_EQ(report.groups.size(), static_cast<std::size_t>(4 * model.config.layers));
  int moved = 0;
  for (const AwqReport::Entry& group : report.groups) {
    EXPECT_LE(group.error_after, group.error_before) << group.names.front();
    EXPECT_GT(group.error_before, 0) << group.names.front();
    moved += group.exponent > 0;
  }
  EXPECT_GT(moved, model.config.layers);
}

INSTANTIATE_TEST_SUITE_P(Families, AwqModel, testing::ValuesIn(test::transform_cases()),
                         [](const auto& one) { return one.param.name; });

TEST(Awq, SameAtAnyNumberOfThreads) {
  const Checkpoint model = test::transform_model(test::transform_cases().front().config);
  QuantizeOptions options;
  options.plan.preset = &preset_from_name("q4_0");
  options.calibration = test::random_chunks(model.config, 4);
  AwqReport report;
  const int before = thread_count();
  std::vector<std::string> hashes;
  for (const int threads : {1, 3}) {
    set_thread_count(threads);
    hashes.push_back(checkpoint_hash(awq(model, options, report)));
  }
  set_thread_count(before);
  EXPECT_EQ(hashes[0], hashes[1]);
}

// Killed after any layer: the parts that follow are gone, and hidden states are those behind it.
TEST(Awq, GoesOnAfterTheLastFinishedLayer) {
  const Checkpoint model = test::transform_model(test::transform_cases().front().config);
  const std::int64_t layers = model.config.layers;
  ASSERT_GE(layers, 2);
  const test::TempFolder folder;
  QuantizeOptions options;
  options.plan.preset = &preset_from_name("q4_0");
  options.calibration = test::random_chunks(model.config, 4);
  AwqReport once, report;
  const std::string whole = checkpoint_hash(awq(model, options, once));
  options.folder = folder / "out.quantizing";
  EXPECT_EQ(checkpoint_hash(awq(model, options, report)), whole);
  const auto refused = [&] { return test::error_of([&] { awq(model, options, report); }); };
  EXPECT_HAS(refused(), "add --resume");
  options.resume = true;
  EXPECT_EQ(checkpoint_hash(awq(model, options, report)), whole) << "all finished";
  EXPECT_EQ(to_json(report)["groups"], to_json(once)["groups"]);
  fs::remove(awq_folder(options) / cat("scales-", layers - 1, ".part"));
  EXPECT_HAS(refused(), cat("hidden-", layers - 1, " is missing"));
  options.plan.pure = true;
  EXPECT_HAS(refused(), "--pure was false, now it is true");
}

}  // namespace
}  // namespace attar
