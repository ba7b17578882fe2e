#include "quantize/rotation.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/random.h"
#include "base/threads.h"
#include "base/vector_clones.h"

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

// Y += X D, X and Y (lines, n), D (n, n): by columns that fit the first cache together with the lines' sums.
ATTAR_VECTOR_CLONES void add_product(const double* X, const double* D, std::size_t lines, std::size_t n, double* Y) {
  constexpr std::size_t kColumns = 256;
  for (std::size_t from = 0; from < n; from += kColumns) {
    const std::size_t to = std::min(n, from + kColumns);
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t line = 0; line < lines; ++line) {
        const double x = X[line * n + i];
        for (std::size_t j = from; j < to; ++j) Y[line * n + j] += x * D[i * n + j];
      }
  }
}

}  // namespace

Rotation::Rotation(std::int64_t n, std::uint64_t seed, std::vector<double> D)
    : power_(n & -n), odd_(n / power_), signs_(static_cast<std::size_t>(n)), D_(std::move(D)) {
  Random random(seed);
  for (double& sign : signs_) sign = random.below(2) == 0 ? 1.0 : -1.0;
  O_ = random_orthogonal(odd_, random);
}

void Rotation::apply(std::span<double> X) const {
  const std::size_t n = signs_.size(), lines = X.size() / n;
  for (std::size_t line = 0; line < lines; ++line) apply_random(X.subspan(line * n, n));
  if (D_.empty()) return;
  const std::vector<double> turned(X.begin(), X.end());
  std::fill(X.begin(), X.end(), 0.0);
  add_product(turned.data(), D_.data(), lines, n, X.data());
}

void Rotation::apply_random(std::span<double> x) const {
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
    const std::int64_t begin = step * kLines, count = std::min(kLines, rows - begin);
    const std::span<float> part = M.subspan(static_cast<std::size_t>(begin * n), static_cast<std::size_t>(count * n));
    std::vector<double> X(part.begin(), part.end());
    apply(X);
    std::transform(X.begin(), X.end(), part.begin(), [](double x) { return static_cast<float>(x); });
  });
}

void Rotation::apply_columns(std::span<float> M, std::int64_t columns) const {
  const std::int64_t n = size();
  parallel_for((columns + kLines - 1) / kLines, [&](std::int64_t step) {
    const std::int64_t begin = step * kLines, width = std::min(kLines, columns - begin);
    std::vector<double> X(static_cast<std::size_t>(n * width));  // columns one after the other
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t k = 0; k < width; ++k) X[static_cast<std::size_t>(k * n + i)] = M.data()[i * columns + begin + k];
    apply(X);
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t k = 0; k < width; ++k) M.data()[i * columns + begin + k] = static_cast<float>(X[static_cast<std::size_t>(k * n + i)]);
  });
}

}  // namespace attar
