#include "distill/adamw.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tests/distill/tiny.h"

namespace attar {
namespace {

TEST(FlatParameters, MovesParametersIntoOneBufferWithMatricesFirst) {
  const auto decoder = test::tiny_decoder(1);
  std::map<std::string, at::Tensor> before;
  for (const auto& name : decoder->parameter_names()) before[name] = decoder->parameter(name).detach().clone();
  const at::Tensor ids = at::arange(16, at::kLong).view({2, 8});
  const at::Tensor logits = decoder->forward(ids).detach();
  FlatParameters flat(*decoder);
  for (const auto& slot : flat.slots()) {
    EXPECT_TRUE(at::equal(decoder->parameter(slot.name), before[slot.name])) << slot.name;
    EXPECT_EQ(slot.offset < flat.decayed(), slot.shape.size() >= 2) << slot.name;
  }
  EXPECT_TRUE(at::equal(decoder->forward(ids), logits));
  decoder->forward(ids).sum().backward();
  const auto& slot = flat.slots().front();
  EXPECT_GT(flat.view(flat.gradients(), slot).abs().sum().item<float>(), 0.0f);  // autograd writes into the buffer
  flat.values().zero_();
  EXPECT_EQ(decoder->parameter("model.norm.weight").abs().sum().item<float>(), 0.0f);
}

TEST(AdamW, EqualsLibTorchsOptimizer) {
  const auto mine = test::tiny_decoder(2), theirs = test::tiny_decoder(2);
  FlatParameters flat(*mine);
  AdamW optimizer(flat, {.beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .weight_decay = 0.1});
  std::vector<at::Tensor> matrices, vectors;
  for (const auto& name : theirs->parameter_names()) {
    theirs->parameter(name).set_requires_grad(true);
    (theirs->parameter(name).dim() >= 2 ? matrices : vectors).push_back(theirs->parameter(name));
  }
  const auto group = [](const std::vector<at::Tensor>& tensors, double decay) {
    auto options = std::make_unique<torch::optim::AdamWOptions>(1e-3);
    options->betas({0.9, 0.95}).eps(1e-8).weight_decay(decay);
    return torch::optim::OptimizerParamGroup(tensors, std::move(options));
  };
  std::vector<torch::optim::OptimizerParamGroup> groups;
  groups.push_back(group(matrices, 0.1));
  groups.push_back(group(vectors, 0.0));
  torch::optim::AdamW reference(groups, torch::optim::AdamWOptions(1e-3));
  const at::Tensor ids = at::arange(32, at::kLong).view({2, 16});
  for (int step = 0; step < 5; ++step) {
    const double rate = 1e-3 * (step + 1);
    flat.gradients().zero_();
    mine->forward(ids).square().mean().backward();
    optimizer.step(rate, 0.5);
    reference.zero_grad();
    theirs->forward(ids).square().mean().backward();
    for (auto& one : reference.param_groups()) {
      static_cast<torch::optim::AdamWOptions&>(one.options()).lr(rate);
      for (auto& parameter : one.params()) parameter.mutable_grad().mul_(0.5);
    }
    reference.step();
  }
  for (const auto& name : mine->parameter_names())
    EXPECT_LT((mine->parameter(name) - theirs->parameter(name)).abs().max().item<float>(), 2e-6f) << name;
}

}  // namespace
}  // namespace attar
