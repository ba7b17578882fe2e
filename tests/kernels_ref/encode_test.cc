// The encoders: error against ggml's own, edge values, bad input.
#include <cmath>
#include <limits>

#include "base/half.h"
#include "base/random.h"
#include "kernels_ref/multiply.h"
#include "kernels_ref/searches.h"
#include "kernels_ref/types.h"
#include "tests/kernels_ref/golden.h"
#include "tests/kernels_ref/gridded_types.h"
#include "tests/support.h"

namespace attar {
namespace {

using test::gridded_types;
using test::TypeName;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> coded(Type type, const std::vector<float>& weights, const std::vector<float>& importance = {}) {
  Bytes row(row_bytes(type, weights.size()));
  encode_row(type, weights, importance, row);
  std::vector<float> decoded(weights.size());
  decode_row(type, row, decoded);
  return decoded;
}

double squared_error(const std::vector<float>& a, const std::vector<float>& b, const std::vector<float>& w = {}) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    sum += (w.empty() ? 1.0 : w[i]) * std::pow(static_cast<double>(a[i]) - b[i], 2);
  return sum;
}

std::vector<float> gaussian(std::size_t count, float sigma, std::uint64_t seed) {
  Random random(seed);
  std::vector<float> values(count);
  for (auto& v : values)
    v = sigma * static_cast<float>(std::sqrt(-2 * std::log(1 - random.uniform())) * std::cos(6.283185307 * random.uniform()));
  return values;
}

TEST(Encode, ErrorNotAboveThatOfGgml) {
  const Bytes file = test::golden("encode.bin");
  ByteReader reader(file, "encode.bin");
  const auto rows = reader.read<std::uint32_t>("rows"), columns = reader.read<std::uint32_t>("columns");
  std::vector<std::vector<float>> weights;
  for (std::uint32_t r = 0; r < rows; ++r) weights.push_back(test::read_floats(reader, columns));
  const std::vector<float> importance = test::read_floats(reader, columns);
  const auto count = reader.read<std::uint32_t>("count");
  ASSERT_EQ(count, 12u);
  for (std::uint32_t t = 0; t < count; ++t) {
    const Type type = *type_from_ggml_id(reader.read<std::uint32_t>("id"));
    const auto plain = reader.read<double>("plain"), weighted = reader.read<double>("weighted");
    double our_plain = 0, our_weighted = 0;
    for (const auto& row : weights) {
      our_plain += squared_error(row, coded(type, row));
      our_weighted += squared_error(row, coded(type, row, importance), importance);
    }
    EXPECT_LT(our_plain, plain) << info(type).name;
    EXPECT_LT(our_weighted, weighted) << info(type).name;
  }
}

class Encode : public ::testing::TestWithParam<Type> {
 protected:
  std::size_t weights() const { return static_cast<std::size_t>(info(GetParam()).block_weights); }
};

TEST_P(Encode, ZeroStaysZero) {
  for (const float v : coded(GetParam(), std::vector<float>(2 * weights(), 0.0f))) EXPECT_EQ(v, 0.0f);
  for (const float v : coded(GetParam(), std::vector<float>(weights(), 1e-40f))) EXPECT_EQ(v, 0.0f);
  for (const float v : coded(GetParam(), std::vector<float>(weights(), -1e-12f))) EXPECT_EQ(v, 0.0f);
}

TEST_P(Encode, ConstantBlocks) {
  for (const float value : {1.0f, -1.0f, 0.37f, -0.21f, 300.0f}) {
    // A constant needs one level only: what remains is rounding of scales, f16 and the integers of super-blocks.
    for (const float v : coded(GetParam(), std::vector<float>(weights(), value)))
      EXPECT_NEAR(v, value, 6e-4f * std::fabs(value));
  }
}

// Scales near the ends of f16, and blocks that mix huge and tiny: everything decoded is finite and no worse than zero.
TEST_P(Encode, ExtremeScalesStayFinite) {
  const Type type = GetParam();
  for (const float magnitude : {1e-8f, 5e-8f, 1e-7f, 1e-6f, 1e-4f, 1.0f, 1e3f, 1e4f}) {
    std::vector<float> x = gaussian(4 * weights(), magnitude, 3);
    const auto check = [&] {
      const std::vector<float> y = coded(type, x);
      for (const float v : y) ASSERT_TRUE(std::isfinite(v)) << magnitude;
      EXPECT_LE(squared_error(x, y), squared_error(x, std::vector<float>(x.size()))) << magnitude;
    };
    check();
    x[5] = 60000.0f;
    x[weights() + 7] = -60000.0f;
    check();
    x[0] = 1e-42f;
    check();
  }
}

TEST_P(Encode, OneWeightAmongZerosIsKept) {
  const GridInfo& grid = info(GetParam()).grid;
  // Types with a zero level keep zeros; an offset cancels up to the rounding of f16; the codebook's smallest level is 1.
  const float rest = grid.codebook != nullptr ? 0.005f : grid.has_offset ? 5e-4f : 0.0f;
  for (std::size_t place = 0; place < weights(); place += 13) {
    for (const float value : {0.5f, -0.5f}) {
      std::vector<float> x(weights(), 0.0f);
      x[place] = value;
      const std::vector<float> y = coded(GetParam(), x);
      EXPECT_NEAR(y[place], value, 2e-3f);
      float most = 0;
      for (std::size_t i = 0; i < x.size(); ++i) most = std::max(most, i == place ? 0.0f : std::fabs(y[i]));
      EXPECT_LE(most, rest);
    }
  }
}

// Weights on a grid of the type: encoding finds that grid again, or one nearly as good.
TEST_P(Encode, SecondEncodingIsNotWorse) {
  const std::vector<float> x = gaussian(4 * weights(), 0.05f, 11);
  const std::vector<float> once = coded(GetParam(), x), twice = coded(GetParam(), once);
  EXPECT_LE(squared_error(once, twice), 0.05 * squared_error(x, once));
}

TEST_P(Encode, ImportanceMovesTheErrorAway) {
  const std::size_t n = 4 * weights();
  const std::vector<float> x = gaussian(n, 0.05f, 5);
  std::vector<float> importance(n, 1.0f);
  for (std::size_t i = 0; i < n; i += 4) importance[i] = 50.0f;
  const std::vector<float> plain = coded(GetParam(), x), weighted = coded(GetParam(), x, importance);
  EXPECT_LT(squared_error(x, weighted, importance), squared_error(x, plain, importance));
}

TEST_P(Encode, ImportanceOfAnyMagnitude) {
  const std::size_t n = 2 * weights();
  const std::vector<float> x = gaussian(n, 0.05f, 6);
  const std::vector<float> plain = coded(GetParam(), x);
  for (const float magnitude : {0.0f, 1e-38f, 1e-20f, 1e20f, 3e38f}) {
    const std::vector<float> y = coded(GetParam(), x, std::vector<float>(n, magnitude));
    EXPECT_LE(squared_error(x, y), 1.001 * squared_error(x, plain)) << magnitude;
  }
  // Only one weight matters: it is met closely, the rest is not left to chance.
  std::vector<float> one(n, 0.0f);
  one[3] = 7.0f;
  const std::vector<float> y = coded(GetParam(), x, one);
  EXPECT_NEAR(y[3], x[3], 3e-4f);
  EXPECT_LE(squared_error(x, y), squared_error(x, std::vector<float>(n)));
}

TEST_P(Encode, SameBytesEveryTime) {
  const std::vector<float> x = gaussian(8 * weights(), 0.02f, 12);
  Bytes first(row_bytes(GetParam(), x.size())), second(first.size(), std::byte{0xff});
  encode_row(GetParam(), x, {}, first);
  encode_row(GetParam(), x, {}, second);
  EXPECT_EQ(first, second);
}

// The searches on vectors find what the plain one finds, bit for bit: with importance and without, whole batches and the rest.
TEST_P(Encode, SameBytesOnEveryVariant) {
  const std::size_t n = info(GetParam()).grid.whole_row ? 96 : 35 * weights();
  std::vector<float> x = gaussian(n, 0.02f, 14), importance = gaussian(n, 1.0f, 15);
  for (float& v : importance) v *= v;
  if (!info(GetParam()).grid.whole_row) {
    std::fill_n(x.begin(), weights(), 0.0f);
    std::fill_n(x.begin() + static_cast<std::ptrdiff_t>(weights()), weights(), 0.25f);
    for (std::size_t i = 2 * weights(); i < 3 * weights(); ++i) x[i] *= 1e-6f;
    for (std::size_t i = 3 * weights(); i < 4 * weights(); ++i) x[i] *= 1e4f;
    x[4 * weights()] = -900.0f;
  }
  const std::string usual = kernel_variant();
  Bytes expected(row_bytes(GetParam(), n)), row(expected.size());
  for (const std::vector<float>& w : {std::vector<float>{}, importance}) {
    select_kernel_variant("reference");
    encode_row(GetParam(), x, w, expected);
    for (const std::string& variant : kernel_variants()) {
      select_kernel_variant(variant);
      encode_row(GetParam(), x, w, row);
      EXPECT_EQ(row, expected) << variant;
    }
  }
  if (!group_format(GetParam())) {  // and without the instructions of any
    SearchTask task{SearchKind::kScale, x.data(), nullptr, 32, 1, -8, 7, false, 0, 0};
    BlockScales plain[kSearchGroups], vectors[kSearchGroups];
    std::uint8_t plain_codes[32 * kSearchGroups], vector_codes[32 * kSearchGroups];
    search_reference(task, plain, plain_codes), search_portable(task, vectors, vector_codes);
    for (int b = 0; b < kSearchGroups; ++b) EXPECT_EQ(plain[b].d, vectors[b].d);
    EXPECT_TRUE(std::equal(plain_codes, plain_codes + 32 * kSearchGroups, vector_codes));
  }
  select_kernel_variant(usual);
}

// Blocks do not depend on their neighbours.
TEST_P(Encode, RowIsItsBlocks) {
  if (info(GetParam()).grid.whole_row) return;  // it is one block
  const std::vector<float> x = gaussian(3 * weights(), 0.02f, 13);
  const std::size_t bytes = row_bytes(GetParam(), weights());
  Bytes row(3 * bytes), block(bytes);
  encode_row(GetParam(), x, {}, row);
  encode_row(GetParam(), std::span(x).subspan(weights(), weights()), {}, block);
  EXPECT_TRUE(std::equal(block.begin(), block.end(), row.begin() + static_cast<std::ptrdiff_t>(bytes)));
}

TEST_P(Encode, RefusesWhatIsNotANumber) {
  const std::size_t n = weights();
  Bytes row(row_bytes(GetParam(), n));
  for (const float bad : {std::nanf(""), kInfinity, -kInfinity, 3e38f}) {
    std::vector<float> x(n, 0.1f);
    x[n - 1] = bad;
    EXPECT_THROW(encode_row(GetParam(), x, {}, row), Error) << bad;
  }
  const std::vector<float> x(n, 0.1f);
  for (const float bad : {std::nanf(""), kInfinity, -1.0f}) {
    std::vector<float> importance(n, 1.0f);
    importance[0] = bad;
    EXPECT_THROW(encode_row(GetParam(), x, importance, row), Error) << bad;
  }
  EXPECT_THROW(encode_row(GetParam(), x, std::vector<float>(n - 1, 1.0f), row), Error);
  EXPECT_THROW(encode_row(GetParam(), x, {}, std::span(row).first(row.size() - 1)), Error);
}

INSTANTIATE_TEST_SUITE_P(All, Encode, ::testing::ValuesIn(gridded_types()), TypeName());

TEST(EncodePlain, RoundsAndRefuses) {
  const std::vector<float> x = {0.1f, -1.0f, 65504.0f, 1e-8f};
  EXPECT_EQ(coded(Type::kF32, x), x);
  EXPECT_EQ(coded(Type::kF16, x)[0], round_to_f16(0.1f));
  EXPECT_EQ(coded(Type::kBF16, x)[1], -1.0f);
  EXPECT_THROW(coded(Type::kF16, {70000.0f}), Error);
  EXPECT_THROW(coded(Type::kBF16, {3.4e38f}), Error);
  EXPECT_THROW(coded(Type::kF32, {std::nanf("")}), Error);
}

TEST(EncodePlain, DecodeOnlyTypesSaySo) {
  const std::vector<float> x(256, 0.1f);
  for (const Type type : {Type::kIQ2_XXS, Type::kTQ1_0, Type::kMXFP4, Type::kQ8_K, Type::kI8, Type::kF64}) {
    Bytes row(row_bytes(type, x.size()));
    EXPECT_THROW(encode_row(type, x, {}, row), Error) << info(type).name;
  }
}

}  // namespace
}  // namespace attar
