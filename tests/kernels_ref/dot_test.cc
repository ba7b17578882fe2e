// Dot products: integer sums against 64-bit arithmetic on codes, results against products of decoded floats.
#include <cmath>
#include <cstring>

#include "base/half.h"
#include "base/random.h"
#include "kernels_ref/blocks.h"
#include "kernels_ref/dot.h"
#include "kernels_ref/multiply.h"
#include "tests/kernels_ref/gridded_types.h"
#include "tests/support.h"

namespace attar {
namespace {

using test::gridded_types;
using test::TypeName;

std::vector<float> uniform(std::size_t count, std::uint64_t seed) {
  Random random(seed);
  std::vector<float> values(count);
  for (auto& v : values) v = static_cast<float>(random.uniform() * 2 - 1);
  return values;
}

Bytes encoded(Type type, const std::vector<float>& weights) {
  Bytes row(row_bytes(type, weights.size()));
  encode_row(type, weights, {}, row);
  return row;
}

double exact_dot(Type type, ByteView row, const std::vector<float>& x) {
  std::vector<float> w(x.size());
  decode_row(type, row, w);
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += static_cast<double>(w[i]) * x[i];
  return sum;
}

class Dot : public ::testing::TestWithParam<Type> {};

// Random and extreme blocks: the sums of the kernel are those of the codes in 64 bits. The grid tells sc and m: with d and
// dmin set to 1 the scale of a group is sc and its offset -m.
TEST_P(Dot, IntegerSumsAreExact) {
  const TypeInfo& entry = info(GetParam());
  if (activation_type(entry.type) == Type::kF32) return;  // no integers
  const auto n = static_cast<std::size_t>(entry.block_weights);
  const auto group = static_cast<std::size_t>(entry.grid.group);
  // Where d and the second f16 (dmin or m; none: same place) lie in the block.
  std::size_t d = 0, second = 0;
  switch (entry.type) {
    case Type::kQ2_K: d = 80, second = 82; break;
    case Type::kQ3_K: d = second = 108; break;
    case Type::kQ6_K: d = second = 208; break;
    case Type::kQ4_1: case Type::kQ5_1: case Type::kQ4_K: case Type::kQ5_K: second = 2; break;
    default: break;
  }
  // Q4_1 and Q5_1 store +m: one, so the kernel's minimum is counted once per weight.
  const bool plain_offset = entry.type == Type::kQ4_1 || entry.type == Type::kQ5_1;
  Random random(21);
  for (int trial = 0; trial < 300; ++trial) {
    Bytes block(static_cast<std::size_t>(entry.block_bytes));
    for (auto& byte : block) byte = trial == 0 ? std::byte{0} : trial == 1 ? std::byte{255} : static_cast<std::byte>(random.below(256));
    const std::uint16_t one = f16_from_f32(1.0f), minus_one = f16_from_f32(-1.0f);
    std::memcpy(block.data() + second, plain_offset ? &minus_one : &one, 2);
    std::memcpy(block.data() + d, &one, 2);
    std::vector<std::int8_t> q(n);
    for (auto& v : q) v = trial < 4 ? (trial % 2 != 0 ? -127 : 127) : static_cast<std::int8_t>(static_cast<int>(random.below(255)) - 127);
    const RowGrid grid = read_grid(entry.type, block, n);
    std::vector<std::uint8_t> codes(n);
    read_codes(entry.type, block, codes);
    std::int64_t product = 0, minimum = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const auto level_value = static_cast<std::int64_t>(level(entry.grid, codes[i]));
      product += static_cast<std::int64_t>(grid.scale[i / group]) * level_value * q[i];
      minimum += static_cast<std::int64_t>(-grid.offset[i / group]) * q[i];
    }
    const BlockSums sums = block_sums(entry.type, block, q);
    ASSERT_EQ(sums.product, product);
    ASSERT_EQ(sums.minimum, minimum);
  }
}

TEST_P(Dot, FloatActivations) {
  const Type type = GetParam();
  const std::size_t n = info(type).block_weights == 32 ? 288 : 768;
  const std::vector<float> x = uniform(n, 2);
  const Bytes row = encoded(type, uniform(n, 1));
  EXPECT_NEAR(dot_row(type, row, x), exact_dot(type, row, x), 1e-5 * static_cast<double>(n));
}

// With activations that are on their own 8-bit grid, only float rounding separates the two ways.
TEST_P(Dot, IntegerPathEqualsDecodedFloats) {
  const Type type = GetParam();
  const std::size_t n = info(type).block_weights == 32 ? 288 : 768;
  const Type activation = activation_type(type);
  Bytes packed(row_bytes(activation, n));
  encode_activations(activation, uniform(n, 2), packed);
  std::vector<float> x(n);
  decode_row(activation, packed, x);
  const Bytes row = encoded(type, uniform(n, 1));
  const double exact = exact_dot(type, row, x);
  EXPECT_NEAR(dot_row_quantized(type, row, packed, n), exact, 1e-5 * (1 + std::fabs(exact)) * std::sqrt(n));
}

INSTANTIATE_TEST_SUITE_P(All, Dot, ::testing::ValuesIn(gridded_types()), TypeName());

TEST(DotFloat, TypesWithoutIntegerPath) {
  Random random(3);
  for (const Type type : {Type::kF32, Type::kF16, Type::kBF16, Type::kTQ2_0, Type::kIQ3_S, Type::kMXFP4}) {
    constexpr std::size_t kWeights = 512;
    EXPECT_EQ(activation_type(type), Type::kF32);
    Bytes row(row_bytes(type, kWeights));
    for (auto& byte : row) byte = static_cast<std::byte>(random.below(60));
    const std::vector<float> x = uniform(kWeights, 9);
    std::vector<float> w(kWeights), y(1);
    decode_row(type, row, w);
    double exact = 0, magnitude = 0;
    for (std::size_t i = 0; i < kWeights; ++i) {
      exact += static_cast<double>(w[i]) * x[i];
      magnitude += std::fabs(static_cast<double>(w[i]) * x[i]);
    }
    matvec(type, row, 1, x, y);
    EXPECT_NEAR(y[0], exact, 1e-6 * magnitude) << info(type).name;
  }
}

TEST(Activations, RoundToNearestEighthBit) {
  const std::vector<float> x = uniform(512, 5);
  for (const Type type : {Type::kQ8_0, Type::kQ8_K}) {
    Bytes packed(row_bytes(type, x.size()));
    encode_activations(type, x, packed);
    std::vector<float> y(x.size());
    decode_row(type, packed, y);
    for (std::size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(y[i], x[i], 0.5f / 127 * 1.02f) << i;
  }
}

// By gguf-py 0.19's quantize: the values are divided by d as it was before it became f16. With the f16, codes 114 and 72 would be 115 and 73.
TEST(Activations, Q8_0IsWhatGgmlMakesOfThem) {
  std::vector<float> x(32);
  for (std::uint64_t i = 0; i < 32; ++i) x[i] = (static_cast<float>(i * 2654435761u % 65536) / 32768.0f - 1.0f) * 1.007f;
  Bytes packed(row_bytes(Type::kQ8_0, x.size()));
  encode_activations(Type::kQ8_0, x, packed);
  const auto& block = block_at<BlockQ8_0>(packed.data(), 0);
  EXPECT_EQ(block.d, 0x200f);
  const std::int8_t expected[32] = {-127, -6, 114, -19, 102, -31, 89, -44, 77, -56, 64, -69, 52, -81, 39, -94,
                                    27, -106, 14, -119, 2, 123, -11, 110, -23, 98, -36, 85, -48, 72, -61, 60};
  for (int i = 0; i < 32; ++i) EXPECT_EQ(block.qs[i], expected[i]) << i;
}

TEST(Activations, SumsOfQ8K) {
  const std::vector<float> x = uniform(256, 6);
  Bytes packed(row_bytes(Type::kQ8_K, x.size()));
  encode_activations(Type::kQ8_K, x, packed);
  const auto& block = block_at<BlockQ8_K>(packed.data(), 0);
  for (int g = 0; g < 16; ++g) {
    int sum = 0;
    for (int i = 16 * g; i < 16 * (g + 1); ++i) sum += block.qs[i];
    EXPECT_EQ(block.bsums[g], sum);
  }
}

TEST(Activations, ZeroTinyAndBad) {
  for (const Type type : {Type::kQ8_0, Type::kQ8_K}) {
    Bytes packed(row_bytes(type, 256));
    std::vector<float> x(256, 0.0f), y(256);
    encode_activations(type, x, packed);
    decode_row(type, packed, y);
    EXPECT_EQ(y, x);
    x.assign(256, 1e-42f);
    encode_activations(type, x, packed);
    decode_row(type, packed, y);
    for (const float v : y) EXPECT_TRUE(std::isfinite(v));
    x[9] = std::nanf("");
    EXPECT_THROW(encode_activations(type, x, packed), Error);
    x[9] = HUGE_VALF;
    EXPECT_THROW(encode_activations(type, x, packed), Error);
  }
  Bytes packed(row_bytes(Type::kQ8_0, 32));
  EXPECT_THROW(encode_activations(Type::kQ8_0, std::vector<float>(32, 1e9f), packed), Error);
  EXPECT_THROW(encode_activations(Type::kQ4_0, std::vector<float>(32, 1.0f), packed), Error);
}

}  // namespace
}  // namespace attar
