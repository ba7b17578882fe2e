#include "quantize/gptq.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "base/error.h"
#include "base/threads.h"
#include "model/decoder.h"
#include "tests/kernels_ref/gridded_types.h"
#include "tests/quantize/support.h"
#include "tests/support.h"

namespace attar {
namespace {

using test::correlated_inputs;
using test::gram;
using test::normal;
using test::output_error;
using test::rtn_of;
using test::tensor_of;

constexpr std::int64_t kRows = 40, kColumns = 512, kTokens = 2048;

class GptqTypes : public ::testing::TestWithParam<Type> {
 protected:
  void SetUp() override {
    set_up_torch(1);
    W = normal(kRows, kColumns, 1) * 0.05;
    X = correlated_inputs(kTokens, kColumns, 2);
  }
  GptqResult run(const GptqOptions& options = {}) const {
    return gptq(GetParam(), W, make_curvature({gram(X), {}, {}}, options, "W"), options, "W");
  }
  at::Tensor W, X;
};

TEST_P(GptqTypes, BeatsRoundToNearestInOutput) {
  const Curvature curvature = make_curvature({gram(X), {}, {}}, {}, "W");
  const double plain = output_error(tensor_of(rtn_of(GetParam(), W)), W, X);
  const double weighted = output_error(tensor_of(rtn_of(GetParam(), W, curvature.importance)), W, X);
  const GptqResult result = run();
  const double calibrated = output_error(tensor_of(result.Q), W, X);
  EXPECT_LT(calibrated, 0.8 * plain);
  EXPECT_LT(calibrated, 0.8 * weighted);
  EXPECT_NEAR(result.output_error, calibrated, 0.02 * calibrated);
  EXPECT_NEAR(result.rounded_error, weighted, 0.02 * weighted);
  // Not learnt by heart: other inputs from the same source gain too.
  EXPECT_LT(output_error(tensor_of(result.Q), W, correlated_inputs(kTokens, kColumns, 99)), 0.8 * weighted);
}

// Counted from the bytes: a block of q4_0 is an fp16 d and 32 codes from -8 to 7 times d.
TEST(Gptq, ClippedIsTheShareBeyondTheGridsEnds) {
  set_up_torch(1);
  const at::Tensor W = normal(kRows, kColumns, 1) * 0.05, X = correlated_inputs(kTokens, kColumns, 2);
  const GptqResult result = gptq(Type::kQ4_0, W, make_curvature({gram(X), {}, {}}, {}, "W"), {}, "W");
  std::int64_t clipped = 0;
  const float* w = W.data_ptr<float>();
  for (std::int64_t i = 0; i < W.numel(); ++i) {
    std::uint16_t bits;
    std::memcpy(&bits, result.Q.bytes.data() + i / 32 * 18, sizeof bits);
    const float step = w[i] / static_cast<float>(at::Half(bits, at::Half::from_bits()));
    clipped += step > 7.5f || step < -8.5f;
  }
  EXPECT_GT(clipped, 0);
  EXPECT_EQ(result.clipped, static_cast<double>(clipped) / static_cast<double>(W.numel()));
}

TEST_P(GptqTypes, SameBytesAtAnyNumberOfThreads) {
  const int before = thread_count();
  std::vector<Bytes> bytes;
  for (const int threads : {1, 2, 3}) {
    set_thread_count(threads);
    bytes.push_back(run().Q.bytes);
  }
  set_thread_count(before);
  EXPECT_EQ(bytes[0], bytes[1]);
  EXPECT_EQ(bytes[0], bytes[2]);
}

TEST_P(GptqTypes, WeightsOnTheGridAreLeftAlone) {
  // Rows that the scale search itself reproduces exactly.
  const Curvature curvature = make_curvature({gram(X), {}, {}}, {}, "W");
  at::Tensor once = tensor_of(rtn_of(GetParam(), W, curvature.importance));
  for (int i = 0; i < 8; ++i) once = tensor_of(rtn_of(GetParam(), once, curvature.importance));
  const at::Tensor again = tensor_of(rtn_of(GetParam(), once, curvature.importance));
  const at::Tensor exact = (again == once).all(1);
  ASSERT_GT(exact.sum().item<std::int64_t>(), 0) << "no row is a fixed point of the search";
  const at::Tensor rows = once.index({exact}).contiguous();
  const GptqResult result = gptq(GetParam(), rows, curvature, {}, "W");
  EXPECT_TRUE(at::equal(tensor_of(result.Q), rows));
  EXPECT_EQ(result.weight_error, 0.0);
}

TEST_P(GptqTypes, ZeroAndConstantRows) {
  W.select(0, 0).zero_();
  W.select(0, 1).fill_(0.25f);
  W.select(0, 2).fill_(-1e-30f);
  const at::Tensor Q = tensor_of(run().Q);
  EXPECT_TRUE(at::isfinite(Q).all().item<bool>());
  EXPECT_EQ(Q.select(0, 0).abs().max().item<float>(), 0.0f);
  EXPECT_LT(output_error(Q.narrow(0, 1, 1), W.narrow(0, 1, 1), X), 0.01);
  EXPECT_LT(Q.select(0, 2).abs().max().item<float>(), 1e-6f);
}

TEST_P(GptqTypes, DescentAndOrderPay) {
  GptqOptions plain;
  plain.descent.passes = 0;
  plain.act_order = false;
  GptqOptions ordered = plain;
  ordered.act_order = true;
  const double left_to_right = run(plain).output_error, by_importance = run(ordered).output_error;
  const double descended = run().output_error;
  EXPECT_LE(descended, by_importance * 1.0001);
  EXPECT_LT(descended, left_to_right);
}

INSTANTIATE_TEST_SUITE_P(All, GptqTypes, ::testing::ValuesIn(test::sample_types()), test::TypeName());

// From left to right and without descent, codes must be those of the paper's Algorithm 1, written here as it stands there:
// the error is pushed ahead by rows of the upper Cholesky factor of the inverse.
TEST(Gptq, FollowsThePaper) {
  const std::int64_t rows = 7, columns = 320;
  const at::Tensor W = normal(rows, columns, 11) * 0.1, X = correlated_inputs(900, columns, 12);
  GptqOptions options;
  options.act_order = false;
  options.descent.passes = 0;
  const Curvature curvature = make_curvature({gram(X), {}, {}}, options, "W");
  const GptqResult result = gptq(Type::kQ4_0, W, curvature, options, "W");

  at::Tensor H = gram(X).to(at::kDouble);
  H.diagonal().add_(curvature.lambda);
  const at::Tensor Hinv = at::linalg_cholesky(at::linalg_inv(H)).t().contiguous();
  const GridInfo& grid = info(Type::kQ4_0).grid;
  const auto stride = row_bytes(Type::kQ4_0, static_cast<std::uint64_t>(columns));
  std::int64_t different = 0;
  for (std::int64_t r = 0; r < rows; ++r) {
    at::Tensor w = W.select(0, r).to(at::kDouble).clone();
    const ByteView row = ByteView(result.Q.bytes).subspan(static_cast<std::size_t>(r) * stride, stride);
    const RowGrid scales = read_grid(Type::kQ4_0, row, static_cast<std::uint64_t>(columns));
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(columns));
    read_codes(Type::kQ4_0, row, codes);
    for (std::int64_t j = 0; j < columns; ++j) {
      const float scale = scales.scale[static_cast<std::size_t>(j / 32)];
      const int taken = codes[static_cast<std::size_t>(j)];
      different += nearest_code(grid, scale, 0.0f, w[j].item<float>()) != taken;
      // Go on from the code that was taken, so that one near tie counts once.
      const double error = (w[j].item<double>() - scale * level(grid, taken)) / Hinv[j][j].item<double>();
      w.narrow(0, j, columns - j) -= error * Hinv[j].narrow(0, j, columns - j);
    }
  }
  EXPECT_LE(different, 2) << "of " << rows * columns << "; float32 against float64 explains a near tie or two";
}

// Inputs have drifted: aiming at the original's outputs must serve them better than aiming at the original's weights.
TEST(Gptq, CorrectedTargetServesTheOriginalOutputs) {
  const std::int64_t columns = 256;
  const at::Tensor W = normal(64, columns, 21) * 0.1, X_fp = correlated_inputs(2048, columns, 22);
  const at::Tensor X_q = X_fp + 0.15 * at::mm(X_fp, normal(columns, columns, 23)) / 16.0;
  const at::Tensor wanted = at::mm(W, X_fp.t());
  const auto error = [&](const at::Tensor& cross) {
    const GptqResult result = gptq(Type::kQ4_0, W, make_curvature({gram(X_q), cross, {}}, {}, "W"), {}, "W");
    return (at::mm(tensor_of(result.Q), X_q.t()) - wanted).square().sum().item<double>();
  };
  EXPECT_LT(error(at::mm(X_fp.t(), X_q).contiguous()), 0.8 * error({}));
}

TEST(Gptq, ATargetThatTheTypeCannotHoldIsNamed) {
  const at::Tensor W = normal(8, 64, 21), X = correlated_inputs(512, 64, 22), X_q = X * 1e-9;
  const auto error = [&](const at::Tensor& weights, const at::Tensor& cross) {
    return test::error_of([&] { gptq(Type::kQ4_0, weights, make_curvature({gram(X_q), cross, {}}, {}, "W"), {}, "W"); });
  };
  const std::string moved = error(W, at::mm(X.t(), X_q).contiguous()), large = error(W * 1e8, at::Tensor());
  EXPECT_HAS(moved, "gptq: W, row ");
  EXPECT_HAS(moved, "moved to make up for inputs");
  EXPECT_HAS(moved, "q4_0 holds at most");
  EXPECT_HAS(moved, "--no-correction");
  EXPECT_HAS(large, "gptq: W, row ");
  EXPECT_EQ(large.find("moved"), std::string::npos) << large;
}

// The residual stream has lost something too, in part a function of the inputs: the output is asked to bring it back.
TEST(Gptq, ResidualServesTheStream) {
  const std::int64_t columns = 256, rows = 64;
  const at::Tensor W = normal(rows, columns, 24) * 0.1, X = correlated_inputs(2048, columns, 25);
  const at::Tensor lost = at::mm(X, normal(columns, rows, 26)) * 0.01 + normal(2048, rows, 27) * 0.05;
  const at::Tensor wanted = at::mm(X, W.t()) + lost;
  const auto error = [&](const at::Tensor& residual) {
    const Curvature curvature = make_curvature({gram(X), gram(X), residual}, {}, "W");
    return (at::mm(X, tensor_of(gptq(Type::kQ4_0, W, curvature, {}, "W").Q).t()) - wanted).square().sum().item<double>();
  };
  EXPECT_LT(error(at::mm(lost.t(), X).contiguous()), 0.8 * error({}));
}

TEST(Gptq, OneRepeatedTokenLeavesAHessianThatStillWorks) {
  const std::int64_t columns = 256;
  const at::Tensor one = correlated_inputs(1, columns, 31);
  const at::Tensor W = normal(8, columns, 32) * 0.1;
  const Curvature curvature = make_curvature({gram(one.expand({500, columns}).contiguous()), {}, {}}, {}, "W");
  EXPECT_GT(curvature.damping, 0.0);
  const at::Tensor Q = tensor_of(gptq(Type::kQ4_K, W, curvature, {}, "W").Q);
  EXPECT_LT(output_error(Q, W, one), output_error(tensor_of(rtn_of(Type::kQ4_K, W)), W, one));
  EXPECT_LT((Q - W).abs().max().item<float>(), W.abs().max().item<float>());
}

TEST(Gptq, RaisesDampingUntilTheHessianIsPositiveDefiniteAndSaysSo) {
  at::Tensor H = at::eye(256);
  H[0][1] = H[1][0] = 1.05f;  // an eigenvalue of -0.05
  GptqOptions options;
  options.damping = 0.01;
  const Curvature curvature = make_curvature({H.clone(), {}, {}}, options, "W");
  EXPECT_EQ(curvature.damping_raises, 1);
  EXPECT_NEAR(curvature.damping, 0.1, 1e-9);
  H[0][1] = H[1][0] = 4.0f;
  EXPECT_THROW(make_curvature({H.clone(), {}, {}}, options, "W"), Error);
}

TEST(Gptq, DeadColumnsAreCountedAndRoundedToNearest) {
  const std::int64_t rows = 16, columns = 256;
  at::Tensor X = correlated_inputs(1024, columns, 41);
  X.select(1, 3).zero_();
  X.select(1, 200).zero_();
  const at::Tensor W = normal(rows, columns, 42) * 0.1;
  const Curvature curvature = make_curvature({gram(X), {}, {}}, {}, "W");
  EXPECT_EQ(curvature.dead_columns, 2);
  const GptqResult result = gptq(Type::kQ5_0, W, curvature, {}, "W");
  const at::Tensor Q = tensor_of(result.Q);
  const GridInfo& grid = info(Type::kQ5_0).grid;
  const auto stride = row_bytes(Type::kQ5_0, columns);
  for (std::int64_t r = 0; r < rows; ++r) {
    const RowGrid scales =
        read_grid(Type::kQ5_0, ByteView(result.Q.bytes).subspan(static_cast<std::size_t>(r) * stride, stride), columns);
    for (const std::int64_t dead : {3, 200}) {
      const float scale = scales.scale[static_cast<std::size_t>(dead / 32)];
      EXPECT_EQ(Q[r][dead].item<float>(), scale * level(grid, nearest_code(grid, scale, 0.0f, W[r][dead].item<float>())));
    }
  }
}

// Then only the weights themselves count, and the result is as near to them as the scale search's, or nearer.
TEST(Gptq, NoInputAtAllKeepsTheWeights) {
  const at::Tensor W = normal(8, 256, 51);
  const Curvature curvature = make_curvature({at::zeros({256, 256}), {}, {}}, {}, "W");
  EXPECT_EQ(curvature.dead_columns, 256);
  const at::Tensor error = (tensor_of(gptq(Type::kQ4_1, W, curvature, {}, "W").Q) - W).square().sum(1);
  const at::Tensor searched = (tensor_of(rtn_of(Type::kQ4_1, W, curvature.importance)) - W).square().sum(1);
  EXPECT_TRUE((error <= searched * (1 + 1e-6)).all().item<bool>());
}

TEST(Gptq, RefusesWhatIsNotANumber) {
  at::Tensor W = normal(4, 256, 61);
  const Curvature curvature = make_curvature({gram(correlated_inputs(512, 256, 62)), {}, {}}, {}, "W");
  W[2][7] = std::numeric_limits<float>::infinity();
  try {
    gptq(Type::kQ4_0, W, curvature, {}, "model.layers.0.mlp.up_proj.weight");
    FAIL() << "Inf was accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("mlp.up_proj.weight holds Inf at row 2, column 7"), std::string::npos);
  }
  at::Tensor H = at::eye(256);
  H[5][5] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(make_curvature({H, {}, {}}, {}, "W"), Error);
  EXPECT_THROW(gptq(Type::kQ4_0, normal(4, 512, 63), curvature, {}, "W"), Error);  // statistics of another matrix
}

}  // namespace
}  // namespace attar
