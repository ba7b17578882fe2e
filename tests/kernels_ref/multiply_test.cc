// Every variant of the products against 64-bit sums over decoded weights and decoded activations.
#include <cmath>
#include <cstring>

#include "base/half.h"
#include "base/random.h"
#include "base/threads.h"
#include "kernels_ref/dot.h"
#include "kernels_ref/multiply.h"
#include "tests/kernels_ref/gridded_types.h"
#include "tests/kernels_ref/with_variant.h"
#include "tests/support.h"

namespace attar {
namespace {

using test::WithVariant;

std::vector<Type> integer_types() {
  std::vector<Type> types;
  for (const Type type : test::gridded_types())
    if (default_rounding(type) != Rounding::kNone) types.push_back(type);
  return types;
}

// Blocks of any bits, but for scales of moderate size: products of the rest must still be numbers.
Bytes any_bits(Type type, std::size_t rows, std::size_t columns, Random& random) {
  Bytes bytes(rows * row_bytes(type, columns));
  for (auto& byte : bytes) byte = static_cast<std::byte>(random.below(256));
  const std::size_t stride = row_bytes(type, columns);
  for (std::size_t r = 0; r < rows; ++r) {
    const Span<std::byte> row(bytes.data() + r * stride, stride);
    std::vector<BlockScales> scales = read_scales(type, row, columns);
    for (BlockScales& s : scales) {
      s.d = round_to_f16(static_cast<float>(random.uniform() - 0.5));
      s.dmin = round_to_f16(static_cast<float>(random.uniform() - 0.5));
    }
    write_scales(type, scales, row);
  }
  return bytes;
}

std::vector<float> normal_like(std::size_t count, Random& random) {
  std::vector<float> x(count);
  for (auto& v : x) v = static_cast<float>(random.uniform() + random.uniform() + random.uniform() - 1.5);
  return x;
}

// A row as exact sums see it. `spare`: what a kernel may add and take away again, codes being unsigned inside.
struct Row {
  std::vector<float> w, spare;
};

Row decoded(Type type, ByteView bytes, std::size_t columns) {
  Row row{std::vector<float>(columns), std::vector<float>(columns)};
  decode_row(type, bytes, row.w);
  const RowGrid grid = read_grid(type, bytes, columns);
  for (std::size_t i = 0; i < columns; ++i) row.spare[i] = std::fabs(row.w[i]) + 128 * std::fabs(grid.scale[i / info(type).grid.group]);
  return row;
}

struct ExactProduct {
  double sum = 0, terms = 0;  // terms: what rounding errors are relative to
};
ExactProduct exact_product(const Row& row, const RoundedVector& v) {
  ExactProduct result;
  for (std::size_t i = 0; i < row.w.size(); ++i) {
    const double a = v.q != nullptr ? static_cast<double>(v.d[i / 32]) * v.q[i] : static_cast<double>(v.x[i]);
    result.sum += static_cast<double>(row.w[i]) * a;
    result.terms += static_cast<double>(row.spare[i]) * std::fabs(a);
  }
  return result;
}

class Multiply : public ::testing::TestWithParam<std::tuple<std::string, Type>> {};

TEST_P(Multiply, IsTheSumOfDecodedProducts) {
  const auto& [variant, type] = GetParam();
  const WithVariant with(variant);
  Random random(static_cast<std::uint64_t>(type) + 1);
  const std::size_t block = info(type).block_weights == 256 ? 256 : 32;
  for (const std::size_t blocks : {1, 3, 8, 13}) {
    const std::size_t columns = block * blocks, stride = row_bytes(type, columns);
    for (const std::size_t rows : {1, 3, 19}) {
      // Not where an allocator would put it, and nothing readable behind it.
      const Bytes bits = any_bits(type, rows, columns, random);
      const std::size_t shift = random.below(64);
      Bytes memory(shift + bits.size());
      std::copy(bits.begin(), bits.end(), memory.begin() + static_cast<std::ptrdiff_t>(shift));
      const Matrix W{type, ByteView(memory).subspan(shift), rows, columns};
      std::vector<Row> exact;
      for (std::size_t r = 0; r < rows; ++r) exact.push_back(decoded(type, W.bytes.subspan(r * stride, stride), columns));
      for (const Rounding rounding : {Rounding::kNone, default_rounding(type), Rounding::kRow}) {
        for (const std::size_t tokens : {1, 3, 11}) {
          const std::vector<float> values = normal_like(tokens * columns, random);
          Activations x;
          x.round(rounding, values, tokens);
          std::vector<float> Y(tokens * rows, std::nanf(""));
          multiply(W, x, Y);
          for (std::size_t t = 0; t < tokens; ++t) {
            const RoundedVector v = x.token(t);
            for (std::size_t r = 0; r < rows; ++r) {
              const auto [sum, terms] = exact_product(exact[r], v);
              ASSERT_NEAR(Y[t * rows + r], sum, 1e-6 * terms) << columns << " columns, row " << r << " of " << rows << ", token " << t
                                                              << " of " << tokens << ", rounding " << static_cast<int>(rounding);
            }
          }
        }
      }
    }
  }
}

// Codes, scales and activations that are as large as they can be: the integers of a block must not overflow.
TEST_P(Multiply, LargestIntegers) {
  const auto& [variant, type] = GetParam();
  const WithVariant with(variant);
  constexpr std::size_t kColumns = 512;
  for (const int bits : {0x00, 0x0f, 0x7f, 0x80, 0xf0, 0xff}) {
    Bytes row(row_bytes(type, kColumns), static_cast<std::byte>(bits));
    std::vector<BlockScales> scales = read_scales(type, row, kColumns);
    for (BlockScales& s : scales) s.d = s.dmin = 1;
    write_scales(type, scales, row);
    const Row exact = decoded(type, row, kColumns);
    for (const float value : {-1.0f, 1.0f}) {
      Activations x;
      x.round(default_rounding(type), std::vector<float>(kColumns, value), 1);
      float y = std::nanf("");
      multiply({type, row, 1, kColumns}, x, {&y, 1});
      const auto [sum, terms] = exact_product(exact, x.token(0));
      ASSERT_NEAR(y, sum, 1e-6 * terms) << "bytes " << bits << ", activations " << value;
    }
  }
}

TEST_P(Multiply, SameAtAnyThreadCount) {
  const auto& [variant, type] = GetParam();
  const WithVariant with(variant);
  Random random(7);
  constexpr std::size_t kRows = 333, kColumns = 512;
  const Bytes bytes = any_bits(type, kRows, kColumns, random);
  for (const std::size_t tokens : {1, 11}) {
    const std::vector<float> values = normal_like(tokens * kColumns, random);
    Activations x;
    x.round(default_rounding(type), values, tokens);
    std::vector<float> one(tokens * kRows), more(tokens * kRows);
    set_thread_count(1);
    multiply({type, bytes, kRows, kColumns}, x, one);
    for (const int threads : {2, 5}) {
      set_thread_count(threads);
      multiply({type, bytes, kRows, kColumns}, x, more);
      EXPECT_EQ(more, one) << threads << " threads";
    }
    set_thread_count(0);
  }
}

INSTANTIATE_TEST_SUITE_P(All, Multiply,
                         ::testing::Combine(::testing::ValuesIn(kernel_variants()), ::testing::ValuesIn(integer_types())),
                         [](const auto& p) { return std::get<0>(p.param) + "_" + attar::info(std::get<1>(p.param)).name; });

TEST(Variants, ChosenByName) {
  const std::vector<std::string> all = kernel_variants();
  ASSERT_FALSE(all.empty());
  EXPECT_EQ(all.back(), "reference");
  for (const std::string& name : all) {
    select_kernel_variant(name);
    EXPECT_EQ(kernel_variant(), name);
  }
  select_kernel_variant(all.front());
  try {
    select_kernel_variant("sse9");
    FAIL();
  } catch (const Error& error) {
    EXPECT_HAS(error.what(), "no variant 'sse9'");
    EXPECT_HAS(error.what(), "reference");
  }
}

TEST(MultiplyTogether, IsTheSameAsOneByOne) {
  Random random(5);
  constexpr std::size_t kColumns = 512;
  const std::vector<std::pair<Type, std::size_t>> matrices = {{Type::kQ4_0, 70}, {Type::kQ6_K, 3}, {Type::kF32, 5}, {Type::kQ4_0, 200}};
  for (const std::size_t tokens : {1, 3, 9}) {
    const std::vector<float> x = normal_like(tokens * kColumns, random);
    std::vector<Bytes> bytes;
    std::vector<std::vector<float>> alone, together;
    std::vector<Activations> rounded(matrices.size());
    std::vector<Product> products;
    for (std::size_t i = 0; i < matrices.size(); ++i) {
      const auto [type, rows] = matrices[i];
      bytes.emplace_back(rows * row_bytes(type, kColumns));
      for (std::size_t r = 0; r < rows; ++r)
        encode_row(type, normal_like(kColumns, random), {}, Span<std::byte>(bytes[i]).subspan(r * row_bytes(type, kColumns), row_bytes(type, kColumns)));
      rounded[i].round(default_rounding(type), x, tokens);
      alone.emplace_back(tokens * rows), together.emplace_back(tokens * rows, -1.0f);
      multiply({type, bytes[i], rows, kColumns}, rounded[i], alone[i]);
    }
    for (std::size_t i = 0; i < matrices.size(); ++i)
      products.push_back({{matrices[i].first, bytes[i], matrices[i].second, kColumns}, &rounded[i], together[i]});
    multiply(products);
    EXPECT_EQ(alone, together) << tokens << " tokens";
  }
}

TEST(MultiplyErrors, SizesAndRoundings) {
  const Bytes bytes(2 * row_bytes(Type::kQ4_0, 64));
  const std::vector<float> values(64, 1.0f);
  Activations x;
  x.round(Rounding::kQ8_0, values, 1);
  std::vector<float> y(2);
  multiply({Type::kQ4_0, bytes, 2, 64}, x, y);
  EXPECT_THROW(multiply({Type::kQ4_0, bytes, 3, 64}, x, y), Error);                      // bytes
  EXPECT_THROW(multiply({Type::kQ4_0, bytes, 2, 64}, x, Span<float>(y).first(1)), Error);  // results
  EXPECT_THROW(multiply({Type::kQ4_0, bytes, 4, 32}, x, y), Error);                      // columns
  EXPECT_THROW(multiply({Type::kQ4_0, bytes, 2, 63}, x, y), Error);                      // not whole blocks
  const Bytes k(row_bytes(Type::kQ4_K, 256));
  const std::vector<float> wide(256, 1.0f);
  x.round(Rounding::kQ8_0, wide, 1);
  try {
    multiply({Type::kQ4_K, k, 1, 256}, x, Span<float>(y).first(1));
    FAIL();
  } catch (const Error& error) {
    EXPECT_HAS(error.what(), "q4_k takes activations as floats, q8_k or int8 per row");
  }
  EXPECT_THROW(x.round(Rounding::kQ8_K, values, 1), Error);
  EXPECT_THROW(x.round(Rounding::kQ8_0, values, 3), Error);
}

}  // namespace
}  // namespace attar
