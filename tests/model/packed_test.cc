#include "model/packed.h"

#include "kernels_ref/multiply.h"
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

class PackedFamily : public testing::TestWithParam<Family> {};

TEST_P(PackedFamily, AgreesWithTheDecodedWeights) {
  const at::NoGradGuard no_grad;
  const auto original = test::tiny_decoder(wide_config(GetParam()));
  for (const Type type : {Type::kQ8_0, Type::kQ4_0, Type::kQ5_1, Type::kIQ4_NL}) {
    const Checkpoint checkpoint = packed_checkpoint(*original, type);
    ASSERT_TRUE(has_packed_matrices(checkpoint));
    const auto packed = load_decoder_packed(checkpoint), floats = load_decoder(checkpoint);
    EXPECT_LT(packed->weight_bytes(), checkpoint.tensor_bytes() + 1);
    const at::Tensor ids = test::random_ids(original->config(), 2, 9);
    const at::Tensor got = packed->forward(ids), expected = floats->forward(ids);
    // Rounding a block of 32 normal activations to 8 bits errs by about 0.6 % of their size; about twenty products follow
    // each other here, and independent errors of that size add up to 2.7 %.
    const double error = ((got - expected).norm() / expected.norm()).item<double>();
    EXPECT_LT(error, 0.05) << info(type).name;
    EXPECT_GT(error, 1e-6) << info(type).name << ": not through the integer kernels";
  }
}

// Types without an integer path meet float activations, so nothing but the order of sums may differ.
TEST_P(PackedFamily, WiringIsThatOfTheFloatDecoder) {
  const at::NoGradGuard no_grad;
  const auto original = test::tiny_decoder(wide_config(GetParam()));
  const Checkpoint checkpoint = packed_checkpoint(*original, Type::kF16);
  std::map<std::string, QuantizedTensor> matrices;
  for (const Tensor& tensor : checkpoint.tensors)
    if (tensor.shape.size() == 2) matrices.emplace(tensor.name, read_packed(tensor));
  Decoder packed(checkpoint.config, std::move(matrices));
  for (const auto& name : packed.parameter_names()) load_parameter(packed, checkpoint, name);
  const at::Tensor ids = test::random_ids(original->config(), 2, 9);
  EXPECT_LE(test::max_difference(packed.forward(ids), load_decoder(checkpoint)->forward(ids)), 2e-4);
  std::vector<std::string> seen;
  packed.observer = [&](const std::string& name, const at::Tensor&) { seen.push_back(name + ".weight"); };
  packed.layer(0, at::randn({1, 2, 64}));
  EXPECT_EQ(seen, packed.linear_weights(0));
}

// On the reference, where one vector is multiplied as many are: elsewhere floats are added in another order, and a last digit of difference
// moves an activation to the next of 255 levels more often.
TEST_P(PackedFamily, CacheDecodeEqualsFullForward) {
  const at::NoGradGuard no_grad;
  const std::string variant = kernel_variant();
  select_kernel_variant("reference");
  const auto original = test::tiny_decoder(wide_config(GetParam()));
  const auto packed = load_decoder_packed(packed_checkpoint(*original, Type::kQ8_0));
  const at::Tensor ids = test::random_ids(original->config(), 1, 8), full = packed->forward(ids);
  KvCache cache;
  for (std::int64_t t = 0; t < 8; ++t) {
    const at::Tensor got = packed->forward(ids.narrow(1, t, 1), &cache);
    // A last digit of difference in a score can move an activation to the next of 255 levels.
    EXPECT_LE(((got - full.narrow(1, t, 1)).norm() / full.narrow(1, t, 1).norm()).item<double>(), 0.01) << t;
  }
  select_kernel_variant(variant);
}

INSTANTIATE_TEST_SUITE_P(All, PackedFamily,
                         testing::Values(Family::kLlama, Family::kQwen2, Family::kQwen3, Family::kPhi3, Family::kGemma2,
                                         Family::kGemma3),
                         [](const auto& family) { return std::string(attar::info(family.param).model_type); });

TEST(Packed, LinearIsTheKernelsMatvec) {
  const at::NoGradGuard no_grad;
  at::manual_seed(4);
  const at::Tensor w = at::randn({7, 64}), x = at::randn({2, 3, 64});
  const std::vector<float> values(w.data_ptr<float>(), w.data_ptr<float>() + w.numel());
  const QuantizedTensor W = read_packed(make_tensor("w", {7, 64}, values, Type::kQ4_0));
  const at::Tensor y = packed_linear(W, x);
  ASSERT_EQ(y.sizes(), at::IntArrayRef({2, 3, 7}));
  std::vector<float> expected(7);
  matvec(W.type, W.bytes, 7, std::span<const float>(x.data_ptr<float>() + 4 * 64, 64), expected);
  for (std::int64_t i = 0; i < 7; ++i) EXPECT_NEAR(y[1][1][i].item<float>(), expected[static_cast<std::size_t>(i)], 1e-5);
}

TEST(Packed, HasNoGradientsAndSaysSo) {
  const auto original = test::tiny_decoder(wide_config(Family::kLlama));
  const auto packed = load_decoder_packed(packed_checkpoint(*original, Type::kQ8_0));
  EXPECT_THROW(packed->forward(test::random_ids(original->config(), 1, 3)), Error);
  EXPECT_THROW(packed->parameter("lm_head.weight"), Error);
  EXPECT_FALSE(packed->has_parameter("lm_head.weight"));
}

}  // namespace
}  // namespace attar
