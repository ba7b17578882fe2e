#include "runtime/runner.h"

#include "datasets/tokenizer.h"
#include "tests/model/models.h"
#include "tests/support.h"

namespace attar {
namespace {

ModelConfig wide_config(Family family) {
  ModelConfig config = test::tiny_config(family, 4, 2, 16);
  config.hidden_size = 64, config.intermediate_size = 96;
  return config;
}

// A decoder's weights with every matrix in `type`.
Checkpoint packed_checkpoint(Decoder& decoder, Type type) {
  Checkpoint checkpoint = to_checkpoint(decoder, {});
  for (Tensor& tensor : checkpoint.tensors)
    if (tensor.shape.size() == 2) tensor = make_tensor(tensor.name, tensor.shape, read_floats(tensor), type);
  return checkpoint;
}

Ids some_ids(std::int64_t count, std::int64_t vocab = 61) {
  Ids ids;
  for (std::int64_t i = 0; i < count; ++i) ids.push_back((7 * i * i + 3 * i + 5) % vocab);
  return ids;
}

at::Tensor tensor_from(const std::vector<float>& values) { return at::tensor(values); }

class RunnerFamily : public testing::TestWithParam<Family> {};

TEST_P(RunnerFamily, WithoutRoundingItIsTheFloatDecoder) {
  const at::NoGradGuard no_grad;
  const auto decoder = test::tiny_decoder(wide_config(GetParam()));
  const Ids ids = some_ids(9);
  Runner runner(to_checkpoint(*decoder, {}), {.exact = true});
  EXPECT_LE(test::max_difference(tensor_from(runner.feed(ids, true)), decoder->forward(at::tensor(ids, at::kLong).unsqueeze(0)).flatten()), 2e-4);
}

TEST_P(RunnerFamily, PackedItAgreesWithTheDecodedWeights) {
  const at::NoGradGuard no_grad;
  const auto original = test::tiny_decoder(wide_config(GetParam()));
  const Ids ids = some_ids(9);
  for (const Type type : {Type::kQ8_0, Type::kQ4_0, Type::kQ5_1, Type::kIQ4_NL}) {
    const Checkpoint checkpoint = packed_checkpoint(*original, type);
    ASSERT_TRUE(runs_on_kernels(checkpoint, at::kCPU, false));
    Runner runner(checkpoint);
    EXPECT_LT(runner.weight_bytes(), checkpoint.tensor_bytes() + 1);
    const at::Tensor got = tensor_from(runner.feed(ids, true)),
                     expected = load_decoder(checkpoint)->forward(at::tensor(ids, at::kLong).unsqueeze(0)).flatten();
    // Rounding a block of 32 normal activations to 8 bits errs by about 0.6 % of their size; about twenty products follow
    // each other here, and independent errors of that size add up to 2.7 %.
    const double error = ((got - expected).norm() / expected.norm()).item<double>();
    EXPECT_LT(error, 0.05) << info(type).name;
    EXPECT_GT(error, 1e-6) << info(type).name << ": not through the integer kernels";
  }
}

INSTANTIATE_TEST_SUITE_P(All, RunnerFamily,
                         testing::Values(Family::kLlama, Family::kQwen2, Family::kQwen3, Family::kPhi3, Family::kGemma2, Family::kGemma3),
                         [](const auto& family) { return std::string(attar::info(family.param).model_type); });

// As if what came after had never been fed, also where the angles follow the length of the text.
TEST(Runner, GoesOnFromWhereItWasRewound) {
  for (const bool dynamic : {false, true}) {
    ModelConfig config = wide_config(Family::kLlama);
    if (dynamic) {
      config.rope.type = config.local_rope.type = RopeType::kDynamic;
      config.rope.factor = config.local_rope.factor = 2;
      config.max_positions = 8;
    }
    const auto decoder = test::tiny_decoder(config);
    const Ids ids = some_ids(14), other = some_ids(4, 17);
    Runner runner(to_checkpoint(*decoder, {}), {.exact = true});
    for (const std::int64_t length : {0, 5, 10, 14}) {
      runner.clear();
      if (length > 0) runner.feed(std::span(ids).first(static_cast<std::size_t>(length)));
      const std::vector<float> expected = runner.feed(other);
      runner.clear();
      runner.feed(ids);
      runner.rewind(length);
      EXPECT_EQ(runner.length(), length);
      EXPECT_LE(test::max_difference(tensor_from(runner.feed(other)), tensor_from(expected)), 1e-4) << dynamic << " " << length;
    }
    EXPECT_THROW(runner.rewind(100), Error);
  }
}

TEST(Runner, OneBesideAnotherHasAContextOfItsOwn) {
  const auto decoder = test::tiny_decoder(wide_config(Family::kLlama));
  auto runner = std::make_unique<Runner>(packed_checkpoint(*decoder, Type::kQ4_0));
  const Ids ids = some_ids(8);
  const std::vector<float> expected = runner->feed(ids, true);
  const std::unique_ptr<Runner> other = runner->beside();
  EXPECT_EQ(other->length(), 0);
  runner.reset();  // the weights stay
  EXPECT_EQ(other->feed(ids, true), expected);
}

TEST(Runner, LogitsAreThoseOfItsStates) {
  const auto decoder = test::tiny_decoder(wide_config(Family::kGemma2));
  Runner runner(packed_checkpoint(*decoder, Type::kQ8_0));
  const Ids ids = some_ids(6);
  const std::vector<float> all = runner.feed(ids, true);
  runner.clear();
  const std::vector<float> states = runner.states(ids);
  ASSERT_EQ(states.size(), 6u * 64);
  std::vector<float> logits(3, 1.0f);  // of an earlier call
  runner.logits(states, logits);
  EXPECT_EQ(logits, all);
}

}  // namespace
}  // namespace attar
