#include "quantize/rtn.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/random.h"
#include "quantize/matrix_loss.h"
#include "quantize/packed_row.h"
#include "quantize/tensors.h"
#include "tests/kernels_ref/gridded_types.h"

namespace attar {
namespace {

constexpr std::int64_t kRows = 37, kColumns = 256;

std::vector<float> values() {
  Random random(5);
  std::vector<float> values(static_cast<std::size_t>(kRows * kColumns));
  for (float& v : values) v = static_cast<float>(random.uniform() - 0.5);
  return values;
}

class WhenRead : public ::testing::TestWithParam<Type> {};

// In whatever slices it is read, and however often.
TEST_P(WhenRead, GivesTheBytesAndTheLossOfTheWhole) {
  const Tensor W = make_tensor("w", {kRows, kColumns}, values());
  const std::vector<float> importance(kColumns, 0.5f);
  const QuantizedTensor whole = rtn(GetParam(), values(), kRows, kColumns, importance, "w");
  EXPECT_EQ(rtn(GetParam(), W, importance).Q.bytes, whole.bytes);
  const std::vector<float> q = decode(whole), w = read_floats(W);
  double error = 0, energy = 0;
  for (std::size_t i = 0; i < w.size(); ++i) error += std::pow(q[i] - w[i], 2), energy += std::pow(w[i], 2);
  for (const std::int64_t slice : {1, 16, 17, 37}) {
    const RoundedWhenRead rounded = rtn_when_read(GetParam(), W, importance);
    EXPECT_EQ(rounded.loss->weight_error(), 0) << "nothing is read yet";
    Bytes bytes(whole.bytes.size());
    const std::size_t stride = bytes.size() / kRows;
    for (int walk = 0; walk < 2; ++walk)
      for (std::int64_t begin = 0; begin < kRows; begin += slice)
        rounded.Q.read_rows(begin, std::min(kRows, begin + slice), bytes.data() + static_cast<std::size_t>(begin) * stride);
    EXPECT_EQ(bytes, whole.bytes) << slice;
    EXPECT_NEAR(rounded.loss->weight_error(), error / energy, 1e-6 * error / energy) << slice;
  }
}

// Weight by weight, with the codes.
TEST_P(WhenRead, CountsWhatIsBeyondTheEnds) {
  std::vector<float> w = values();
  for (std::size_t i = 0; i < w.size(); i += 29) w[i] *= 3;
  const Tensor W = make_tensor("w", {kRows, kColumns}, w);
  const std::vector<float> importance(kColumns, 0.5f);  // searched, not set by the largest
  const RtnResult result = rtn(GetParam(), W, importance);
  if (!info(GetParam()).quantized) {
    EXPECT_EQ(result.clipped, -1);
    return;
  }
  std::int64_t count = 0;
  const std::size_t stride = result.Q.bytes.size() / kRows;
  for (std::size_t r = 0; r < kRows; ++r) {
    const PackedRow row(GetParam(), ByteView(result.Q.bytes).subspan(r * stride, stride), kColumns);
    for (std::int64_t j = 0; j < kColumns; ++j) {
      const int code = row.code(j), last = row.grid().levels - 1;
      if (code != 0 && code != last) continue;
      const float end = row.value(j), step = end - row.value(j, code == 0 ? 1 : last - 1);
      count += (w[r * kColumns + static_cast<std::size_t>(j)] - end) * step > 0.5f * step * step;
    }
  }
  EXPECT_EQ(result.clipped, static_cast<double>(count) / static_cast<double>(w.size()));
  EXPECT_EQ(loss_of(result.Q, read_tensor(W)).clipped, result.clipped);
}

INSTANTIATE_TEST_SUITE_P(Types, WhenRead, ::testing::ValuesIn([] {
  std::vector<Type> types = test::sample_types();
  types.push_back(Type::kF16);
  return types;
}()), test::TypeName());

// Below half the smallest number of 16 bits a scale is zero, and with it every weight. That is no loss where there was nothing.
TEST(Rtn, KnowsAMatrixThatVanished) {
  const auto fate = [](Type type, float most, bool one_row_stays) {
    std::vector<float> w = values();
    for (float& value : w) value *= most;
    if (one_row_stays) w[5 * kColumns + 3] = 1;
    const Tensor W = make_tensor("w", {kRows, kColumns}, std::move(w));
    const RoundedWhenRead rounded = rtn_when_read(type, W);
    const QuantizedTensor Q{type, W.shape, read_packed(rounded.Q).bytes};
    EXPECT_EQ(rounded.loss->vanished(), vanished(Q, W));
    return vanished(Q, W);
  };
  for (const Type type : {Type::kQ4_0, Type::kQ4_1, Type::kQ8_0, Type::kIQ4_NL, Type::kF16}) {
    EXPECT_TRUE(fate(type, 1e-9f, false)) << info(type).name;
    EXPECT_TRUE(fate(type, 1e-30f, false)) << info(type).name << ", whose squares are zero as well";
    EXPECT_FALSE(fate(type, 1, false)) << info(type).name;
    EXPECT_FALSE(fate(type, 0, false)) << info(type).name;
    EXPECT_FALSE(fate(type, 1e-9f, true)) << info(type).name;
  }
  EXPECT_FALSE(fate(Type::kBF16, 1e-30f, false));
}

// Also where the row ends behind the last whole vector.
TEST(Rtn, NamesWhatIsNotANumberWhereverItIs) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (const std::int64_t columns : {1, 15, 16, 33, 96}) {
    for (const float bad : {inf, -inf, nan}) {
      for (std::int64_t at = 0; at < 2 * columns; ++at) {
        std::vector<float> w(static_cast<std::size_t>(2 * columns), std::numeric_limits<float>::max());
        EXPECT_NO_THROW(check_finite(w, columns, "w", 10));
        w[static_cast<std::size_t>(at)] = bad;
        try {
          check_finite(w, columns, "w", 10);
          FAIL() << bad << " at " << at << " of 2 rows of " << columns;
        } catch (const Error& error) {
          const std::string where = "row " + std::to_string(10 + at / columns) + ", column " + std::to_string(at % columns) + ";";
          EXPECT_NE(std::string(error.what()).find(where), std::string::npos) << error.what();
        }
      }
    }
  }
}

TEST(Rtn, NamesTheRowThatATypeCannotHold) {
  std::vector<float> w = values();
  w[7 * kColumns + 3] = 1e9f;
  const Tensor W = make_tensor("some.weight", {kRows, kColumns}, w);
  for (const bool later : {false, true}) {
    try {
      later ? rtn(Type::kQ4_0, W).Q : rtn(Type::kQ4_0, w, kRows, kColumns, {}, "some.weight");
      FAIL() << "it was accepted";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("some.weight, row 7"), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find("q4_0 holds at most"), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace attar
