#include "model/tensor.h"
#include "quantize/output_metric.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/console.h"
#include "base/error.h"
#include "base/threads.h"
#include "quantize/descent.h"
#include "tests/kernels_ref/gridded_types.h"
#include "tests/model/models.h"
#include "tests/quantize/support.h"
#include "tests/support.h"

namespace attar {
namespace {

using test::normal;

void overwrite(const fs::path& file, std::int64_t place, const std::string& bytes) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekp(place);
  ASSERT_TRUE(stream << bytes);
}

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
  std::map<std::string, at::Tensor> measure(std::uint64_t seed) const {
    std::map<std::string, at::Tensor> all;
    const auto keep = [&](std::int64_t, std::map<std::string, at::Tensor> A, const nlohmann::json&) { all.merge(A); };
    all["embedding"] = measure_output_metrics(model, chunks, seed, {}, keep);
    return all;
  }
  std::shared_ptr<Decoder> decoder;
  Checkpoint model;
  std::vector<Ids> chunks;
};

// The whole model at once: G is the gradient of W itself, chunk by chunk, by autograd and with the same draws.
TEST_F(OutputMetric, IsTheSecondMomentOfTheGradientsOfTheWeights) {
  std::map<std::string, at::Tensor> H, A;
  std::map<std::string, std::vector<at::Tensor>> gradients;
  for (auto& parameter : decoder->parameters()) parameter.set_requires_grad(true);
  decoder->observer = [&](const std::string& name, const at::Tensor& x) {
    const at::Tensor X = x.detach().reshape({-1, x.size(-1)}).to(at::kDouble), product = at::mm(X.t(), X);
    at::Tensor& sum = H[name + ".weight"];
    sum = sum.defined() ? sum + product : product;
  };
  at::Tensor rows = at::zeros({model.config.hidden_size, model.config.hidden_size}, at::kDouble);
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    const at::Tensor embedded = decoder->embed(tensor_of(chunks[i]).unsqueeze(0)).detach().requires_grad_(true);
    at::Tensor hidden = embedded;
    for (std::int64_t layer = 0; layer < model.config.layers; ++layer) hidden = decoder->layer(layer, hidden);
    const at::Tensor p = decoder->logits(decoder->final_norm(hidden)).squeeze(0).softmax(-1);
    Random random(5 + i);
    at::Tensor loss = at::zeros({});
    for (std::int64_t t = 0; t < p.size(0); ++t) {
      const auto u = static_cast<float>(random.uniform());
      std::int64_t y = 0;
      for (float below = p[t][0].item<float>(); below < u && y + 1 < p.size(1);) below += p[t][++y].item<float>();
      loss = loss - p[t][y].log();
    }
    loss.backward();
    const at::Tensor g = embedded.grad().squeeze(0).to(at::kDouble);
    rows += at::mm(g.t(), g);
    for (const std::string& name : decoder->parameter_names()) {
      at::Tensor& parameter = decoder->parameter(name);
      if (H.contains(name) && name.starts_with("model.layers.")) gradients[name].push_back(parameter.grad().to(at::kDouble));
      parameter.mutable_grad() = at::Tensor();
    }
  }
  decoder->observer = nullptr;
  for (auto& parameter : decoder->parameters()) parameter.set_requires_grad(false);
  auto metrics = measure(5);
  EXPECT_LT((metrics.at("embedding") - rows).abs().max().item<double>(), 1e-3 * rows.abs().max().item<double>());
  metrics.erase("embedding");
  ASSERT_EQ(metrics.size(), gradients.size());
  for (const auto& [name, A_of] : metrics) {
    at::Tensor damped = H.at(name);
    damped.diagonal().add_(0.1 * damped.diagonal().mean());
    const at::Tensor inverse = at::linalg_inv(damped);
    at::Tensor expected = at::zeros({A_of.size(0), A_of.size(0)}, at::kDouble);
    for (const at::Tensor& G : gradients.at(name)) expected += at::mm(at::mm(G, inverse), G.t());
    expected /= expected.diagonal().mean();
    expected.diagonal().add_(1.0);
    ASSERT_EQ(A_of.size(0), A_of.size(1)) << "all rows of so small a matrix are one block";
    EXPECT_LT((A_of - expected).abs().max().item<double>(), 2e-3 * expected.abs().max().item<double>()) << name;
  }
}

TEST_F(OutputMetric, IsTheSameOnAnyNumberOfThreads) {
  const int before = thread_count();
  set_thread_count(1);
  const auto one = measure(0);
  set_thread_count(3);
  const auto three = measure(0);
  set_thread_count(before);
  for (const auto& [name, V] : one) EXPECT_TRUE(at::equal(V, three.at(name))) << name;
}

TEST_F(OutputMetric, NamesTheLinearThatDoesNotCompute) {
  for (const char* name : {"gate", "up"}) decoder->parameter(cat("model.layers.0.mlp.", name, "_proj.weight")).mul_(1e30);
  try {
    model = to_checkpoint(*decoder, {});
    measure(0);
    FAIL() << "measured";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("model.layers."), std::string::npos) << error.what();
  }
}

// As many tokens as there are, by the first 256 of each chunk.
TEST_F(OutputMetric, LongChunksCountWhole) {
  for (Ids& chunk : chunks) {
    chunk.resize(300);
    for (std::size_t i = 17; i < chunk.size(); ++i) chunk[i] = chunk[i % 17];
  }
  const at::Tensor whole = measure(0).at("embedding");
  for (Ids& chunk : chunks) chunk.resize(256);
  const at::Tensor part = measure(0).at("embedding");
  EXPECT_TRUE(at::allclose(whole, part * (300.0 / 256), 1e-6, 0.0));
}

// Broken off after any layer, and in the middle of the next.
TEST_F(OutputMetric, GoesOnWhereItStopped) {
  struct Stop {};
  const std::map<std::string, at::Tensor> expected = measure(3);
  const std::int64_t layers = model.config.layers;
  ASSERT_GE(layers, 2);
  for (std::int64_t last = 0; last < layers; ++last) {
    const test::TempFolder folder;
    std::map<std::string, at::Tensor> all;
    nlohmann::json reached;
    const auto keep = [&](std::int64_t layer, std::map<std::string, at::Tensor> A, const nlohmann::json& here) {
      all.merge(A), reached = here;
      if (layer == last) throw Stop();
    };
    EXPECT_THROW(measure_output_metrics(model, chunks, 3, folder.path(), keep), Stop);
    const fs::path file = folder / "gradients";
    const auto slot = static_cast<std::int64_t>(chunks.size() * 17) * model.config.hidden_size * 4;  // bytes
    overwrite(file, (layers + 1 + (last + 1) % 2) * slot, "half of the gradients of the layer after");
    const auto take = [&](std::int64_t, std::map<std::string, at::Tensor> A, const nlohmann::json&) { all.merge(A); };
    all["embedding"] = measure_output_metrics(model, chunks, 3, folder.path(), take, reached);
    EXPECT_FALSE(fs::exists(file));
    ASSERT_EQ(all.size(), expected.size());
    for (const auto& [name, A] : expected) EXPECT_TRUE(at::equal(all.at(name), A)) << name << " after layer " << last;
  }
}

TEST_F(OutputMetric, DoesNotGoOnWithDamage) {
  struct Stop {};
  const test::TempFolder folder;
  nlohmann::json reached;
  const auto keep = [&](std::int64_t, std::map<std::string, at::Tensor>, const nlohmann::json& here) {
    reached = here;
    throw Stop();
  };
  EXPECT_THROW(measure_output_metrics(model, chunks, 3, folder.path(), keep), Stop);
  const auto again = [&] { return test::error_of([&] { measure_output_metrics(model, chunks, 3, folder.path(), keep, reached); }); };
  overwrite(folder / "gradients", 100, "x");  // of a hidden state that is still needed
  EXPECT_HAS(again(), "gradients is damaged");
  fs::resize_file(folder / "gradients", 1000);
  EXPECT_HAS(again(), "gradients is damaged");
  fs::remove(folder / "gradients");
  EXPECT_HAS(again(), "gradients is missing");
}

class TiedRows : public ::testing::TestWithParam<Type> {
 protected:
  static constexpr std::int64_t kRows = 400, kColumns = 256;  // a whole block and a part of one
  void SetUp() override {
    set_up_torch(1);
    W = normal(kRows, kColumns, 1) * 0.05;
    curvature = make_curvature({test::gram(test::correlated_inputs(1024, kColumns, 2)), {}, {}}, {}, "W");
    const at::Tensor V = normal(kRows, 6, 4), all = at::eye(kRows) + at::mm(V, V.t());
    A = at::zeros({kRows, kMetricRows});
    whole = at::zeros({kRows, kRows});
    for (std::int64_t begin = 0; begin < kRows; begin += kMetricRows) {
      const std::int64_t width = std::min(kMetricRows, kRows - begin);
      const at::Tensor block = all.narrow(0, begin, width).narrow(1, begin, width);
      A.narrow(0, begin, width).narrow(1, 0, width).copy_(block);
      whole.narrow(0, begin, width).narrow(1, begin, width).copy_(block);
    }
  }
  GptqResult run(const at::Tensor& metric, const GptqOptions& options = {}) const { return gptq(GetParam(), W, curvature, options, "W", metric); }
  double loss(const at::Tensor& E) const { return (whole * at::mm(at::mm(E, curvature.H), E.t())).sum(at::kDouble).item<double>(); }
  double loss(const QuantizedTensor& Q) const { return loss(W - test::tensor_of(Q)); }
  at::Tensor W, A, whole;  // the metric by blocks, and in full
  Curvature curvature;
};

TEST_P(TiedRows, MakeUpForEachOther) {
  const GptqResult apart = run({}), tied = run(A);
  EXPECT_LT(loss(tied.Q), 0.6 * loss(apart.Q));
  EXPECT_GT(tied.output_error, apart.output_error);  // which counts all outputs alike
}

TEST_P(TiedRows, VisitingAloneIsWorthALotAndDescentTheRest) {
  GptqOptions visit_only;
  visit_only.descent.passes = 0;
  const double visited = loss(run(A, visit_only).Q);
  EXPECT_LT(visited, 0.75 * loss(run({}, visit_only).Q));
  EXPECT_LT(loss(run(A).Q), visited);
}

// Where it stops no single code is better.
TEST_P(TiedRows, DescentEndsWhereNothingSingleHelps) {
  const std::int64_t rows = 24;
  const at::Tensor w = W.narrow(0, 0, rows).contiguous(), metric = whole.narrow(0, 0, rows).narrow(1, 0, rows).contiguous();
  QuantizedTensor Q = test::rtn_of(GetParam(), w);
  const auto stride = static_cast<std::size_t>(row_bytes(Q.type, kColumns));
  std::vector<PackedRow> packed;
  for (std::int64_t r = 0; r < rows; ++r) packed.emplace_back(Q.type, ByteView(Q.bytes).subspan(static_cast<std::size_t>(r) * stride, stride), kColumns);
  const at::Tensor left = descend(packed, w, curvature.H, curvature.order, {400, 0}, metric);
  at::Tensor E = w.clone();
  for (std::int64_t i = 0; i < E.numel(); ++i) E.data_ptr<float>()[i] -= packed[static_cast<std::size_t>(i / kColumns)].value(i % kColumns);
  EXPECT_TRUE(left.equal(E));
  const at::Tensor felt = at::mm(metric, at::mm(E, curvature.H));  // moving a code by d changes the loss by d (d A_rr H_jj - 2 (A E H)_rj)
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t j = 0; j < kColumns; ++j) {
      const PackedRow& row = packed[static_cast<std::size_t>(r)];
      const double curve = metric[r][r].item<double>() * curvature.H[j][j].item<double>(), slope = felt[r][j].item<double>();
      for (const int other : {row.code(j) - 1, row.code(j) + 1}) {
        if (other < 0 || other >= row.grid().levels) continue;
        const double d = row.value(j, other) - row.value(j);
        EXPECT_GE(d * (d * curve - 2 * slope), -1e-3 * d * d * curve) << "row " << r << ", column " << j;
      }
    }
}

TEST_P(TiedRows, SameBytesAtAnyNumberOfThreads) {
  const int before = thread_count();
  std::vector<Bytes> bytes;
  for (const int threads : {1, 2, 3}) {
    set_thread_count(threads);
    bytes.push_back(run(A).Q.bytes);
  }
  set_thread_count(before);
  EXPECT_EQ(bytes[0], bytes[1]);
  EXPECT_EQ(bytes[0], bytes[2]);
}

INSTANTIATE_TEST_SUITE_P(SomeTypes, TiedRows, ::testing::Values(Type::kQ4_0, Type::kQ4_1, Type::kIQ4_NL, Type::kQ4_K, Type::kQ3_K),
                         [](const auto& info_of) { return std::string(attar::info(info_of.param).name); });

}  // namespace
}  // namespace attar
