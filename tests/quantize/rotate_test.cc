#include "quantize/rotate.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/threads.h"
#include "quantize/rtn.h"
#include "tests/quantize/transforms.h"

namespace attar {
namespace {

QuantizeOptions q4_0() {
  QuantizeOptions options;
  options.plan.preset = &preset_from_name("q4_0");
  options.plan.pure = true;
  options.seed = 1;
  return options;
}

class Rotate : public testing::TestWithParam<test::TransformCase> {
 protected:
  RotateReport report;
};

TEST_P(Rotate, LeavesTheFunction) {
  const Checkpoint model = test::transform_model(GetParam().config), rotated = rotate(model, q4_0(), report);
  EXPECT_LT(test::logit_difference(model, rotated), 1e-4);
  // And did something: values in every model, everything but q and k norms where the stream is rotated.
  const bool stream = report.left_out.empty();
  EXPECT_EQ(stream, !GetParam().config.tied_embeddings) << report.left_out;
  for (const Tensor& tensor : rotated.tensors) {
    const bool values = tensor.name.find(GetParam().config.fused_qkv ? "qkv_proj" : "v_proj") != std::string::npos ||
                        tensor.name.ends_with("o_proj.weight");
    const bool into_stream = tensor.name.ends_with("o_proj.bias") || tensor.name.ends_with("down_proj.bias");
    const bool free = tensor.name.ends_with("q_norm.weight") || tensor.name.ends_with("k_norm.weight") ||
                      (tensor.name.ends_with(".bias") && !values && !into_stream);
    EXPECT_EQ(read_floats(tensor) == read_floats(model.at(tensor.name)), stream ? free : !values) << tensor.name;
    if (!stream || !tensor.name.ends_with("norm.weight") || free) continue;
    const std::vector<float> g = read_floats(tensor);
    EXPECT_EQ(std::count(g.begin(), g.end(), 1.0f), std::ssize(g)) << tensor.name;
  }
}

// Rows come out the same in whatever slices they are read, and on however many threads.
TEST_P(Rotate, SlicesAreRowsOfTheWhole) {
  const Checkpoint rotated = rotate(test::transform_model(GetParam().config), q4_0(), report);
  const int before = thread_count();
  for (const Tensor& tensor : rotated.tensors) {
    set_thread_count(1);
    const std::vector<float> whole = read_floats(tensor);
    set_thread_count(3);
    std::vector<float> slices;
    for (std::int64_t row = 0; row < tensor.rows(); row += 5) {
      const std::vector<float> slice = read_floats(tensor, row, std::min(tensor.rows(), row + 5));
      slices.insert(slices.end(), slice.begin(), slice.end());
    }
    EXPECT_EQ(slices, whole) << tensor.name;
  }
  set_thread_count(before);
}

INSTANTIATE_TEST_SUITE_P(Families, Rotate, testing::ValuesIn(test::transform_cases()),
                         [](const auto& one) { return one.param.name; });

TEST(RotateOutliers, AreSpread) {
  Checkpoint model = test::transform_model(test::transform_cases().front().config);
  for (Tensor& tensor : model.tensors) {
    if (tensor.shape.size() < 2 || !tensor.name.starts_with("model.layers")) continue;
    std::vector<float> values = read_floats(tensor);
    for (std::size_t i = 7; i < values.size(); i += static_cast<std::size_t>(tensor.columns())) values[i] *= 20.0f;  // one column
    tensor = make_tensor(tensor.name, tensor.shape, std::move(values));
  }
  RotateReport report;
  const Checkpoint rotated = rotate(model, q4_0(), report);
  EXPECT_LT(test::logit_difference(model, rotated), 1e-4);
  const std::string name = "model.layers.1.mlp.up_proj.weight";
  EXPECT_LT(rtn(Type::kQ4_0, rotated.at(name)).weight_error, 0.5 * rtn(Type::kQ4_0, model.at(name)).weight_error);
  EXPECT_LT(report.error_after, 0.8 * report.error_before);
}

}  // namespace
}  // namespace attar
