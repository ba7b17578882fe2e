// Ten small models against what transformers computes for them in float32.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "convert/safetensors.h"
#include "model/decoder.h"
#include "model/tensor.h"
#include "tests/support.h"

namespace attar {
namespace {

class Oracle : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    folder_ = test::shared("oracles") / GetParam();
    SKIP_WITHOUT(folder_);
    checkpoint_ = open_checkpoint(folder_);
    decoder_ = load_decoder(checkpoint_);
    expected_ = read_safetensors(folder_ / "expected_logits.safetensors");
  }

  at::Tensor floats(const std::string& name) const {
    const Tensor& tensor = find(name);
    return tensor_of(read_floats(tensor)).view(tensor.shape);
  }
  at::Tensor integers(const std::string& name) const {
    const Tensor& tensor = find(name);
    at::Tensor out = at::empty(tensor.shape, at::kLong);
    tensor.read_rows(0, tensor.rows(), static_cast<std::byte*>(out.data_ptr()));
    return out;
  }
  const Tensor& find(const std::string& name) const {
    for (const Tensor& tensor : expected_.tensors)
      if (tensor.name == name) return tensor;
    throw std::runtime_error("no tensor " + name);
  }

  fs::path folder_;
  Checkpoint checkpoint_;
  std::shared_ptr<Decoder> decoder_;
  SafetensorsFile expected_;
};

TEST_P(Oracle, Logits) {
  const at::NoGradGuard no_grad;
  const at::Tensor got = decoder_->forward(integers("input_ids")), expected = floats("logits");
  ASSERT_EQ(got.sizes(), expected.sizes());
  const double difference = (got - expected).abs().max().item<double>();
  RecordProperty("max_abs_difference", std::to_string(difference));
  std::printf("[ figure   ] %s: max abs logit difference %.3g\n", GetParam(), difference);
  EXPECT_LE(difference, 2e-4);
}

TEST_P(Oracle, GreedyWithAndWithoutCache) {
  const at::NoGradGuard no_grad;
  const at::Tensor expected = integers("greedy16"), ids = integers("input_ids");
  for (const bool cached : {false, true}) {
    KvCache cache;
    at::Tensor all = ids.narrow(0, 0, 1), fresh = all;
    for (int step = 0; step < 16; ++step) {
      const at::Tensor logits = cached ? decoder_->forward(fresh, &cache) : decoder_->forward(all);
      fresh = logits.select(1, logits.size(1) - 1).argmax(-1, true);
      all = at::cat({all, fresh}, 1);
    }
    EXPECT_TRUE(all.narrow(1, ids.size(1), 16).equal(expected)) << (cached ? "with" : "without") << " cache\n"
                                                                << all.narrow(1, ids.size(1), 16) << expected;
  }
}

TEST_P(Oracle, Gradients) {
  const nlohmann::json expected = nlohmann::json::parse(read_text_file(folder_ / "expected_grads.json"));
  const at::Tensor ids = integers("input_ids"), logits = decoder_->forward(ids);
  const std::int64_t time = ids.size(1), vocab = logits.size(2);
  const at::Tensor loss = at::cross_entropy_loss(
      logits.narrow(1, 0, time - 1).reshape({-1, vocab}), ids.narrow(1, 1, time - 1).reshape({-1}));
  EXPECT_NEAR(loss.item<double>(), expected["loss"].get<double>(), 1e-5);
  loss.backward();
  const nlohmann::json& gradients = expected["grad_norm_then_first4"];
  EXPECT_EQ(gradients.size(), decoder_->parameter_names().size());
  double worst = 0.0;
  for (const auto& [name, values] : gradients.items()) {
    const at::Tensor gradient = decoder_->parameter(name).grad();
    ASSERT_TRUE(gradient.defined()) << name;
    const double norm = values[0], scale = norm / std::sqrt(static_cast<double>(gradient.numel()));
    worst = std::max(worst, std::abs(gradient.to(at::kDouble).norm().item<double>() - norm) / norm);
    for (std::int64_t i = 0; i < 4; ++i) {
      const double want = values[static_cast<std::size_t>(i + 1)], got = gradient.flatten()[i].item<double>();
      // Relative to the value, or to the tensor's root mean square where the value happens to be near zero.
      worst = std::max(worst, std::abs(got - want) / std::max(std::abs(want), scale));
    }
    EXPECT_LE(worst, 1e-3) << name;
  }
  std::printf("[ figure   ] %s: gradients, max relative error %.3g\n", GetParam(), worst);
}

INSTANTIATE_TEST_SUITE_P(All, Oracle,
                         testing::Values("llama", "smollm", "llama3", "qwen2", "qwen3", "mistral", "mistral-swa", "phi3",
                                         "gemma2", "gemma3"),
                         [](const auto& oracle) {
                           std::string name = oracle.param;
                           std::replace(name.begin(), name.end(), '-', '_');  // gtest allows no dash
                           return name;
                         });

}  // namespace
}  // namespace attar
