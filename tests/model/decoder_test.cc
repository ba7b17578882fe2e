#include "model/decoder.h"

#include <ATen/Parallel.h>
#include <dlfcn.h>

#include <cstdlib>

#include "tests/model/models.h"
#include "tests/support.h"

namespace attar {
namespace {

using test::max_difference;
using test::random_ids;
using test::tiny_config;
using test::tiny_decoder;

struct Variant {
  std::string name;
  ModelConfig config;
  friend std::ostream& operator<<(std::ostream& out, const Variant& variant) { return out << variant.name; }
};

Rope rope(RopeType type, double factor) {
  Rope r;
  r.type = type, r.factor = factor, r.original_max_positions = 16;
  return r;
}

// Every family, then every feature that families switch, with odd head counts and sizes.
std::vector<Variant> variants() {
  std::vector<Variant> all = {
      {"llama", tiny_config(Family::kLlama)},     {"mistral", tiny_config(Family::kMistral)},
      {"qwen2", tiny_config(Family::kQwen2)},     {"qwen3", tiny_config(Family::kQwen3)},
      {"phi3", tiny_config(Family::kPhi3)},       {"gemma2", tiny_config(Family::kGemma2)},
      {"gemma3", tiny_config(Family::kGemma3)},   {"odd_heads", tiny_config(Family::kLlama, 9, 3, 10)},
      {"one_kv_head", tiny_config(Family::kQwen3, 5, 1, 6)},
      {"phi3_odd", tiny_config(Family::kPhi3, 3, 3, 14)},
      {"gemma3_odd", tiny_config(Family::kGemma3, 3, 1, 12)},
  };
  const auto add = [&](const char* name, Family family, auto change) {
    ModelConfig config = tiny_config(family);
    change(config);
    all.push_back({name, config});
  };
  const auto set_rope = [](const Rope& r) {
    return [r](ModelConfig& c) { c.rope = c.local_rope = r; };
  };
  add("all_biases", Family::kLlama, [](ModelConfig& c) { c.qkv_bias = c.output_bias = c.mlp_bias = true; });
  add("tied", Family::kLlama, [](ModelConfig& c) { c.tied_embeddings = true; });
  add("gelu", Family::kLlama, [](ModelConfig& c) { c.activation = Activation::kGelu; });
  add("sliding", Family::kMistral, [](ModelConfig& c) { c.sliding_window = 4, c.sliding_layers = {true, true, true}; });
  add("linear", Family::kLlama, set_rope(rope(RopeType::kLinear, 4)));
  add("llama3", Family::kLlama, set_rope(rope(RopeType::kLlama3, 8)));
  add("yarn", Family::kQwen2, set_rope(rope(RopeType::kYarn, 4)));
  add("dynamic", Family::kLlama, [](ModelConfig& c) {
    c.rope = c.local_rope = rope(RopeType::kDynamic, 2);
    c.max_positions = 12;  // crossed while decoding
  });
  add("longrope", Family::kPhi3, [](ModelConfig& c) {
    Rope r = rope(RopeType::kLongrope, 4);
    r.partial_rotary_factor = 0.75;
    r.short_factor = {1.0, 1.1, 1.2}, r.long_factor = {1.5, 3.0, 6.0};
    c.rope = c.local_rope = r;  // 16 original positions, crossed while decoding
  });
  add("partial", Family::kPhi3, [](ModelConfig& c) { c.rope.partial_rotary_factor = c.local_rope.partial_rotary_factor = 0.5; });
  return all;
}

class EveryVariant : public testing::TestWithParam<Variant> {};

TEST_P(EveryVariant, CacheDecodeEqualsFullForward) {
  const at::NoGradGuard no_grad;
  const auto decoder = tiny_decoder(GetParam().config);
  const at::Tensor ids = random_ids(decoder->config(), 2, 23);
  KvCache cache;
  std::int64_t done = 0;
  // A prompt, single tokens across every boundary, then several at once.
  for (const std::int64_t step : {7, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 5}) {
    const at::Tensor got = decoder->forward(ids.narrow(1, done, step), &cache);
    done += step;
    EXPECT_EQ(cache.length, done);
    // The angles of some rope types follow the length, so the comparison is with a full pass over the same tokens.
    const at::Tensor full = decoder->forward(ids.narrow(1, 0, done));
    EXPECT_GT(full.std().item<double>(), 0.05);
    EXPECT_LE(max_difference(got, full.narrow(1, done - step, step)), 2e-4) << "after " << done << " tokens";
  }
}

TEST_P(EveryVariant, RowsOfABatchDoNotMeet) {
  const at::NoGradGuard no_grad;
  const auto decoder = tiny_decoder(GetParam().config);
  const at::Tensor ids = random_ids(decoder->config(), 3, 11), together = decoder->forward(ids);
  for (std::int64_t row = 0; row < 3; ++row)
    EXPECT_LE(max_difference(together.narrow(0, row, 1), decoder->forward(ids.narrow(0, row, 1))), 2e-4);
}

TEST_P(EveryVariant, FutureTokensDoNotMatter) {
  const at::NoGradGuard no_grad;
  const auto decoder = tiny_decoder(GetParam().config);
  const at::Tensor ids = random_ids(decoder->config(), 1, 11);
  at::Tensor other = ids.clone();
  other.narrow(1, 6, 5).copy_((ids.narrow(1, 6, 5) + 1).remainder(decoder->config().vocab_size));
  const at::Tensor a = decoder->forward(ids), b = decoder->forward(other);
  EXPECT_LE(max_difference(a.narrow(1, 0, 6), b.narrow(1, 0, 6)), 1e-6);
  EXPECT_GT(max_difference(a.narrow(1, 6, 5), b.narrow(1, 6, 5)), 1e-3);
}

TEST_P(EveryVariant, ObserverSeesEveryLinearInput) {
  const at::NoGradGuard no_grad;
  const auto decoder = tiny_decoder(GetParam().config);
  std::vector<std::string> seen;
  decoder->observer = [&](const std::string& name, const at::Tensor& x) {
    seen.push_back(name + ".weight");
    EXPECT_EQ(x.size(-1), decoder->parameter(name + ".weight").size(1)) << name;
    EXPECT_EQ(x.numel() / x.size(-1), 10) << name;
  };
  decoder->forward(random_ids(decoder->config(), 2, 5));
  std::vector<std::string> expected;
  for (std::int64_t i = 0; i < decoder->config().layers; ++i)
    for (const auto& name : decoder->linear_weights(i)) expected.push_back(name);
  expected.push_back(decoder->config().tied_embeddings ? "model.embed_tokens.weight" : "lm_head.weight");
  EXPECT_EQ(seen, expected);
}

TEST_P(EveryVariant, GradientsAgreeWithFiniteDifferences) {
  const auto decoder = tiny_decoder(GetParam().config);
  const at::Tensor ids = random_ids(decoder->config(), 2, 9);
  const auto loss = [&] {
    return at::cross_entropy_loss(decoder->forward(ids).reshape({-1, decoder->config().vocab_size}),
                                                ids.reshape({-1}));
  };
  loss().backward();
  const at::NoGradGuard no_grad;
  for (const std::string& name : decoder->parameter_names()) {
    at::Tensor& parameter = decoder->parameter(name);
    ASSERT_TRUE(parameter.grad().defined()) << name;
    // Along the gradient itself the loss changes by step * |gradient|.
    const double norm = parameter.grad().norm().item<double>();
    if (norm < 1e-3) continue;
    const at::Tensor kept = parameter.clone(), direction = parameter.grad() / norm;
    const double step = 2e-3 * std::max(1.0, kept.norm().item<double>() / 10.0);
    parameter.copy_(kept + direction * step);
    const double above = loss().item<double>();
    parameter.copy_(kept - direction * step);
    const double below = loss().item<double>();
    parameter.copy_(kept);
    EXPECT_NEAR((above - below) / (2 * step), norm, 0.03 * norm + 2e-3) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, EveryVariant, testing::ValuesIn(variants()), [](const auto& variant) { return variant.param.name; });

TEST(Decoder, LongPromptsGoBlockByBlock) {
  const at::NoGradGuard no_grad;
  for (const Family family : {Family::kLlama, Family::kGemma2}) {
    ModelConfig config = tiny_config(family);
    config.layers = 2, config.sliding_layers.resize(2), config.max_positions = 1024;
    if (family == Family::kGemma2) config.sliding_window = 300;
    const auto decoder = tiny_decoder(config);
    const at::Tensor ids = random_ids(config, 1, 700), full = decoder->forward(ids);
    KvCache cache;
    for (std::int64_t done = 0; done < 700; done += 100) {
      const at::Tensor got = decoder->forward(ids.narrow(1, done, 100), &cache);
      EXPECT_LE(max_difference(got, full.narrow(1, done, 100)), 5e-4);
    }
  }
}

// One layer and a window of 4: a token's logits depend on the four tokens up to itself and on no earlier one.
TEST(Decoder, SlidingWindowSeesExactlySoManyTokens) {
  const at::NoGradGuard no_grad;
  ModelConfig config = tiny_config(Family::kMistral);
  config.layers = 1, config.sliding_window = 4, config.sliding_layers = {true};
  const auto decoder = tiny_decoder(config);
  const at::Tensor ids = random_ids(config, 1, 12), base = decoder->forward(ids);
  for (std::int64_t changed = 0; changed < 12; ++changed) {
    at::Tensor other = ids.clone();
    other[0][changed] = (ids[0][changed] + 1).remainder(config.vocab_size);
    const at::Tensor difference = (decoder->forward(other) - base).abs().amax({0, 2});
    for (std::int64_t t = 0; t < 12; ++t) {
      const bool in_sight = changed <= t && t < changed + 4;
      EXPECT_EQ(difference[t].item<double>() > 1e-6, in_sight) << "token " << changed << " seen from " << t;
    }
  }
}

TEST(Decoder, StepsAreTheForward) {
  const at::NoGradGuard no_grad;
  const auto decoder = tiny_decoder(tiny_config(Family::kGemma3));
  const at::Tensor ids = random_ids(decoder->config(), 2, 9);
  at::Tensor hidden = decoder->embed(ids);
  for (std::int64_t i = 0; i < decoder->config().layers; ++i) hidden = decoder->layer(i, hidden);
  EXPECT_TRUE(decoder->logits(decoder->final_norm(hidden)).equal(decoder->forward(ids)));
}

TEST(Decoder, RefusesIdsOutsideTheVocabulary) {
  const auto decoder = tiny_decoder(tiny_config(Family::kLlama));
  EXPECT_THROW(decoder->forward(at::tensor({0, 61}, at::kLong).view({1, 2})), Error);
  EXPECT_THROW(decoder->forward(at::tensor({-1, 3}, at::kLong).view({1, 2})), Error);
  EXPECT_THROW(decoder->forward(at::empty({1, 0}, at::kLong)), Error);
}

TEST(Decoder, ParametersStayOneWhenDataIsReplaced) {
  const at::NoGradGuard no_grad;
  const auto decoder = tiny_decoder(tiny_config(Family::kLlama));
  const at::Tensor ids = random_ids(decoder->config(), 1, 4), before = decoder->forward(ids);
  at::Tensor& head = decoder->parameter("lm_head.weight");
  head.set_data(head * 2.0);
  EXPECT_LE(max_difference(decoder->forward(ids), before * 2.0), 1e-5);
  EXPECT_THROW(decoder->parameter("lm_head.weigth"), Error);
  EXPECT_EQ(decoder->parameters().size(), decoder->parameter_names().size());
}

#if defined(__x86_64__) && defined(__GNUC__)
// A processor newer than the library must not be left with the kernels of 2004.
TEST(Blas, UsesWhatTheProcessorHas) {
  const auto core = reinterpret_cast<const char* (*)()>(::dlsym(RTLD_DEFAULT, "openblas_get_corename"));
  const char* chosen = std::getenv("OPENBLAS_CORETYPE");
  if (core == nullptr || (chosen != nullptr && std::string(chosen) == "Prescott") || !__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
    GTEST_SKIP() << "no OpenBLAS, or no AVX2 here, or Prescott is asked for";
  EXPECT_STRNE(core(), "Prescott");
  if (chosen == nullptr && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")) {
    EXPECT_STRNE(core(), "Haswell");
    EXPECT_STRNE(core(), "Zen");
  }
  const at::Tensor a = at::randn({67, 129}), b = at::randn({129, 95});
  EXPECT_LE(max_difference(at::matmul(a, b), at::matmul(a.to(at::kDouble), b.to(at::kDouble)).to(at::kFloat)), 1e-4);
}
#endif

TEST(OneTorchThread, LeavesWhatItFound) {
  const int threads = at::get_num_threads();
  set_up_torch(3);
  {
    const OneTorchThread outer;
    { const OneTorchThread inner; }
    EXPECT_EQ(at::get_num_threads(), 1);
  }
  EXPECT_EQ(at::get_num_threads(), 3);
  set_up_torch(threads);
}

}  // namespace
}  // namespace attar
