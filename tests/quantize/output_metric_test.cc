#include "quantize/output_metric.h"

#include <gtest/gtest.h>

#include "base/console.h"
#include "base/error.h"
#include "base/threads.h"
#include "quantize/coupling.h"
#include "tests/kernels_ref/gridded_types.h"
#include "tests/model/models.h"
#include "tests/quantize/support.h"

namespace attar {
namespace {

using test::normal;

at::Tensor outer(const at::Tensor& V) { return at::mm(V, V.t()); }

TEST(LeadingPart, IsExactForAFewDirectionsOverAFlatRest) {
  // A = 0.5 I + U U^T with five directions. Damping adds the mean of the diagonal; all that is over the flat part is V V^T times it.
  const at::Tensor U = normal(60, 5, 3), A = outer(U) + 0.5 * at::eye(60);
  const double mean = A.diagonal().mean().item<double>(), flat = 0.5 + mean;
  const at::Tensor V = leading_part(A.clone(), 5);
  ASSERT_EQ(V.sizes(), (at::IntArrayRef{60, 5}));
  EXPECT_LT((outer(V) - outer(U) / flat).abs().max().item<double>(), 1e-4);
}

TEST(LeadingPart, OfNothingIsNothing) { EXPECT_EQ(leading_part(at::zeros({8, 8}), 4).size(1), 0); }

class OutputMetric : public ::testing::Test {
 protected:
  void SetUp() override {
    set_verbosity(Verbosity::kQuiet);
    set_up_torch(1);
    decoder = test::tiny_decoder(test::tiny_config(Family::kQwen3));
    for (auto& parameter : decoder->parameters()) parameter.set_requires_grad(false);
    model = to_checkpoint(*decoder, {});
    Random random(2);
    chunks.assign(24, Ids(17));
    for (Ids& chunk : chunks)
      for (std::int64_t& id : chunk)
        id = static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(model.config.vocab_size)));
  }
  void TearDown() override { set_verbosity(Verbosity::kNormal); }
  std::shared_ptr<Decoder> decoder;
  Checkpoint model;
  std::vector<Ids> chunks;
};

TEST_F(OutputMetric, IsTheSecondMomentOfTheGradients) {
  // The whole model at once, under autograd, with the same draws.
  std::map<std::string, at::Tensor> A, outputs;
  decoder->output_observer = [&](const std::string& name, const at::Tensor& y) {
    y.retain_grad();
    outputs[name + ".weight"] = y;
  };
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    const at::AutoGradMode with_grad(true);
    decoder->parameter("model.embed_tokens.weight").set_requires_grad(true);
    const at::Tensor p = decoder->forward(torch::tensor(chunks[i]).unsqueeze(0)).squeeze(0).softmax(-1);
    Random random(5 + i);
    at::Tensor loss = at::zeros({});
    for (std::int64_t t = 0; t < p.size(0); ++t) {
      const auto u = static_cast<float>(random.uniform());
      std::int64_t y = 0;
      for (float below = p[t][0].item<float>(); below < u && y + 1 < p.size(1);) below += p[t][++y].item<float>();
      loss = loss - p[t][y].log();
    }
    loss.backward();
    const torch::NoGradGuard no_grad;
    for (const auto& [name, y] : outputs) {
      if (!name.starts_with("model.layers.")) continue;
      const at::Tensor g = y.grad().reshape({-1, y.size(-1)});
      A[name] = A.contains(name) ? A[name] + at::mm(g.t(), g) : at::mm(g.t(), g);
    }
  }
  decoder->output_observer = nullptr;
  const auto metrics = measure_output_metrics(model, chunks, 5, {});
  ASSERT_EQ(metrics.size(), A.size());
  for (const auto& [name, V] : metrics) {
    const at::Tensor expected = outer(leading_part(A.at(name).clone(), 64));
    EXPECT_LT((outer(V) - expected).abs().max().item<double>(), 0.02 * expected.abs().max().item<double>()) << name;
  }
}

TEST_F(OutputMetric, IsTheSameOnAnyNumberOfThreads) {
  const int before = thread_count();
  set_thread_count(1);
  const auto one = measure_output_metrics(model, chunks, 0, {});
  set_thread_count(3);
  const auto three = measure_output_metrics(model, chunks, 0, {});
  set_thread_count(before);
  for (const auto& [name, V] : one) EXPECT_TRUE(at::equal(V, three.at(name))) << name;
}

TEST_F(OutputMetric, NamesTheLinearThatDoesNotCompute) {
  for (const char* name : {"gate", "up"}) decoder->parameter(cat("model.layers.0.mlp.", name, "_proj.weight")).mul_(1e30);
  try {
    measure_output_metrics(to_checkpoint(*decoder, {}), chunks, 0, {});
    FAIL() << "measured";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("model.layers."), std::string::npos) << error.what();
  }
}

class Coupling : public ::testing::TestWithParam<Type> {
 protected:
  static constexpr std::int64_t kRows = 96, kColumns = 256;
  void SetUp() override {
    set_up_torch(1);
    W = normal(kRows, kColumns, 1) * 0.05;
    curvature = make_curvature({test::gram(test::correlated_inputs(1024, kColumns, 2)), {}, {}}, {}, "W");
    V = normal(kRows, 6, 4);
  }
  GptqResult run(const at::Tensor& metric) const { return gptq(GetParam(), W, curvature, {}, "W", metric); }
  double loss(const QuantizedTensor& Q) const {
    const at::Tensor E = W - test::tensor_of(Q);
    return ((at::eye(kRows) + outer(V)) * at::mm(at::mm(E, curvature.H), E.t())).sum(at::kDouble).item<double>();
  }
  at::Tensor W, V;
  Curvature curvature;
};

TEST_P(Coupling, MakesUpForErrorsInOtherRows) {
  const GptqResult apart = run({}), tied = run(V);
  EXPECT_LT(loss(tied.Q), 0.85 * loss(apart.Q));
  EXPECT_GT(tied.output_error, apart.output_error);  // which counts all outputs alike
  EXPECT_EQ(run(at::zeros({kRows, 0})).Q.bytes, apart.Q.bytes);
}

TEST_P(Coupling, KeepsItsSumsTrue) {
  QuantizedTensor Q = run({}).Q;
  at::Tensor E = W - test::tensor_of(Q), G = at::mm(E, curvature.H);
  descend_coupled(Q, E, G, V, curvature, 4);
  EXPECT_LT((E - (W - test::tensor_of(Q))).abs().max().item<double>(), 1e-6);
  EXPECT_LT((G - at::mm(E, curvature.H)).abs().max().item<double>(), 1e-3 * G.abs().max().item<double>());
}

TEST_P(Coupling, SameBytesAtAnyNumberOfThreads) {
  const int before = thread_count();
  std::vector<Bytes> bytes;
  for (const int threads : {1, 2, 3}) {
    set_thread_count(threads);
    bytes.push_back(run(V).Q.bytes);
  }
  set_thread_count(before);
  EXPECT_EQ(bytes[0], bytes[1]);
  EXPECT_EQ(bytes[0], bytes[2]);
}

INSTANTIATE_TEST_SUITE_P(SomeTypes, Coupling, ::testing::Values(Type::kQ4_0, Type::kQ4_1, Type::kIQ4_NL, Type::kQ4_K, Type::kQ3_K),
                         [](const auto& info_of) { return std::string(attar::info(info_of.param).name); });

}  // namespace
}  // namespace attar
