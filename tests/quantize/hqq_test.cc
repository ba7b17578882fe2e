#include "quantize/hqq.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "base/half.h"
#include "base/random.h"
#include "base/threads.h"
#include "tests/kernels_ref/gridded_types.h"

namespace attar {
namespace {

// Weights as models have them: most small, a few large.
std::vector<float> heavy_tailed(std::int64_t count, std::uint64_t seed) {
  Random random(seed);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) {
    const double u = random.uniform() - 0.5;
    value = static_cast<float>(0.02 * std::copysign(std::log(1.0 - 2.0 * std::fabs(u)), u));
    if (random.below(64) == 0) value *= 6.0f;
  }
  return values;
}

double norm(const std::vector<float>& w, const std::vector<float>& q, double p) {
  double sum = 0;
  for (std::size_t j = 0; j < w.size(); ++j) sum += std::pow(std::fabs(static_cast<double>(w[j]) - static_cast<double>(q[j])), p);
  return sum;
}

constexpr std::int64_t kRows = 24, kColumns = 512;

class HqqTypes : public testing::TestWithParam<Type> {};

TEST_P(HqqTypes, NeverAboveRoundingWithoutSearchInItsNorm) {
  const std::vector<float> W = heavy_tailed(kRows * kColumns, 1);
  double before = 0, after = 0;
  for (std::int64_t r = 0; r < kRows; ++r) {
    const std::vector<float> w(W.begin() + r * kColumns, W.begin() + (r + 1) * kColumns);
    Bytes bytes(row_bytes(GetParam(), kColumns));
    std::vector<float> plain(kColumns), solved(kColumns);
    PackedRow row(GetParam(), bytes, kColumns);
    min_max_row(row, w);
    row.write(bytes);
    decode_row(GetParam(), bytes, plain);
    hqq_row(row, w);
    row.write(bytes);
    decode_row(GetParam(), bytes, solved);
    EXPECT_LE(norm(w, solved, kHqqNorm), norm(w, plain, kHqqNorm) * (1 + 1e-6));
    before += norm(w, plain, kHqqNorm), after += norm(w, solved, kHqqNorm);
  }
  EXPECT_LT(after, before);
  const HqqResult result = hqq(GetParam(), make_tensor("W", {kRows, kColumns}, W));
  double whole = 0;
  for (const float w : W) whole += std::pow(std::fabs(static_cast<double>(w)), kHqqNorm);
  EXPECT_NEAR(result.norm_before, before / whole, 1e-4 * result.norm_before);
  EXPECT_NEAR(result.norm_after, after / whole, 1e-4 * result.norm_after);
}

TEST_P(HqqTypes, SameBytesAtAnyNumberOfThreads) {
  const Tensor W = make_tensor("W", {kRows, kColumns}, heavy_tailed(kRows * kColumns, 2));
  const int before = thread_count();
  set_thread_count(1);
  const HqqResult one = hqq(GetParam(), W);
  set_thread_count(3);
  EXPECT_EQ(hqq(GetParam(), W).Q.bytes, one.Q.bytes);
  set_thread_count(before);
}

TEST_P(HqqTypes, KeepsWhatIsOnTheGridAndNothing) {
  std::vector<float> zero(kColumns, 0.0f), out(kColumns);
  const HqqResult result = hqq(GetParam(), make_tensor("W", {1, kColumns}, zero));
  decode_row(GetParam(), result.Q.bytes, out);
  EXPECT_EQ(out, zero);
}

INSTANTIATE_TEST_SUITE_P(Types, HqqTypes, testing::ValuesIn(test::sample_types()), test::TypeName());

// Rounding without search as ggml's reference quantizers define it.
TEST(MinMaxRow, IsGgmlsReference) {
  const std::vector<float> w = heavy_tailed(32, 5);
  const auto decoded = [&](Type type) {
    Bytes bytes(row_bytes(type, 32));
    PackedRow row(type, bytes, 32);
    min_max_row(row, w);
    row.write(bytes);
    std::vector<float> values(32);
    decode_row(type, bytes, values);
    return values;
  };
  const auto [low, high] = std::minmax_element(w.begin(), w.end());
  const float d0 = round_to_f16((std::fabs(*low) > std::fabs(*high) ? *low : *high) / -8.0f);
  const float d1 = round_to_f16((*high - *low) / 15.0f), m1 = round_to_f16(*low);
  const std::vector<float> q4_0 = decoded(Type::kQ4_0), q4_1 = decoded(Type::kQ4_1);
  for (std::size_t j = 0; j < w.size(); ++j) {
    EXPECT_FLOAT_EQ(q4_0[j], d0 * std::clamp(std::nearbyint(w[j] / d0), -8.0f, 7.0f));
    EXPECT_FLOAT_EQ(q4_1[j], d1 * std::clamp(std::nearbyint((w[j] - m1) / d1), 0.0f, 15.0f) + m1);
  }
}

TEST(Hqq, RefusesWhatItCannot) {
  EXPECT_THROW(hqq(Type::kF16, make_tensor("W", {2, 32}, std::vector<float>(64, 1.0f))), Error);
  EXPECT_THROW(hqq(Type::kQ4_0, make_tensor("W", {2, 32}, std::vector<float>(64, 1e6f))), Error);
  QuantizedTensor broken{Type::kF32, {2, 32}, Bytes(64 * sizeof(float))};
  const float bad = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(broken.bytes.data() + 40 * sizeof bad, &bad, sizeof bad);
  try {
    hqq(Type::kQ4_0, make_tensor("layers.0.W", std::move(broken)));
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("layers.0.W holds NaN at row 1, column 8"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace attar
