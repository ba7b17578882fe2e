#include "quantize/rotation.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/random.h"
#include "base/threads.h"

namespace attar {
namespace {

constexpr std::int64_t kLines = 16;  // vectors per parallel step

double normal(Random& random) {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - random.uniform()));
  return radius * std::cos(2.0 * std::numbers::pi * random.uniform());
}

// Rows of a random matrix, each made orthogonal to those before (twice: once leaves what rounding left) and of length one.
std::vector<double> random_orthogonal(std::int64_t n, Random& random) {
  std::vector<double> Q(static_cast<std::size_t>(n * n));
  const auto row = [&](std::int64_t i) { return std::span(Q.data() + i * n, static_cast<std::size_t>(n)); };
  const auto dot = [&](std::span<const double> a, std::span<const double> b) {
    double sum = 0;
    for (std::size_t j = 0; j < a.size(); ++j) sum += a[j] * b[j];
    return sum;
  };
  for (std::int64_t i = 0; i < n; ++i) {
    const std::span<double> q = row(i);
    for (double& value : q) value = normal(random);
    for (int turn = 0; turn < 2; ++turn) {
      for (std::int64_t k = 0; k < i; ++k) {
        const double along = dot(q, row(k));
        for (std::size_t j = 0; j < q.size(); ++j) q[j] -= along * row(k)[j];
      }
      const double length = std::sqrt(dot(q, q));
      for (double& value : q) value /= length;
    }
  }
  return Q;
}

}  // namespace

Rotation::Rotation(std::int64_t n, std::uint64_t seed) : power_(n & -n), odd_(n / power_), signs_(static_cast<std::size_t>(n)) {
  Random random(seed);
  for (double& sign : signs_) sign = random.below(2) == 0 ? 1.0 : -1.0;
  O_ = random_orthogonal(odd_, random);
}

void Rotation::apply(std::span<double> x) const {
  const auto m = static_cast<std::size_t>(odd_), n = signs_.size();
  const double scale = 1.0 / std::sqrt(static_cast<double>(power_));
  std::vector<double> part(m);
  for (std::size_t at = 0; at < n; at += m) {  // element a m + b has a along H and b along O
    for (std::size_t b = 0; b < m; ++b) part[b] = signs_[at + b] * x[at + b] * scale;
    for (std::size_t c = 0; c < m; ++c) {
      double sum = 0;
      for (std::size_t b = 0; b < m; ++b) sum += part[b] * O_[b * m + c];
      x[at + c] = sum;
    }
  }
  for (std::size_t width = m; width < n; width *= 2)  // H of 2 w: sums and differences of the two halves of H of w
    for (std::size_t at = 0; at < n; at += 2 * width)
      for (std::size_t i = at; i < at + width; ++i) {
        const double a = x[i], b = x[i + width];
        x[i] = a + b;
        x[i + width] = a - b;
      }
}

void Rotation::apply_rows(std::span<float> M) const {
  const std::int64_t n = size(), rows = static_cast<std::int64_t>(M.size()) / n;
  parallel_for((rows + kLines - 1) / kLines, [&](std::int64_t step) {
    std::vector<double> x(static_cast<std::size_t>(n));
    for (std::int64_t r = step * kLines; r < std::min(rows, (step + 1) * kLines); ++r) {
      float* row = M.data() + r * n;
      std::copy_n(row, n, x.begin());
      apply(x);
      for (std::int64_t j = 0; j < n; ++j) row[j] = static_cast<float>(x[static_cast<std::size_t>(j)]);
    }
  });
}

void Rotation::apply_columns(std::span<float> M, std::int64_t columns) const {
  const std::int64_t n = size();
  parallel_for((columns + kLines - 1) / kLines, [&](std::int64_t step) {
    const std::int64_t begin = step * kLines, width = std::min(kLines, columns - begin);
    std::vector<double> x(static_cast<std::size_t>(n * width));  // columns one after the other
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t k = 0; k < width; ++k) x[static_cast<std::size_t>(k * n + i)] = M.data()[i * columns + begin + k];
    for (std::int64_t k = 0; k < width; ++k) apply({x.data() + k * n, static_cast<std::size_t>(n)});
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t k = 0; k < width; ++k) M.data()[i * columns + begin + k] = static_cast<float>(x[static_cast<std::size_t>(k * n + i)]);
  });
}

}  // namespace attar
