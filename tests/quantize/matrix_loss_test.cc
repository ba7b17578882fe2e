// What a matrix lost, against the same worked out from the model as it is run whole.
#include "quantize/matrix_loss.h"

#include "base/error.h"
#include "base/threads.h"
#include "quantize/packed_row.h"
#include "tests/kernels_ref/gridded_types.h"
#include "tests/quantize/small_model.h"
#include "tests/quantize/support.h"
#include "tests/support.h"

namespace attar {
namespace {

constexpr std::int64_t kRows = 80, kColumns = 256;  // more than a step of rows, and no whole number of them

class LossOf : public ::testing::TestWithParam<Type> {
 protected:
  const OneTorchThread one_thread_;
  const at::Tensor W_ = test::normal(kRows, kColumns, 1), X_ = test::correlated_inputs(500, kColumns, 2);
};

TEST_P(LossOf, AMatrixIsWhatItsOutputsSay) {
  const QuantizedTensor Q = test::rtn_of(GetParam(), W_);
  const MatrixLoss loss = loss_of(Q, W_, test::gram(X_));
  const double expected = test::output_error(decoded(Q), W_, X_);
  EXPECT_NEAR(loss.output_error, expected, 1e-3 * expected + 1e-7);
  EXPECT_NEAR(loss.weight_error, weight_error(decoded(Q), W_), 1e-5 * loss.weight_error);
  const MatrixLoss without = loss_of(Q, W_);
  EXPECT_EQ(without.output_error, -1);
  EXPECT_EQ(without.weight_error, loss.weight_error);
  EXPECT_EQ(without.clipped, loss.clipped);
}

// Weights at the codes' own values, but beyond the first and last of them by less and by more than half a step in turn.
TEST_P(LossOf, WeightsBeyondTheEndsAreCounted) {
  const QuantizedTensor Q = test::rtn_of(GetParam(), W_);
  const std::size_t stride = Q.bytes.size() / kRows;
  at::Tensor W = decoded(Q);
  std::int64_t ends = 0, clipped = 0;
  for (std::int64_t r = 0; r < kRows; ++r) {
    const PackedRow row(Q.type, ByteView(Q.bytes).subspan(static_cast<std::size_t>(r) * stride, stride), kColumns);
    for (std::int64_t j = 0; j < kColumns; ++j) {
      const int code = row.code(j), last = row.grid().levels - 1;
      if ((code != 0 && code != last) || row.scale(j) == 0) continue;
      const bool far = ++ends % 2 == 0;
      clipped += far;
      W.data_ptr<float>()[r * kColumns + j] += (far ? 0.6f : 0.4f) * (row.value(j) - row.value(j, code == 0 ? 1 : last - 1));
    }
  }
  EXPECT_GT(clipped, 0);
  EXPECT_EQ(loss_of(Q, W).clipped, static_cast<double>(clipped) / static_cast<double>(W.numel()));
}

INSTANTIATE_TEST_SUITE_P(All, LossOf, ::testing::ValuesIn(test::sample_types()), test::TypeName());

class Losses : public test::SmallModel {
 protected:
  // What each linear of the quantized model loses on the inputs that it meets there; and how far hidden states are off behind each layer.
  void expect_true(const Checkpoint& result, bool layers = true) {
    const at::NoGradGuard no_grad;
    const auto quantized = load_decoder(result);
    std::map<std::string, at::Tensor> inputs;
    const auto see = [&](const std::string& name, const at::Tensor& x) {
      at::Tensor& seen = inputs[name + ".weight"];
      const at::Tensor rows = x.reshape({-1, x.size(-1)});
      seen = seen.defined() ? at::cat({seen, rows}) : rows;
    };
    quantized->observer = see;
    std::vector<double> off(static_cast<std::size_t>(model.config.layers)), whole(off.size());
    for (const Ids& chunk : options.calibration) {
      const at::Tensor ids = tensor_of(chunk).unsqueeze(0);
      at::Tensor h = quantized->embed(ids), original = decoder->embed(ids);
      for (std::size_t layer = 0; layer < off.size(); ++layer) {
        const auto at = static_cast<std::int64_t>(layer);
        h = quantized->mlp_half(at, quantized->attention_half(at, h));
        original = decoder->mlp_half(at, decoder->attention_half(at, original));
        off[layer] += (h - original).square().sum().item<double>();
        whole[layer] += original.square().sum().item<double>();
      }
      see("lm_head", quantized->final_norm(h));
    }
    ASSERT_EQ(report.layer_error.size(), off.size());
    for (std::size_t layer = 0; layers && layer < off.size(); ++layer)
      EXPECT_NEAR(report.layer_error[layer], off[layer] / whole[layer], 1e-3 * off[layer] / whole[layer]) << layer;
    int known = 0;
    for (const TensorReport& tensor : report.tensors) {
      const std::string& name = tensor.plan.name;
      if (tensor.plan.layer < 0 && name != "lm_head.weight") continue;
      const double expected = test::output_error(quantized->parameter(name), decoder->parameter(name), inputs.at(name));
      EXPECT_NEAR(tensor.output_error, expected, 2e-3 * expected) << name;
      EXPECT_NEAR(tensor.clipped, loss_of(read_packed(result.at(name)), decoder->parameter(name)).clipped, 1e-12) << name;
      ++known;
    }
    EXPECT_EQ(known, 3 * 7 + 1);
  }
};

TEST_F(Losses, OfRoundingToNearest) {
  options.method = Method::kRtn;
  expect_true(quantize(model, options, report));
}

TEST_F(Losses, OfGptqWithoutCorrection) {
  options.corrected_target = false;
  expect_true(quantize(model, options, report));
}

TEST_F(Losses, OfAutoRound) {
  options.autoround = true;
  options.rounding.steps = 20;
  for (const Method method : {Method::kRtn, Method::kGptq}) {
    SCOPED_TRACE(name_of(method));
    options.method = method, options.corrected_target = false;
    expect_true(quantize(model, options, report));
  }
}

TEST_F(Losses, AreSeenAgainInAModelThatWasChanged) {
  options.method = Method::kRtn;
  Checkpoint result = quantize(model, options, report);
  const QuantizeReport before = report;
  look_again(report, "twice", model, result, options.calibration, {});
  for (std::size_t i = 0; i < report.tensors.size(); ++i) {
    const TensorReport &now = report.tensors[i], &was = before.tensors[i];
    EXPECT_EQ(now.method, was.method + "+twice");
    EXPECT_NEAR(now.weight_error, was.weight_error, 1e-5 * was.weight_error) << now.plan.name;
    if (was.output_error < 0) continue;
    EXPECT_NEAR(now.output_error, was.output_error, 1e-4 * was.output_error) << now.plan.name;
    EXPECT_EQ(now.clipped, was.clipped) << now.plan.name;
  }
  for (Tensor& tensor : result.tensors)
    if (tensor.name.ends_with("norm.weight")) {
      std::vector<float> values = read_floats(tensor);
      for (float& value : values) value *= 0.9f;
      tensor = make_tensor(tensor.name, tensor.shape, std::move(values));
    }
  report = before;
  look_again(report, "tune", model, result, options.calibration, {});
  expect_true(result, false);  // the report has the layers as they were
}

// Pairs of inputs that are the same, and weights that all but cancel: what is left is less than what rounding does to them.
TEST_F(Losses, OfALayerStopAStrictRun) {
  for (Tensor& tensor : model.tensors) {
    const bool into = tensor.name == "model.layers.1.mlp.gate_proj.weight" || tensor.name == "model.layers.1.mlp.up_proj.weight";
    if (!into && tensor.name != "model.layers.1.mlp.down_proj.weight") continue;
    std::vector<float> values = read_floats(tensor);
    const auto columns = static_cast<std::size_t>(tensor.columns());
    for (std::size_t i = 0; i < values.size(); ++i)
      if (into)
        values[i] = values[i / (2 * columns) * 2 * columns + i % columns];
      else
        values[i] = i % 2 == 0 ? 1000 * values[i] : 10 * values[i] - values[i - 1];
    tensor = make_tensor(tensor.name, tensor.shape, std::move(values));
  }
  options.plan.pure = true;
  options.method = Method::kRtn;
  quantize(model, options, report);
  EXPECT_LT(report.layer_error[0], 0.1);
  EXPECT_GT(report.layer_error[1], 1);
  options.strict = true;
  EXPECT_HAS(test::error_of([&] { quantize(model, options, report); }), "after layer 1 hidden states are");
}

}  // namespace
}  // namespace attar
