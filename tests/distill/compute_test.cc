// Training that computes in bfloat16, with weights in float32.
#include <gtest/gtest.h>

#include <cmath>

#include "convert/safetensors.h"
#include "distill/trainer.h"
#include "tests/distill/tiny.h"
#include "tests/support.h"

namespace attar {
namespace {

constexpr std::int64_t kContext = 16;

struct Training {
  explicit Training(at::ScalarType compute, std::int64_t steps = 80, const nlohmann::json& json = test::tiny_json(), MatchOptions match = {})
      : teacher(test::tiny_decoder(1, json)), student(test::tiny_decoder(2, json)),
        data(shuffled_chunks(test::tiny_chunks(200, kContext + 1, 1), 5)) {
    const at::NoGradGuard no_grad;
    for (auto& parameter : teacher->parameters()) {
      if (parameter.dim() >= 2) parameter.mul_(8.0);  // a teacher with opinions
      parameter.set_requires_grad(false);
    }
    options.steps = steps;
    options.batch = 8;
    options.context = kContext;
    options.schedule.peak = 1e-2;
    options.schedule.warmup = 5;
    options.compute = compute;
    options.match = match;
    trainer = std::make_unique<Trainer>(*student, teacher.get(), *data, options);
  }
  std::vector<double> losses() {
    const at::AutoGradMode grad(true);
    std::vector<double> all;
    while (trainer->done() < options.steps) all.push_back(trainer->step().loss);
    return all;
  }
  at::Tensor weights() { return trainer->parameters().values().detach().clone(); }

  std::shared_ptr<Decoder> teacher, student;
  std::unique_ptr<ChunkSource> data;
  TrainerOptions options;
  std::unique_ptr<Trainer> trainer;
};

// Near float32's all the way, and not the same.
void expect_near_curve(const std::vector<double>& exact, const std::vector<double>& found) {
  ASSERT_EQ(exact.size(), found.size());
  EXPECT_NE(exact, found);
  for (std::size_t i = 0; i < exact.size(); ++i) EXPECT_NEAR(found[i], exact[i], 0.03 * exact[i] + 0.01) << "step " << i + 1;
  EXPECT_LT(found.back(), 0.5 * found.front());
}

TEST(Bf16Compute, TheCurveIsThatOfFloat32) { expect_near_curve(Training(at::kFloat).losses(), Training(at::kBFloat16).losses()); }

TEST(Bf16Compute, MatchedLayersBiasesAndAnOutputMatrixToo) {
  nlohmann::json json = test::tiny_json();
  json.update({{"architectures", {"Qwen2ForCausalLM"}}, {"model_type", "qwen2"}, {"tie_word_embeddings", false}});  // biases, an output matrix
  MatchOptions match;
  match.hidden = 1, match.attention = 1;
  const auto exact = Training(at::kFloat, 60, json, match).losses(), found = Training(at::kBFloat16, 60, json, match).losses();
  ASSERT_EQ(exact.size(), found.size());
  for (std::size_t i = 0; i < exact.size(); ++i) EXPECT_NEAR(found[i], exact[i], 0.05 * exact[i] + 0.01) << "step " << i + 1;
}

// A learning rate so small that bfloat16 weights would stand still.
TEST(Bf16Compute, WeightsAreFloat32AndTakeStepsSmallerThanBfloat16s) {
  Training training(at::kBFloat16);
  training.options.schedule.peak = 1e-7;
  training.options.adamw.weight_decay = 0;
  training.options.micro_batch = 2;
  Trainer trainer(*training.student, training.teacher.get(), *training.data, training.options);
  EXPECT_EQ(trainer.parameters().values().scalar_type(), at::kFloat);
  EXPECT_EQ(trainer.parameters().gradients().scalar_type(), at::kFloat);
  for (const at::Tensor& parameter : training.student->parameters()) EXPECT_EQ(parameter.scalar_type(), at::kFloat);
  const at::Tensor before = trainer.parameters().values().detach().clone();
  const at::AutoGradMode grad(true);
  for (int i = 0; i < 3; ++i) trainer.step();
  const at::Tensor after = trainer.parameters().values().detach(), large = before.abs() > 1e-2;
  EXPECT_GT(large.sum().item<std::int64_t>(), 1000);
  EXPECT_GT(after.ne(before).logical_and(large).sum().item<std::int64_t>(), 1000);
  EXPECT_LT((after - before).abs().max().item<float>(), 1e-6f);  // a step of bfloat16 is at least 3e-5 above 1e-2
  // Gradients of micro-batches are added up in float32.
  const at::Tensor gradients = trainer.parameters().gradients();
  EXPECT_GT(gradients.ne(gradients.to(at::kBFloat16).to(at::kFloat)).sum().item<std::int64_t>(), 1000);
}

TEST(Bf16Compute, ResumesToTheSameBytesFromAStateInFloat32) {
  const test::TempFolder folder;
  const fs::path state = folder / "state.safetensors";
  Training whole(at::kBFloat16, 20);
  whole.losses();
  {
    Training first(at::kBFloat16, 20);
    const at::AutoGradMode grad(true);
    for (int i = 0; i < 7; ++i) first.trainer->step();
    first.trainer->save(state, {});
  }
  const SafetensorsFile saved = read_safetensors(state);
  for (const Tensor& tensor : saved.tensors) EXPECT_EQ(tensor.type, Type::kF32) << tensor.name;
  Training rest(at::kBFloat16, 20);
  rest.trainer->resume(state, {});
  rest.losses();
  EXPECT_TRUE(at::equal(whole.weights(), rest.weights()));
}

TEST(Bf16Compute, LogitsAreNearThoseOfFloat32) {
  const auto decoder = test::tiny_decoder(4);
  const at::NoGradGuard no_grad;
  const at::Tensor ids = at::randint(0, 256, {2, 20}, at::kLong);
  const at::Tensor exact = decoder->forward(ids);
  decoder->compute = at::kBFloat16;
  const at::Tensor found = decoder->forward(ids);
  EXPECT_EQ(found.scalar_type(), at::kFloat);
  EXPECT_LT((found - exact).norm().item<float>(), 0.03f * exact.norm().item<float>());
  KvCache cache;
  EXPECT_LT((decoder->forward(ids, &cache) - found).abs().max().item<float>(), 0.02f * exact.abs().max().item<float>());
  decoder->forward(ids.narrow(1, 0, 1), &cache);  // token by token
  hold_in_compute_type(*decoder);
  EXPECT_TRUE(at::equal(decoder->forward(ids), found));
  EXPECT_EQ(decoder->parameter("model.norm.weight").scalar_type(), at::kFloat);
}

}  // namespace
}  // namespace attar
