// Symbols: as in descent.cc; b_i vectors of the basis, q = sum_i c_i b_i. Moving c by f changes the error by  f K f^T - 2 y f^T  and y by  -f K,
// with K_ij = b_i H b_j^T and y_i = g b_i^T.
#include "quantize/scale_descent.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/half.h"
#include "base/vector_clones.h"

namespace attar {
namespace {

constexpr int kMostDimensions = 32;
constexpr int kSweeps = 8;       // at most: where rounding makes two values equal, they could take turns for ever
constexpr std::int64_t kSums = 8;  // of a sum, each adding up its own share, so that they can go side by side

// x y
ATTAR_VECTOR_CLONES float dot(const float* x, const float* y, std::int64_t n) {
  float sums[kSums] = {}, total = 0;
  std::int64_t i = 0;
  for (; i + kSums <= n; i += kSums)
    for (std::int64_t k = 0; k < kSums; ++k) sums[k] += x[i + k] * y[i + k];
  for (; i < n; ++i) total += x[i] * y[i];
  for (const float sum : sums) total += sum;
  return total;
}

// The same of two pairs, in float64: x y and y.
ATTAR_VECTOR_CLONES void project(const float* x, const float* y, std::int64_t n, double& product, double& sum) {
  double products[kSums] = {}, sums[kSums] = {};
  product = sum = 0;
  std::int64_t i = 0;
  for (; i + kSums <= n; i += kSums)
    for (std::int64_t k = 0; k < kSums; ++k) {
      products[k] += static_cast<double>(x[i + k]) * static_cast<double>(y[i + k]);
      sums[k] += static_cast<double>(y[i + k]);
    }
  for (; i < n; ++i) product += static_cast<double>(x[i]) * static_cast<double>(y[i]), sum += static_cast<double>(y[i]);
  for (std::int64_t k = 0; k < kSums; ++k) product += products[k], sum += sums[k];
}

// One block's error over its basis.
struct Form {
  const float* K;
  int dimensions;
  std::array<double, kMostDimensions> y{};
  double gained = 0;

  // A number theta of the format rules b_i for i in [from, to), each times share(i). Returns the best value that `round` gives it.
  template <class Share, class Round>
  double best(double theta, int from, int to, const Share& share, const Round& round) {
    double slope = 0, curve = 0;
    std::array<double, kMostDimensions> pull{};
    for (int j = from; j < to; ++j) {
      const double f = share(j);
      slope += f * y[static_cast<std::size_t>(j)];
      for (int i = 0; i < dimensions; ++i) pull[static_cast<std::size_t>(i)] += f * static_cast<double>(K[j * dimensions + i]);
    }
    for (int j = from; j < to; ++j) curve += share(j) * pull[static_cast<std::size_t>(j)];
    const double wanted = theta + slope / curve;
    if (!(curve > 0) || !std::isfinite(wanted)) return theta;
    const double next = round(wanted), d = next - theta, change = d * (d * curve - 2.0 * slope);
    if (!(change < 0)) return theta;
    gained -= change;
    for (std::size_t i = 0; i < pull.size(); ++i) y[i] -= d * pull[i];
    return next;
  }
};

double to_half(double wanted) { return round_to_f16(static_cast<float>(std::clamp(wanted, -65504.0, 65504.0))); }

}  // namespace

ScaleDescent::ScaleDescent(std::span<const PackedRow> rows, const at::Tensor& H, std::int64_t begin)
    : count_(static_cast<std::int64_t>(rows.size())), begin_(begin), width_(H.size(0)), block_(rows.front().block_weights()),
      group_(rows.front().group_weights()), groups_(static_cast<int>(block_ / group_)),
      dimensions_(rows.front().grid().has_offset ? 2 * groups_ : groups_), levels_(at::empty({count_, width_})),
      forms_(at::empty({count_, width_ / block_, dimensions_, dimensions_})) {
  for (std::size_t r = 0; r < rows.size(); ++r)
    rows[r].levels(begin, {levels_.data_ptr<float>() + static_cast<std::int64_t>(r) * width_, static_cast<std::size_t>(width_)});
  for (std::int64_t from = 0; from < width_; from += block_) measure(H, from);
}

float* ScaleDescent::form(std::size_t r, std::int64_t from) const {
  return forms_.data_ptr<float>() + (static_cast<std::int64_t>(r) * (width_ / block_) + from / block_) * dimensions_ * dimensions_;
}

void ScaleDescent::measure(const at::Tensor& H, std::int64_t from) {
  const bool offsets = dimensions_ > groups_;
  const at::Tensor own = H.narrow(0, from, block_).narrow(1, from, block_);
  const at::Tensor ones = offsets ? own.reshape({groups_, group_, block_}).sum(1) : at::Tensor();  // 1_k H
  for (int k = 0; k < groups_; ++k) {
    const std::int64_t at = k * group_, rest = block_ - at;
    const at::Tensor part = at::mm(levels_.narrow(1, from + at, group_), own.narrow(0, at, group_).narrow(1, at, rest));  // l_k H, from group k on
    for (std::int64_t r = 0; r < count_; ++r) {
      float* K = form(static_cast<std::size_t>(r), from);
      const auto set = [&](int i, int j, float value) { K[i * dimensions_ + j] = K[j * dimensions_ + i] = value; };
      const float *l_H = part.data_ptr<float>() + r * rest, *l = levels_.data_ptr<float>() + r * width_ + from;
      for (int i = k; i < groups_; ++i) set(k, i, dot(l_H + (i - k) * group_, l + i * group_, group_));
      if (!offsets) continue;
      const float* one_H = ones.data_ptr<float>() + k * block_;
      for (int i = 0; i < groups_; ++i) set(groups_ + k, i, dot(one_H + i * group_, l + i * group_, group_));
      for (int i = k; i < groups_; ++i) {
        float sum = 0;
        for (std::int64_t j = i * group_; j < (i + 1) * group_; ++j) sum += one_H[j];
        set(groups_ + k, groups_ + i, sum);
      }
    }
  }
}

double ScaleDescent::settle(std::size_t r, std::int64_t from, PackedRow& row, const float* g) const {
  const GridInfo& grid = row.grid();
  const float* l = levels_.data_ptr<float>() + static_cast<std::int64_t>(r) * width_ + from;
  Form form{this->form(r, from), dimensions_};
  for (int k = 0; k < groups_; ++k) {
    double of_ones = 0;
    project(l + k * group_, g + k * group_, group_, form.y[static_cast<std::size_t>(k)], of_ones);
    if (grid.has_offset) form.y[static_cast<std::size_t>(groups_ + k)] = of_ones;
  }
  const auto to_integer = [&](int low) { return [low, &grid](double wanted) { return std::nearbyint(std::clamp<double>(wanted, low, grid.scale_max)); }; };
  const std::int64_t block = (begin_ + from) / block_;
  BlockScales s = row.blocks()[static_cast<std::size_t>(block)];
  double before = -1;
  for (int sweep = 0; sweep < kSweeps && before < form.gained; ++sweep) {
    before = form.gained;
    for (int k = 0; grid.scale_max > grid.scale_min && k < groups_; ++k) {
      s.sc[k] = static_cast<std::int8_t>(form.best(s.sc[k], k, k + 1, [&](int) { return double{s.d}; }, to_integer(grid.scale_min)));
      if (grid.has_offset)
        s.m[k] = static_cast<std::int8_t>(form.best(s.m[k], groups_ + k, groups_ + k + 1, [&](int) { return -double{s.dmin}; }, to_integer(0)));
    }
    s.d = static_cast<float>(form.best(s.d, 0, groups_, [&](int i) { return double(s.sc[i]); }, to_half));
    if (grid.has_offset)
      s.dmin = static_cast<float>(form.best(s.dmin, groups_, 2 * groups_, [&](int i) { return -double(s.m[i - groups_]); }, to_half));
  }
  if (form.gained > 0) row.set_block(block, s);
  return form.gained;
}

}  // namespace attar
