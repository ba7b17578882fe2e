#include "distill/layer_loss.h"

#include <ATen/ATen.h>

#include "tests/distill/tiny.h"
#include "tests/support.h"

namespace attar {
namespace {

double mean_loss(const at::Tensor& logits, const at::Tensor& ids) {  // (batch, time, vocab), (batch, time)
  const std::int64_t time = ids.size(1);
  const at::Tensor log_p = at::log_softmax(logits.narrow(1, 0, time - 1).to(at::kDouble), -1);
  return -log_p.gather(2, ids.narrow(1, 1, time - 1).unsqueeze(2)).mean().item<double>();
}

at::Tensor batch_of(const std::vector<Ids>& chunks) {
  std::vector<at::Tensor> rows;
  for (const Ids& chunk : chunks) rows.push_back(at::tensor(chunk));
  return at::stack(rows);
}

std::shared_ptr<Decoder> lively_decoder() {
  const auto decoder = test::tiny_decoder(3);
  const at::NoGradGuard no_grad;
  auto generator = at::detail::createCPUGenerator(3);
  for (const auto& name : decoder->parameter_names())
    if (name.find("norm") == std::string::npos)
      decoder->parameter(name).copy_(at::randn(decoder->parameter(name).sizes(), generator) * 0.15);
  return decoder;
}

// A layer that is left out is a layer that adds nothing: its two output projections are zero.
TEST(LayerLosses, AreTheLossOfTheModelWithoutTheLayer) {
  const auto chunks = test::tiny_ids(5, 20, 1);
  const at::Tensor ids = batch_of(chunks);
  const auto decoder = lively_decoder();
  const at::NoGradGuard no_grad;
  const double whole = mean_loss(decoder->forward(ids), ids);
  const std::vector<double> losses = layer_losses(*decoder, chunks, 2);
  ASSERT_EQ(losses.size(), 3u);
  for (std::size_t layer = 0; layer < 3; ++layer) {
    const auto without = lively_decoder();
    for (const char* part : {".self_attn.o_proj.weight", ".mlp.down_proj.weight"})
      without->parameter(cat("model.layers.", layer, part)).zero_();
    EXPECT_NEAR(losses[layer], mean_loss(without->forward(ids), ids) - whole, 1e-5) << layer;
  }
}

TEST(LayerLosses, ALayerThatDoesNothingCostsNothing) {
  const auto decoder = lively_decoder();
  {
    const at::NoGradGuard no_grad;
    decoder->parameter("model.layers.1.self_attn.o_proj.weight").zero_();
    decoder->parameter("model.layers.1.mlp.down_proj.weight").zero_();
  }
  const std::vector<double> losses = layer_losses(*decoder, test::tiny_ids(4, 20, 1), 4);
  EXPECT_NEAR(losses[1], 0.0, 1e-6);
  EXPECT_GT(std::abs(losses[0]), 1e-3);
  EXPECT_HAS(test::error_of([&] { layer_losses(*decoder, {}, 4); }), "no calibration text");
}

}  // namespace
}  // namespace attar
