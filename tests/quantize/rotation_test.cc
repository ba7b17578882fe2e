#include "quantize/rotation.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/random.h"
#include "base/threads.h"

namespace attar {
namespace {

// R, row by row: e_i R.
std::vector<double> matrix_of(const Rotation& rotation) {
  const auto n = static_cast<std::size_t>(rotation.size());
  std::vector<double> R(n * n);
  for (std::size_t i = 0; i < n; ++i) {
    R[i * n + i] = 1;
    rotation.apply(std::span(R).subspan(i * n, n));
  }
  return R;
}

class RotationOf : public testing::TestWithParam<int> {};

TEST_P(RotationOf, IsOrthogonal) {
  const auto n = static_cast<std::size_t>(GetParam());
  const std::vector<double> R = matrix_of(Rotation(GetParam(), 3));
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j) {
      double sum = 0;
      for (std::size_t k = 0; k < n; ++k) sum += R[i * n + k] * R[j * n + k];
      EXPECT_NEAR(sum, i == j ? 1.0 : 0.0, 1e-12) << i << ", " << j;
    }
}

TEST_P(RotationOf, TurnsRowsAndColumnsOfAMatrix) {
  const std::int64_t n = GetParam(), others = 21;
  const Rotation rotation(n, 5);
  const std::vector<double> R = matrix_of(rotation);
  Random random(1);
  std::vector<float> M(static_cast<std::size_t>(n * others));
  for (float& value : M) value = static_cast<float>(random.uniform() - 0.5);
  std::vector<float> rows = M, columns = M;
  rotation.apply_rows(rows);                // (others, n)
  rotation.apply_columns(columns, others);  // (n, others)
  const auto at = [](const auto& values, std::int64_t i) { return static_cast<double>(values[static_cast<std::size_t>(i)]); };
  for (std::int64_t r = 0; r < others; ++r)
    for (std::int64_t j = 0; j < n; ++j) {
      double row = 0, column = 0;
      for (std::int64_t i = 0; i < n; ++i) {
        row += at(M, r * n + i) * at(R, i * n + j);
        column += at(M, i * others + r) * at(R, i * n + j);
      }
      EXPECT_NEAR(at(rows, r * n + j), row, 1e-6);
      EXPECT_NEAR(at(columns, j * others + r), column, 1e-6);
    }
}

// D behind it: R D, whatever else is turned in the same call.
TEST_P(RotationOf, GoesOnWithWhatWasLearned) {
  const auto n = static_cast<std::size_t>(GetParam());
  const Rotation random(GetParam(), 3), other(GetParam(), 4);
  const std::vector<double> R = matrix_of(random), D = matrix_of(other), both = matrix_of(Rotation(GetParam(), 3, D));
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j) {
      double sum = 0;
      for (std::size_t k = 0; k < n; ++k) sum += R[i * n + k] * D[k * n + j];
      EXPECT_NEAR(both[i * n + j], sum, 1e-12) << i << ", " << j;
    }
  std::vector<double> lines(n * n);
  for (std::size_t i = 0; i < n; ++i) lines[i * n + i] = 1;
  Rotation(GetParam(), 3, D).apply(lines);
  EXPECT_EQ(lines, both);
}

INSTANTIATE_TEST_SUITE_P(Sizes, RotationOf, testing::Values(1, 2, 7, 16, 36, 48, 64));

TEST(Rotation, SpreadsEvenlyWhereItIsHadamard) {
  for (const double entry : matrix_of(Rotation(64, 9))) EXPECT_NEAR(std::fabs(entry), 0.125, 1e-15);
}

TEST(Rotation, FollowsItsSeed) {
  EXPECT_EQ(matrix_of(Rotation(48, 1)), matrix_of(Rotation(48, 1)));
  EXPECT_NE(matrix_of(Rotation(48, 1)), matrix_of(Rotation(48, 2)));
}

}  // namespace
}  // namespace attar
