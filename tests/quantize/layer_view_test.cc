#include "model/tensor.h"
#include "quantize/layer_view.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/threads.h"
#include "quantize/tensors.h"
#include "tests/model/models.h"
#include "tests/support.h"

namespace attar {
namespace {

std::vector<Ids> chunks_of(const ModelConfig& config, std::int64_t count, std::int64_t length) {
  std::vector<Ids> chunks;
  for (std::int64_t i = 0; i < count; ++i) {
    const at::Tensor ids = test::random_ids(config, 1, length, 5 + i).contiguous();
    chunks.emplace_back(ids.data_ptr<std::int64_t>(), ids.data_ptr<std::int64_t>() + length);
  }
  return chunks;
}

// Every weight moved a little, as by rounding.
Checkpoint shaken(Decoder& decoder, double size) {
  const at::NoGradGuard no_grad;
  const auto copy = share_weights(decoder);
  at::manual_seed(11);
  for (const std::string& name : copy->parameter_names()) {
    at::Tensor& W = copy->parameter(name);
    if (W.dim() == 2) W.set_data(W + size * at::randn(W.sizes()) * W.std());
  }
  return to_checkpoint(*copy, {});
}

// The mean over the positions of one decoder against another, straight from the definition.
double divergence(Decoder& original, Decoder& changed, const std::vector<Ids>& chunks, Positions positions) {
  const at::NoGradGuard no_grad;
  double sum = 0;
  for (const Ids& chunk : chunks) {
    const at::Tensor ids = tensor_of(chunk).unsqueeze(0);
    const at::Tensor p = at::softmax(original.forward(ids).to(at::kDouble), -1), q = at::softmax(changed.forward(ids).to(at::kDouble), -1);
    sum += (p * (p / q).log()).sum(-1).narrow(1, positions.begin, positions.end - positions.begin).sum().item<double>();
  }
  return sum / static_cast<double>(static_cast<std::int64_t>(chunks.size()) * (positions.end - positions.begin));
}

class LayerViewTest : public testing::TestWithParam<Family> {};

TEST_P(LayerViewTest, SaysWhatEachTensorAloneDoes) {
  const ModelConfig config = test::tiny_config(GetParam());
  const auto decoder = test::tiny_decoder(config);
  const Checkpoint original = to_checkpoint(*decoder, {}), quantized = shaken(*decoder, 0.05);
  const auto chunks = chunks_of(config, 3, 12);
  const Positions positions{6, 11};
  const LayerView view = view_layers(original, quantized, chunks, positions);
  std::size_t matrices = 0;
  double sum = 0, share = 0;
  for (const Tensor& tensor : original.tensors) matrices += tensor.shape.size() == 2;
  ASSERT_EQ(view.tensors.size(), matrices);
  for (const TensorView& one : view.tensors) {
    const auto changed = share_weights(*decoder);
    const at::Tensor Q = read_tensor(quantized.at(one.name)), W = read_tensor(original.at(one.name));
    changed->parameter(one.name).set_data(Q);
    const double expected = divergence(*decoder, *changed, chunks, positions);
    EXPECT_NEAR(one.kl, expected, 1e-3 * expected + 1e-7) << one.name;
    EXPECT_NEAR(one.weight_error, ((Q - W).square().sum() / W.square().sum()).item<double>(), 1e-6) << one.name;
    ASSERT_TRUE(one.output_error);
    EXPECT_NEAR(*one.output_error / one.weight_error, 1, 0.6) << one.name << ": random inputs find random errors";
    sum += one.kl, share += one.share;
  }
  EXPECT_NEAR(view.kl_sum, sum, 1e-12);
  EXPECT_NEAR(share, 1, 1e-12);
  const auto all = load_decoder(quantized);
  const double together = divergence(*decoder, *all, chunks, positions);
  EXPECT_NEAR(view.kl_together, together, 1e-3 * together + 1e-7);
}

INSTANTIATE_TEST_SUITE_P(Families, LayerViewTest, testing::Values(Family::kLlama, Family::kGemma2, Family::kPhi3, Family::kQwen3));

TEST(LayerView, OutputErrorIsThatOfTheOriginalsInputs) {
  const ModelConfig config = test::tiny_config(Family::kLlama);
  const auto decoder = test::tiny_decoder(config);
  const Checkpoint original = to_checkpoint(*decoder, {}), quantized = shaken(*decoder, 0.1);
  const auto chunks = chunks_of(config, 2, 10);
  const LayerView view = view_layers(original, quantized, chunks, {0, 10});
  std::map<std::string, std::pair<double, double>> squares;  // of error and output, by weight name
  const auto whole = share_weights(*decoder);
  whole->observer = [&](const std::string& linear, const at::Tensor& x) {
    const std::string name = linear + ".weight";
    const at::Tensor Q = read_tensor(quantized.at(name)), W = read_tensor(original.at(name));
    squares[name].first += at::linear(x, Q - W).square().sum().item<double>();
    squares[name].second += at::linear(x, W).square().sum().item<double>();
  };
  const at::NoGradGuard no_grad;
  for (const Ids& chunk : chunks) whole->forward(tensor_of(chunk).unsqueeze(0));
  std::size_t linears = 0;
  for (const TensorView& one : view.tensors) {
    if (one.name == "model.embed_tokens.weight") continue;
    const auto [error, output] = squares.at(one.name);
    EXPECT_NEAR(*one.output_error, error / output, 1e-4 * error / output) << one.name;
    ++linears;
  }
  EXPECT_EQ(linears, squares.size());
}

TEST(LayerView, IsTheSameAtAnyNumberOfThreadsAndZeroForTheSameModel) {
  const ModelConfig config = test::tiny_config(Family::kLlama);
  const auto decoder = test::tiny_decoder(config);
  const Checkpoint original = to_checkpoint(*decoder, {}), quantized = shaken(*decoder, 0.05);
  const auto chunks = chunks_of(config, 5, 10);
  const int before = thread_count();
  set_thread_count(1);
  const auto one = to_json(view_layers(original, quantized, chunks, {0, 9}));
  set_thread_count(3);
  EXPECT_EQ(one, to_json(view_layers(original, quantized, chunks, {0, 9})));
  set_thread_count(before);
  const LayerView same = view_layers(original, original, chunks, {0, 9});
  EXPECT_EQ(same.kl_sum, 0);
  EXPECT_LT(same.kl_together, 1e-6);
  for (const TensorView& tensor : same.tensors) EXPECT_EQ(tensor.share, 0);
}

TEST(LayerView, TensorsThatMakeUpForEachOtherAreNotSeparable) {
  const ModelConfig config = test::tiny_config(Family::kLlama);
  const auto decoder = test::tiny_decoder(config), scaled = share_weights(*decoder);
  const at::NoGradGuard no_grad;
  for (const char* norm : {"model.layers.0.input_layernorm.weight", "model.layers.1.input_layernorm.weight"})
    scaled->parameter(norm).set_data(decoder->parameter(norm) * 2);
  for (std::int64_t layer : {0, 1})
    for (const char* linear : {"q_proj", "k_proj", "v_proj"}) {
      const std::string name = cat("model.layers.", layer, ".self_attn.", linear, ".weight");
      scaled->parameter(name).set_data(decoder->parameter(name) * 0.5);
    }
  const LayerView view = view_layers(to_checkpoint(*decoder, {}), to_checkpoint(*scaled, {}), chunks_of(config, 2, 10), {0, 9});
  EXPECT_FALSE(view.separable()) << view.kl_sum << " " << view.kl_together;
}

TEST(LayerView, AnotherModelIsRefused) {
  ModelConfig config = test::tiny_config(Family::kLlama);
  const auto decoder = test::tiny_decoder(config);
  config.layers = 2;
  const auto shorter = test::tiny_decoder(config);
  const Checkpoint a = to_checkpoint(*decoder, {}), b = to_checkpoint(*shorter, {});
  for (const auto& [original, quantized] : {std::pair{&a, &b}, {&b, &a}}) try {
      view_layers(*original, *quantized, chunks_of(config, 1, 8), {0, 7});
      ADD_FAILURE() << "taken";
    } catch (const Error& error) {
      EXPECT_HAS(error.what(), "was not quantized from");
    }
}

}  // namespace
}  // namespace attar
