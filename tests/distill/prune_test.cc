#include "distill/prune.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "convert/vocabulary.h"
#include "tests/distill/tiny.h"
#include "tests/support.h"

namespace attar {
namespace {

// Configurations that between them use every tensor name there is.
nlohmann::json family_json(const std::string& family) {
  auto json = test::tiny_json();
  json["model_type"] = family;
  if (family == "llama") return json;
  if (family == "mha") {
    json["model_type"] = "llama";
    json["num_key_value_heads"] = 4;
    json["tie_word_embeddings"] = false;
    return json;
  }
  json["tie_word_embeddings"] = family.starts_with("gemma");
  json["sliding_window"] = nullptr;
  if (family == "qwen2") json["architectures"] = {"Qwen2ForCausalLM"};
  if (family == "qwen3") json["architectures"] = {"Qwen3ForCausalLM"};
  if (family == "phi3") json["architectures"] = {"Phi3ForCausalLM"};
  if (family == "gemma2") {
    json["architectures"] = {"Gemma2ForCausalLM"};
    json["hidden_activation"] = "gelu_pytorch_tanh";
    json["query_pre_attn_scalar"] = 8;
    json["attn_logit_softcapping"] = 50.0;
    json["final_logit_softcapping"] = 30.0;
    json["sliding_window"] = 16;
  }
  return json;
}

// A decoder with weights large enough that every part matters, and norms that are not all one.
std::shared_ptr<Decoder> lively_decoder(const nlohmann::json& json, std::uint64_t seed) {
  const auto decoder = test::tiny_decoder(seed, json);
  const at::NoGradGuard no_grad;
  auto generator = at::detail::createCPUGenerator(seed);
  for (const auto& name : decoder->parameter_names()) {
    at::Tensor& parameter = decoder->parameter(name);
    if (name.find("norm") != std::string::npos)
      parameter.add_(at::rand(parameter.sizes(), generator) * 0.5);
    else
      parameter.copy_(at::randn(parameter.sizes(), generator) * 0.15);
  }
  return decoder;
}

at::Tensor ids_of(const std::vector<Ids>& chunks) {
  at::Tensor ids = at::empty({static_cast<std::int64_t>(chunks.size()), static_cast<std::int64_t>(chunks[0].size())}, at::kLong);
  for (std::size_t i = 0; i < chunks.size(); ++i)
    std::copy(chunks[i].begin(), chunks[i].end(), ids.data_ptr<std::int64_t>() + static_cast<std::int64_t>(i) * ids.size(1));
  return ids;
}

at::Tensor logits_of(const Checkpoint& checkpoint, const std::vector<Ids>& chunks) {
  const at::NoGradGuard no_grad;
  return load_decoder(checkpoint)->forward(ids_of(chunks));
}

class PruneFamily : public ::testing::TestWithParam<const char*> {};

TEST_P(PruneFamily, CuttingNothingKeepsTheModel) {
  const auto decoder = lively_decoder(family_json(GetParam()), 4);
  const auto chunks = test::tiny_ids(4, 20, 1);
  const Checkpoint teacher = to_checkpoint(*decoder, {});
  const Importance importance = measure_importance(*decoder, chunks, 3);
  const PrunePlan plan = plan_pruning(teacher.config, importance, shape_of(teacher.config));
  const Checkpoint student = prune(teacher, plan);
  ASSERT_EQ(student.tensors.size(), teacher.tensors.size());
  for (const Tensor& tensor : student.tensors) EXPECT_EQ(read_floats(tensor), read_floats(teacher.at(tensor.name))) << tensor.name;
  EXPECT_TRUE(at::equal(logits_of(student, chunks), logits_of(teacher, chunks)));
}

// A model over some of its tokens gives their logits and nothing else.
TEST_P(PruneFamily, FewerTokensHaveTheLogitsTheyHad) {
  const auto decoder = lively_decoder(family_json(GetParam()), 9);
  TokenizerData tokenizer;
  tokenizer.kind = TokenizerKind::kByteBpe;
  for (int id = 0; id < 256; ++id) tokenizer.tokens.push_back(cat("token ", id));
  tokenizer.types.assign(256, TokenType::kNormal);
  const Checkpoint teacher = to_checkpoint(*decoder, tokenizer);
  std::vector<std::int64_t> kept;
  for (std::int64_t id = 0; id < 256; id += 1 + id % 3) kept.push_back(id);
  const auto chunks = test::tiny_ids(3, 20, 2);
  std::vector<Ids> original = chunks;
  for (Ids& chunk : original)
    for (std::int64_t& id : chunk) id = kept[static_cast<std::size_t>(id)];
  const at::Tensor expected = logits_of(teacher, original).index_select(-1, at::tensor(kept));
  const at::Tensor logits = logits_of(select_tokens(teacher, kept), chunks);
  EXPECT_EQ(logits.sizes(), expected.sizes());
  EXPECT_LT((logits - expected).abs().max().item<float>(), 1e-5f);
}

// MLP channels and heads whose output weights are zero do nothing; a student without them computes the same.
TEST_P(PruneFamily, DeadChannelsAndHeadsAreTheOnesThatGo) {
  const auto decoder = lively_decoder(family_json(GetParam()), 5);
  const ModelConfig& c = decoder->config();
  const std::vector<std::int64_t> dead_channels = {3, 17, 40, 63};
  const bool grouped = c.heads != c.kv_heads;
  const std::vector<std::int64_t> dead_heads = grouped ? std::vector<std::int64_t>{1, 2} : std::vector<std::int64_t>{0, 2};
  {
    const at::NoGradGuard no_grad;
    for (std::int64_t layer = 0; layer < c.layers; ++layer) {
      const std::string at = cat("model.layers.", layer, ".");
      // Both the activation (through its producer) and what is made of it are zero.
      for (const auto channel : dead_channels) {
        const std::int64_t row = c.fused_gate_up ? c.intermediate_size + channel : channel;
        decoder->parameter(at + (c.fused_gate_up ? "mlp.gate_up_proj.weight" : "mlp.up_proj.weight"))[row].zero_();
      }
      const at::Tensor o = decoder->parameter(at + "self_attn.o_proj.weight");
      for (const auto head : dead_heads) o.narrow(1, head * c.head_dim, c.head_dim).zero_();
    }
  }
  const auto chunks = test::tiny_ids(4, 20, 1);
  const Checkpoint teacher = to_checkpoint(*decoder, {});
  Importance importance = measure_importance(*decoder, chunks, 2);
  for (const auto& channels : importance.channels)
    for (const auto channel : dead_channels) EXPECT_EQ(channels[static_cast<std::size_t>(channel)], 0.0);
  // Heads are scored before the output projection, so a dead projection does not show; say it.
  for (auto& heads : importance.heads)
    for (const auto head : dead_heads) heads[static_cast<std::size_t>(head)] = 0.0;
  StudentShape shape = shape_of(c);
  shape.ffn -= 4;
  shape.heads -= 2;
  const PrunePlan plan = plan_pruning(c, importance, shape);
  for (const auto& layer : plan.layers) {
    for (const auto channel : dead_channels) EXPECT_FALSE(std::count(layer.channels.begin(), layer.channels.end(), channel));
    for (const auto head : dead_heads) EXPECT_FALSE(std::count(layer.heads.begin(), layer.heads.end(), head));
  }
  const Checkpoint student = prune(teacher, plan);
  EXPECT_EQ(student.config.kv_heads, grouped ? 2 : 2);
  const at::Tensor difference = logits_of(student, chunks) - logits_of(teacher, chunks);
  EXPECT_LT(difference.abs().max().item<float>(), 2e-5f);
}

// Hidden channels that are zero everywhere: the norms' divisors change with the size, and the plan makes up for it.
TEST_P(PruneFamily, DeadHiddenChannelsCanGo) {
  auto json = family_json(GetParam());
  json["rms_norm_eps"] = 1e-12;  // the one term that does not scale
  const auto decoder = lively_decoder(json, 6);
  const ModelConfig& c = decoder->config();
  const std::vector<std::int64_t> dead = {0, 5, 9, 10, 21, 30, 31, 16};
  {
    const at::NoGradGuard no_grad;
    for (const auto& name : decoder->parameter_names()) {
      at::Tensor parameter = decoder->parameter(name).detach();
      for (const auto channel : dead) {
        if (name.ends_with("embed_tokens.weight"))
          parameter.select(1, channel).zero_();
        else if (name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight"))
          parameter[channel].zero_();
      }
    }
  }
  const auto chunks = test::tiny_ids(4, 20, 1);
  const Checkpoint teacher = to_checkpoint(*decoder, {});
  const Importance importance = measure_importance(*decoder, chunks, 4);
  StudentShape shape = shape_of(c);
  shape.hidden -= static_cast<std::int64_t>(dead.size());
  const PrunePlan plan = plan_pruning(c, importance, shape);
  for (const auto channel : dead) EXPECT_FALSE(std::count(plan.hidden.begin(), plan.hidden.end(), channel)) << channel;
  const auto share = static_cast<double>(shape.hidden) / static_cast<double>(c.hidden_size);
  EXPECT_NEAR(plan.final_scale, std::sqrt(1 / share), 1e-4);  // the mean square over fewer channels is larger
  if (c.post_norms) return;  // Gemma's norms behind attention and MLP are not corrected: see docs/methods/pruning.md
  const at::Tensor difference = logits_of(prune(teacher, plan), chunks) - logits_of(teacher, chunks);
  EXPECT_LT(difference.abs().max().item<float>(), 1e-4f);
}

INSTANTIATE_TEST_SUITE_P(Families, PruneFamily, ::testing::Values("llama", "mha", "qwen2", "qwen3", "phi3", "gemma2"));

TEST(Prune, TheLayerThatDoesNothingGoes) {
  const auto decoder = lively_decoder(test::tiny_json(), 7);
  {
    const at::NoGradGuard no_grad;
    decoder->parameter("model.layers.1.self_attn.o_proj.weight").zero_();
    decoder->parameter("model.layers.1.mlp.down_proj.weight").zero_();
  }
  const auto chunks = test::tiny_ids(4, 20, 1);
  const Checkpoint teacher = to_checkpoint(*decoder, {});
  const Importance importance = measure_importance(*decoder, chunks, 4);
  EXPECT_NEAR(importance.layers[1], 0.0, 1e-6);
  EXPECT_GT(importance.layers[0], 0.01);
  StudentShape shape = shape_of(teacher.config);
  shape.layers = 2;
  const PrunePlan plan = plan_pruning(teacher.config, importance, shape);
  ASSERT_EQ(plan.layers.size(), 2u);
  EXPECT_EQ(plan.layers[0].index, 0);
  EXPECT_EQ(plan.layers[1].index, 2);
  EXPECT_TRUE(at::equal(logits_of(prune(teacher, plan), chunks), logits_of(teacher, chunks)));
  EXPECT_EQ(plan_pruning(teacher.config, importance, shape, {2, 1}).layers[0].index, 1);  // the user's word counts
  EXPECT_THROW(plan_pruning(teacher.config, importance, shape, {0, 3}), Error);
  EXPECT_THROW(plan_pruning(teacher.config, importance, shape, {0, 0}), Error);
  EXPECT_THROW(plan_pruning(teacher.config, importance, shape, {0, 1, 2}), Error);
}

TEST(Prune, ImportanceFollowsThePapersAggregation) {
  const auto decoder = lively_decoder(test::tiny_json(), 8);
  const auto chunks = test::tiny_ids(3, 12, 1);
  const Importance importance = measure_importance(*decoder, chunks, 2);
  // By hand for the first layer: mean over the sequence of |x|, then the L2 norm over the batch.
  at::Tensor seen;
  decoder->observer = [&](const std::string& name, const at::Tensor& x) {
    if (name == "model.layers.0.mlp.down_proj") seen = x.detach().clone();
  };
  decoder->forward(ids_of(chunks));
  const at::Tensor expected = seen.abs().mean(1).norm(2, 0);
  for (std::int64_t i = 0; i < 64; ++i)
    EXPECT_NEAR(importance.channels[0][static_cast<std::size_t>(i)], expected[i].item<double>(), 1e-5);
  EXPECT_THROW(measure_importance(*decoder, {}, 2), Error);
}

// Whole groups: a key-value head that nobody listens to goes with its query heads, and the function stays.
TEST_P(PruneFamily, TheGroupThatDoesNothingGoes) {
  const auto decoder = lively_decoder(family_json(GetParam()), 11);
  const ModelConfig& c = decoder->config();
  if (c.heads == c.kv_heads) GTEST_SKIP() << "no groups";
  const std::int64_t group = c.heads / c.kv_heads;
  std::vector<std::int64_t> dead_groups;
  {
    const at::NoGradGuard no_grad;
    for (std::int64_t layer = 0; layer < c.layers; ++layer) {
      const std::int64_t dead = layer % c.kv_heads;  // another one in each layer
      dead_groups.push_back(dead);
      const std::string at = cat("model.layers.", layer, ".self_attn.");
      const at::Tensor v = c.fused_qkv ? decoder->parameter(at + "qkv_proj.weight") : decoder->parameter(at + "v_proj.weight");
      const std::int64_t before = c.fused_qkv ? (c.heads + c.kv_heads) * c.head_dim : 0;
      v.narrow(0, before + dead * c.head_dim, c.head_dim).zero_();
      for (const char* bias : {"v_proj.bias", "qkv_proj.bias"})
        if (decoder->has_parameter(at + bias)) decoder->parameter(at + bias).narrow(0, before + dead * c.head_dim, c.head_dim).zero_();
    }
  }
  const auto chunks = test::tiny_ids(4, 20, 1);
  const Checkpoint teacher = to_checkpoint(*decoder, {});
  const Importance importance = measure_importance(*decoder, chunks, 2);
  StudentShape shape = shape_of(c);
  shape.kv_heads -= 1;
  shape.heads -= group;
  const PrunePlan plan = plan_pruning(c, importance, shape);
  for (std::size_t layer = 0; layer < plan.layers.size(); ++layer) {
    EXPECT_FALSE(std::count(plan.layers[layer].kv_heads.begin(), plan.layers[layer].kv_heads.end(), dead_groups[layer]));
    for (const auto head : plan.layers[layer].heads) EXPECT_NE(head / group, dead_groups[layer]);
  }
  const Checkpoint student = prune(teacher, plan);
  EXPECT_EQ(student.config.kv_heads, c.kv_heads - 1);
  EXPECT_EQ(student.config.heads, c.heads - group);
  EXPECT_EQ(parameter_count(shaped_config(c, shape)), student.parameter_count());
  EXPECT_LT((logits_of(student, chunks) - logits_of(teacher, chunks)).abs().max().item<float>(), 2e-5f);
}

TEST(CheckShape, RefusesWhatCannotBeCut) {
  const ModelConfig config = parse_config(test::tiny_json(), "test");
  EXPECT_NO_THROW(check_shape(config, {3, 32, 64, 4}));
  EXPECT_THROW(check_shape(config, {4, 32, 64, 4}), Error);
  EXPECT_THROW(check_shape(config, {3, 0, 64, 4}), Error);
  EXPECT_THROW(check_shape(config, {3, 32, 65, 4}), Error);
  EXPECT_THROW(check_shape(config, {3, 32, 64, 3}), Error);  // two groups cannot share three heads
  EXPECT_NO_THROW(check_shape(config, {3, 32, 64, 2, 256, 1}));
  EXPECT_THROW(check_shape(config, {3, 32, 64, 3, 256, 1}), Error);  // a group has but two
  EXPECT_THROW(check_shape(config, {3, 32, 64, 4, 256, 3}), Error);
}

}  // namespace
}  // namespace attar
