// The C interface: the same numbers as the C++ functions, and a code for everything that can be wrong.
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "base/random.h"
#include "kernels_ref/attar_kernels.h"
#include "tests/support.h"

namespace attar {
namespace {

std::vector<float> uniform(std::size_t count, std::uint64_t seed) {
  Random random(seed);
  std::vector<float> values(count);
  for (auto& v : values) v = static_cast<float>(random.uniform() * 2 - 1);
  return values;
}

TEST(CInterface, TypesAreDescribed) {
  ASSERT_GT(attar_type_count(), 30);
  for (int type = 0; type < attar_type_count(); ++type) {
    attar_type_info info;
    ASSERT_EQ(attar_type_describe(type, &info), ATTAR_OK);
    EXPECT_EQ(attar_type_by_name(info.name), type);
    if (info.ggml_id >= 0) EXPECT_EQ(attar_type_by_ggml_id(static_cast<std::uint32_t>(info.ggml_id)), type);
  }
  attar_type_info q4_k;
  ASSERT_EQ(attar_type_describe(attar_type_by_name("Q4_K"), &q4_k), ATTAR_OK);
  EXPECT_EQ(q4_k.ggml_id, 12);
  EXPECT_EQ(q4_k.block_weights, 256u);
  EXPECT_EQ(q4_k.block_bytes, 144u);
  EXPECT_TRUE(q4_k.encodable);
  EXPECT_EQ(q4_k.activations, ATTAR_ACTIVATIONS_Q8_K);
  EXPECT_EQ(attar_type_by_name("q9"), -1);
  EXPECT_EQ(attar_type_by_name(nullptr), -1);
  EXPECT_EQ(attar_type_by_ggml_id(9999), -1);
}

// Every type that can be encoded: rows there and back, and the product in every kind of activations it takes, against sums in
// double over what the interface decodes.
TEST(CInterface, RowsAndProducts) {
  for (int type = 0; type < attar_type_count(); ++type) {
    attar_type_info info;
    ASSERT_EQ(attar_type_describe(type, &info), ATTAR_OK);
    if (!info.encodable) continue;
    constexpr std::size_t kColumns = 512, kRows = 5, kTokens = 6;
    std::size_t row_bytes = 0;
    ASSERT_EQ(attar_row_bytes(type, kColumns, &row_bytes), ATTAR_OK);
    std::vector<unsigned char> W(kRows * row_bytes);
    std::vector<float> decoded(kRows * kColumns);
    for (std::size_t r = 0; r < kRows; ++r) {
      const std::vector<float> weights = uniform(kColumns, r + 1);
      ASSERT_EQ(attar_encode_row(type, weights.data(), nullptr, kColumns, W.data() + r * row_bytes, row_bytes), ATTAR_OK) << info.name;
      ASSERT_EQ(attar_decode_row(type, W.data() + r * row_bytes, row_bytes, decoded.data() + r * kColumns, kColumns), ATTAR_OK);
      double error = 0;
      for (std::size_t i = 0; i < kColumns; ++i) error += std::pow(static_cast<double>(decoded[r * kColumns + i]) - weights[i], 2);
      EXPECT_LT(std::sqrt(error / kColumns), 0.3) << info.name;
    }
    const std::vector<float> X = uniform(kTokens * kColumns, 77);
    for (const auto kind : {ATTAR_ACTIVATIONS_F32, ATTAR_ACTIVATIONS_Q8_0, ATTAR_ACTIVATIONS_Q8_K, ATTAR_ACTIVATIONS_INT8_ROW}) {
      std::vector<float> Y(kTokens * kRows), y(kRows);
      const attar_status status = attar_gemm(type, W.data(), W.size(), kRows, kColumns, kind, X.data(), kTokens, Y.data());
      const bool integers = info.activations != ATTAR_ACTIVATIONS_F32;
      const bool possible = kind == ATTAR_ACTIVATIONS_F32 || kind == info.activations || (integers && kind == ATTAR_ACTIVATIONS_INT8_ROW);
      ASSERT_EQ(status, possible ? ATTAR_OK : ATTAR_BAD_ACTIVATIONS) << info.name << " " << kind;
      if (!possible) continue;
      ASSERT_EQ(attar_gemv(type, W.data(), W.size(), kRows, kColumns, kind, X.data(), y.data()), ATTAR_OK);
      std::size_t bytes = 0;
      ASSERT_EQ(attar_activations_bytes(kind, kColumns, &bytes), ATTAR_OK);
      std::vector<unsigned char> packed(bytes);
      ASSERT_EQ(attar_encode_activations(kind, X.data(), kColumns, packed.data(), bytes), ATTAR_OK);
      for (std::size_t r = 0; r < kRows; ++r) {
        double exact = 0;
        for (std::size_t i = 0; i < kColumns; ++i) exact += static_cast<double>(decoded[r * kColumns + i]) * X[i];
        // Rounding to 8 bits errs by at most 1/254 of the largest activation, independently: about 0.002 * sqrt(512 / 3 / 3).
        const double tolerance = kind == ATTAR_ACTIVATIONS_F32 ? 1e-4 : 0.12;
        EXPECT_NEAR(Y[r], exact, tolerance) << info.name << " " << kind;
        EXPECT_NEAR(y[r], Y[r], 1e-4) << info.name << " " << kind;
        float dot = 0;
        ASSERT_EQ(attar_dot(type, W.data() + r * row_bytes, row_bytes, kind, packed.data(), bytes, kColumns, &dot), ATTAR_OK);
        EXPECT_NEAR(dot, Y[r], 1e-4) << info.name << " " << kind;
      }
    }
  }
}

TEST(CInterface, EveryMistakeHasItsCode) {
  const int q4_0 = attar_type_by_name("q4_0"), iq2 = attar_type_by_name("iq2_xxs");
  std::vector<float> x(64, 1.0f), y(4);
  std::vector<unsigned char> row(36), out(36);
  std::size_t size = 0;
  EXPECT_EQ(attar_row_bytes(q4_0, 63, &size), ATTAR_NOT_WHOLE_BLOCKS);
  EXPECT_HAS(attar_kernels_last_error(), "63 weights do not divide into blocks of 32 of q4_0");
  EXPECT_EQ(attar_row_bytes(-1, 64, &size), ATTAR_UNKNOWN_TYPE);
  EXPECT_EQ(attar_row_bytes(attar_type_count(), 64, &size), ATTAR_UNKNOWN_TYPE);
  EXPECT_EQ(attar_row_bytes(q4_0, 64, nullptr), ATTAR_NULL_POINTER);
  EXPECT_EQ(attar_encode_row(q4_0, x.data(), nullptr, 64, row.data(), 35), ATTAR_WRONG_SIZE);
  EXPECT_HAS(attar_kernels_last_error(), "35 bytes, expected 36");
  EXPECT_EQ(attar_decode_row(q4_0, row.data(), 18, x.data(), 64), ATTAR_WRONG_SIZE);
  EXPECT_EQ(attar_encode_row(iq2, x.data(), nullptr, 64, row.data(), 36), ATTAR_DECODE_ONLY);
  x[5] = NAN;
  EXPECT_EQ(attar_encode_row(q4_0, x.data(), nullptr, 64, row.data(), 36), ATTAR_BAD_VALUE);
  EXPECT_HAS(attar_kernels_last_error(), "weight 5");
  EXPECT_EQ(attar_gemv(q4_0, row.data(), 36, 1, 64, ATTAR_ACTIVATIONS_Q8_0, x.data(), y.data()), ATTAR_BAD_VALUE);
  x[5] = 1;
  EXPECT_EQ(attar_gemv(q4_0, row.data(), 36, 2, 64, ATTAR_ACTIVATIONS_Q8_0, x.data(), y.data()), ATTAR_WRONG_SIZE);
  EXPECT_EQ(attar_gemv(q4_0, row.data(), 36, SIZE_MAX, 64, ATTAR_ACTIVATIONS_Q8_0, x.data(), y.data()), ATTAR_WRONG_SIZE);
  EXPECT_EQ(attar_gemv(q4_0, row.data(), 36, 1, 64, ATTAR_ACTIVATIONS_Q8_K, x.data(), y.data()), ATTAR_BAD_ACTIVATIONS);
  EXPECT_EQ(attar_gemv(q4_0, nullptr, 36, 1, 64, ATTAR_ACTIVATIONS_Q8_0, x.data(), y.data()), ATTAR_NULL_POINTER);
  EXPECT_EQ(attar_encode_activations(ATTAR_ACTIVATIONS_Q8_0, x.data(), 64, out.data(), 36), ATTAR_WRONG_SIZE);
  EXPECT_EQ(attar_encode_activations(static_cast<attar_activations>(9), x.data(), 64, out.data(), 36), ATTAR_BAD_ACTIVATIONS);
  EXPECT_EQ(attar_kernels_select("sse9"), ATTAR_UNKNOWN_VARIANT);
  EXPECT_HAS(attar_kernels_last_error(), "sse9");
  const char* name = nullptr;
  ASSERT_EQ(attar_kernels_variant(&name), ATTAR_OK);
  EXPECT_EQ(attar_kernels_select(name), ATTAR_OK);
  for (int status = ATTAR_OK; status <= ATTAR_OUT_OF_MEMORY; ++status)
    EXPECT_STRNE(attar_kernels_strerror(static_cast<attar_status>(status)), attar_kernels_strerror(static_cast<attar_status>(99)));
}

}  // namespace
}  // namespace attar
