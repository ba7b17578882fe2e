// Folders in MLX's layout: by hand, there and back, and attacked.
#include "convert/mlx.h"

#include <cmath>

#include "base/files.h"
#include "base/half.h"
#include "convert/json.h"
#include "convert/safetensors.h"
#include "tests/convert/bytes.h"
#include "tests/convert/synthetic.h"

namespace attar {
namespace {

const nlohmann::json kFour = {{"group_size", 32}, {"bits", 4}, {"mode", "affine"}};

template <class Number>
Tensor stored(const std::string& name, Type type, Shape shape, const std::vector<Number>& values) {
  const ByteView bytes = std::as_bytes(std::span(values));
  return make_tensor(name, QuantizedTensor{type, std::move(shape), Bytes(bytes.begin(), bytes.end())});
}
Tensor words(Shape shape, const std::vector<std::uint32_t>& values) { return stored("m.weight", Type::kU32, std::move(shape), values); }
Tensor halves(const std::string& name, Shape shape, const std::vector<float>& values) {
  return make_tensor(name, std::move(shape), values, Type::kF16);
}

const Tensor kWords = words({1, 4}, {0x76543210u, 0xfedcba98u, 0u, 0xffffffffu});
const Tensor kScales = halves("m.scales", {1, 1}, {0.5f}), kBiases = halves("m.biases", {1, 1}, {-1.0f});

std::string refusal(std::vector<Tensor> tensors, const nlohmann::json& settings) {
  return test::error_of([&] {
    for (const Tensor& tensor : from_mlx(std::move(tensors), settings, "model")) read_packed(tensor);
  });
}

// "For 4-bit quantization we fit 8 elements in an unsigned 32 bit integer where the 1st element occupies the 4 least significant
// bits, the 2nd bits 4-7 etc." (mlx.core.quantize, python/src/ops.cpp, commit 846d176)
TEST(Mlx, FourBitsByHand) {
  const std::vector<Tensor> tensors = from_mlx({kScales, kWords, kBiases}, kFour, "model");
  ASSERT_EQ(tensors.size(), 1u);
  EXPECT_STREQ(info(tensors[0].type).name, "affine4_g32");
  EXPECT_EQ(tensors[0].shape, (Shape{1, 32}));
  const std::vector<float> w = read_floats(tensors[0]);
  for (std::size_t i = 0; i < 32; ++i) {
    const float code = i < 16 ? static_cast<float>(i) : i < 24 ? 0.0f : 15.0f;
    EXPECT_EQ(w[i], 0.5f * code - 1.0f) << i;
  }
}

// Eight codes of three bits in three bytes, as quantize<T, U> of mlx/backend/cpu/quantized.cpp writes them: 0 1 .. 7 are 88 c6 fa.
TEST(Mlx, ThreeBitsByHand) {
  const Tensor packed = words({2, 3}, {0x88fac688u, 0xc688fac6u, 0xfac688fau, 0u, 0u, 0xe0000000u});
  const auto tensors = from_mlx({packed, halves("m.scales", {2, 1}, {2, -4}), halves("m.biases", {2, 1}, {-8, 0.25f})},
                                {{"group_size", 32}, {"bits", 3}}, "model");
  const std::vector<float> w = read_floats(tensors.at(0));
  for (std::size_t i = 0; i < 32; ++i) {
    EXPECT_EQ(w[i], 2.0f * static_cast<float>(i % 8) - 8.0f) << i;
    EXPECT_EQ(w[32 + i], i == 31 ? -27.75f : 0.25f) << i;
  }
}

TEST(Mlx, ScalesOfBf16) {
  const auto bf16 = [](const std::string& name, float value) {
    return stored<std::uint16_t>(name, Type::kBF16, {1, 1}, {bf16_from_f32(value)});
  };
  const auto w = read_floats(from_mlx({kWords, bf16("m.scales", 0x1p-17f), bf16("m.biases", -3.0f)}, kFour, "model").at(0));
  EXPECT_EQ(w[15], 15 * 0x1p-17f - 3.0f);
  EXPECT_NE(refusal({kWords, bf16("m.scales", 1e6f), kBiases}, kFour).find("m.scales' holds 999424 in row 0, group 0"), std::string::npos);
}

TEST(Mlx, WhatContradictsIsRefused) {
  const auto says = [](const std::string& message, const std::string& part) {
    EXPECT_NE(message.find(part), std::string::npos) << "'" << message << "' lacks '" << part << "'";
  };
  says(refusal({kWords, kScales, kBiases}, nullptr), "no 'quantization' object");
  says(refusal({kWords, kScales, kBiases}, 4), "no 'quantization' object");
  says(refusal({kWords, kScales, kBiases}, {{"bits", 4}}), "'group_size' is missing");
  says(refusal({kWords, kScales, kBiases}, {{"group_size", 32}}), "'bits' is missing");
  says(refusal({kWords, kScales, kBiases}, {{"group_size", 32}, {"bits", 7}}), "7 bits in groups of 32 are not a format of MLX");
  says(refusal({kWords, kScales, kBiases}, {{"group_size", 48}, {"bits", 4}}), "not a format of MLX");
  says(refusal({kWords, kScales, kBiases}, {{"group_size", 0}, {"bits", 4}}), "'group_size' is 0; expected 32 to 128");
  says(refusal({kWords, kScales, kBiases}, {{"group_size", "32"}, {"bits", 4}}), "must be a whole number");
  says(refusal({kWords, kScales, kBiases}, {{"group_size", 32}, {"bits", 4}, {"mode", "mxfp4"}}), "mode 'mxfp4' is not read here");
  says(refusal({kWords, kScales, kBiases}, {{"group_size", 32}, {"bits", 4}, {"m", false}}), "quantization: m: expected a JSON object");
  says(refusal({kWords, kScales, kBiases}, {{"group_size", 32}, {"bits", 4}, {"m", {{"bits", 2}}}}), "'group_size' is missing");
  says(refusal({kWords, kScales, kBiases}, {{"group_size", 128}, {"bits", 4}}), "4 words of 32 bits in a row, which do not divide");
  says(refusal({kWords, kScales, kBiases}, {{"group_size", 32}, {"bits", 2}}), "'m.scales' has shape (1, 1), expected (1, 2)");
  says(refusal({kWords, kScales}, kFour), "'m.biases' is missing");
  says(refusal({kWords, kBiases}, kFour), "'m.scales' is missing");
  says(refusal({kWords, kScales, halves("m.biases", {1}, {0})}, kFour), "'m.biases' has shape (1), expected (1, 1)");
  says(refusal({kWords, make_tensor("m.scales", {1, 1}, {1}), kBiases}, kFour), "'m.scales' holds f32");
  says(refusal({words({4}, {0, 0, 0, 0}), kScales, kBiases}, kFour), "has shape (4); packed weights have two dimensions");
  const Tensor nan = stored<std::uint16_t>("m.scales", Type::kF16, {1, 1}, {0x7e01});
  says(refusal({kWords, nan, kBiases}, kFour), "'m.scales' holds nan in row 0, group 0");
  const Tensor infinite = stored<std::uint16_t>("m.biases", Type::kF16, {1, 1}, {0xfc00});
  says(refusal({kWords, kScales, infinite}, kFour), "'m.biases' holds -inf");
  // More columns than 64 bits count, in no bytes at all.
  says(refusal({words({0, std::int64_t{1} << 59}, {}), halves("m.scales", {0, 1}, {}), kBiases}, kFour), "does not fit 64 bits");
}

class MlxFolder : public ::testing::TestWithParam<const char*> {
 protected:
  test::TempFolder folder_;
};

TEST_P(MlxFolder, IsReadBackAsTheSameFloats) {
  const Checkpoint before = test::make_checkpoint(test::base_config("llama"), *type_from_name(GetParam()));
  write_hf(before, folder_ / "packed");
  const Checkpoint after = open_checkpoint(folder_ / "packed");
  for (const Tensor& tensor : before.tensors) {
    EXPECT_EQ(read_floats(after.at(tensor.name)), read_floats(tensor)) << tensor.name;
    EXPECT_EQ(info(after.at(tensor.name).type).quantized, tensor.shape.size() > 1) << tensor.name;
    EXPECT_TRUE(tensor.shape.size() < 2 || after.at(tensor.name).type == type_in_folder(tensor)) << tensor.name;
  }
  EXPECT_EQ(after.at("model.norm.weight").type, Type::kF16);
  // What was read is written as it is.
  write_hf(after, folder_ / "again");
  for (const char* file : {"model.safetensors", "config.json"})
    EXPECT_EQ(read_text_file(folder_ / "packed" / file), read_text_file(folder_ / "again" / file)) << file;
  HfOptions plain;
  plain.type = Type::kF32;
  write_hf(after, folder_ / "plain", plain);
  EXPECT_FALSE(parse_json(read_text_file(folder_ / "plain" / "config.json"), "config").contains("quantization"));
  EXPECT_EQ(read_floats(open_checkpoint(folder_ / "plain").at("lm_head.weight")), read_floats(before.at("lm_head.weight")));
}

INSTANTIATE_TEST_SUITE_P(Types, MlxFolder,
                         ::testing::Values("int2_g32", "int3_g32", "int8_g32", "int4_row", "affine2_g32", "affine3_row", "affine4_g32",
                                           "affine5_g32", "affine6_g32"),
                         [](const auto& tested) { return tested.param; });

TEST(MlxConfig, NamesWhatDiffers) {
  Checkpoint model = test::make_checkpoint(test::base_config("llama"), *type_from_name("int3_g32"));
  for (Tensor& tensor : model.tensors) {
    if (tensor.name == "lm_head.weight") tensor = make_tensor(tensor.name, tensor.shape, read_floats(tensor), *type_from_name("affine8_row"));
    if (tensor.name == "model.layers.1.mlp.up_proj.weight") tensor = make_tensor(tensor.name, tensor.shape, read_floats(tensor), Type::kF16);
  }
  const test::TempFolder folder;
  write_hf(model, folder / "m");
  const nlohmann::json config = parse_json(read_text_file(folder / "m" / "config.json"), "config.json");
  const nlohmann::json expected = {{"group_size", 32}, {"bits", 3}, {"mode", "affine"}, {"lm_head", {{"group_size", 64}, {"bits", 8}}}};
  EXPECT_EQ(config["quantization"], expected);
  EXPECT_EQ(config["quantization_config"], expected);
  EXPECT_EQ(config["torch_dtype"], "float16");
  const SafetensorsFile file = read_safetensors(folder / "m" / "model.safetensors");
  EXPECT_EQ(file.metadata.at("format"), "mlx");
  std::map<std::string, std::pair<Type, Shape>> tensors;
  for (const Tensor& tensor : file.tensors) tensors[tensor.name] = {tensor.type, tensor.shape};
  EXPECT_EQ(tensors.at("lm_head.weight"), std::pair(Type::kU32, Shape{300, 16}));
  EXPECT_EQ(tensors.at("lm_head.scales"), std::pair(Type::kF16, Shape{300, 1}));
  EXPECT_EQ(tensors.at("model.layers.0.mlp.down_proj.weight"), std::pair(Type::kU32, Shape{64, 9}));
  EXPECT_EQ(tensors.at("model.layers.0.mlp.down_proj.biases"), std::pair(Type::kF16, Shape{64, 3}));
  EXPECT_EQ(tensors.at("model.layers.1.mlp.up_proj.weight"), std::pair(Type::kF16, Shape{96, 64}));
  EXPECT_FALSE(tensors.contains("model.layers.1.mlp.up_proj.scales"));
  EXPECT_EQ(read_floats(open_checkpoint(folder / "m").at("lm_head.weight")), read_floats(model.at("lm_head.weight")));
}

TEST(MlxConfig, GgufHoldsThemDecodedOnly) {
  const Checkpoint model = test::make_checkpoint(test::base_config("llama"), *type_from_name("affine4_g32"));
  const test::TempFolder folder;
  const std::string message = test::error_of([&] { write_gguf(model, folder / "m.gguf"); });
  EXPECT_NE(message.find("is affine4_g32, which GGUF does not know; give f16"), std::string::npos) << message;
  EXPECT_FALSE(fs::exists(folder / "m.gguf"));
  GgufOptions options;
  options.type = Type::kF32;
  write_gguf(model, folder / "m.gguf", options);
  EXPECT_EQ(read_floats(open_checkpoint(folder / "m.gguf").at("lm_head.weight")), read_floats(model.at("lm_head.weight")));
}

}  // namespace
}  // namespace attar
