// Symbols, after the paper:
//   W    weights of a block; Q their values on its grid
//   E    the sparse part of the error W - Q
//   phi  |.|_p^p, p < 1: what is minimised over scales and offsets, argmin phi(W - Q)                      (equation 1)
// With E beside it the problem is  argmin phi(E) + beta/2 |E - (W - Q)|^2                                  (equation 3)
// and is solved in turns:
//   E <- shrink(W - Q, beta), shrink(x, beta) = sign(x) max(0, |x| - |x|^(p-1) / beta)                     (sub-problem 1)
//   scales and offsets <- least squares of Q on W - E, codes <- nearest to W, beta <- kappa beta           (sub-problem 2)
// Errors are measured in steps of the group's scale, so that beta means the same in every model.
#include "quantize/hqq.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/console.h"
#include "base/half.h"
#include "base/threads.h"

namespace attar {
namespace {

constexpr int kTurns = 20;
constexpr double kBeta = 10.0, kKappa = 1.01;
constexpr std::int64_t kSliceWeights = std::int64_t{1} << 22;

float phi(float error) { return std::pow(std::fabs(error), static_cast<float>(kHqqNorm)); }

float to_half(float value) { return round_to_f16(std::clamp(value, -65504.0f, 65504.0f)); }

int to_integer(float value, int low, int high) {
  return static_cast<int>(std::nearbyint(std::clamp(value, static_cast<float>(low), static_cast<float>(high))));
}

// One block of a row.
class Block {
 public:
  Block(PackedRow& row, std::span<const float> w, std::int64_t index)
      : row_(row), grid_(row.grid()), w_(w), index_(index), size_(row.block_weights()), group_(row.group_weights()),
        groups_(static_cast<int>(size_ / group_)), begin_(index * size_) {}

  void start() {
    float scale[16], lowest[16], largest = 0, deepest = 0;
    const float end = level(grid_, 0), steps = static_cast<float>(grid_.levels - 1);
    const bool many = grid_.scale_max > grid_.scale_min;
    for (int g = 0; g < groups_; ++g) {
      const auto [low, high] = std::minmax_element(w_.begin() + begin_ + g * group_, w_.begin() + begin_ + (g + 1) * group_);
      // Several minima share a dmin, which is not negative.
      lowest[g] = many ? std::min(*low, 0.0f) : *low;
      scale[g] = grid_.has_offset ? (*high - lowest[g]) / steps : (std::fabs(*low) > std::fabs(*high) ? *low : *high) / end;
      if (std::fabs(scale[g]) > std::fabs(largest)) largest = scale[g];
      deepest = std::max(deepest, -lowest[g]);
      if (constexpr float kMost = 65504.0f; std::max(std::fabs(*low), std::fabs(*high)) > kMost)
        fail("[hqq] weights from ", *low, " to ", *high, ": scales are 16-bit floats and weights at most ", kMost);
    }
    BlockScales s;
    if (!many) {
      s.sc[0] = 1;
      s.d = to_half(scale[0]);
      if (grid_.has_offset) s.m[0] = 1, s.dmin = to_half(-lowest[0]);
    } else {
      s.d = to_half(largest / static_cast<float>(grid_.scale_min < 0 ? grid_.scale_min : grid_.scale_max));
      if (grid_.has_offset) s.dmin = to_half(deepest / static_cast<float>(grid_.scale_max));
      for (int g = 0; g < groups_; ++g) {
        s.sc[g] = s.d != 0 ? to_integer(scale[g] / s.d, grid_.scale_min, grid_.scale_max) : 0;
        if (grid_.has_offset) s.m[g] = s.dmin != 0 ? to_integer(-lowest[g] / s.dmin, 0, grid_.scale_max) : 0;
      }
    }
    take(s);
  }

  void solve() {
    BlockScales best = scales();
    double least = norm(), beta = kBeta;
    std::vector<float> target(static_cast<std::size_t>(size_));
    for (int turn = 0; turn < kTurns; ++turn, beta *= kKappa) {
      for (std::int64_t j = 0; j < size_; ++j) target[static_cast<std::size_t>(j)] = w(j) - shrink(w(j) - q(j), step(j), beta);
      fit(target);
      take(scales());
      const double now = norm();
      if (now < least) least = now, best = scales();
    }
    take(best);
  }

  double norm() const {
    double sum = 0;
    for (std::int64_t j = 0; j < size_; ++j) sum += static_cast<double>(phi(w(j) - q(j)));
    return sum;
  }

 private:
  float w(std::int64_t j) const { return w_[static_cast<std::size_t>(begin_ + j)]; }
  float q(std::int64_t j) const { return row_.value(begin_ + j); }
  const BlockScales& scales() const { return row_.blocks()[static_cast<std::size_t>(index_)]; }
  float step(std::int64_t j) const { return std::fabs(scales().d * static_cast<float>(scales().sc[j / group_])) * spacing(); }
  // Of neighbouring levels, on average.
  float spacing() const {
    return (level(grid_, grid_.levels - 1) - level(grid_, 0)) / static_cast<float>(grid_.levels - 1);
  }

  static float shrink(float x, float step, double beta) {
    if (step <= 0 || x == 0) return 0;
    const double size = std::fabs(x) / step;
    return std::copysign(static_cast<float>(std::max(0.0, size - std::pow(size, kHqqNorm - 1) / beta)) * step, x);
  }

  // The scales, and the codes nearest to the weights on their grid.
  void take(const BlockScales& s) {
    row_.set_block(index_, s);
    for (std::int64_t j = 0; j < size_; ++j) row_.set_code(begin_ + j, row_.nearest(begin_ + j, w(j)));
  }

  // q is linear in each number the block stores: q = theta v + rest. Each in turn is set to its least squares.
  void fit(std::span<const float> target) {
    const auto along = [&](std::int64_t from, std::int64_t count, auto direction) {
      double tv = 0, vv = 0;
      for (std::int64_t j = from; j < from + count; ++j) {
        const double v = direction(j);
        tv += v * (target[static_cast<std::size_t>(j)] - q(j));
        vv += v * v;
      }
      return vv > 0 ? static_cast<float>(tv / vv) : 0.0f;
    };
    const auto code_level = [&](std::int64_t j) { return level(grid_, row_.code(begin_ + j)); };
    BlockScales s = scales();
    const auto set = [&] { row_.set_block(index_, s); };
    if (grid_.scale_max > grid_.scale_min)
      for (int g = 0; g < groups_; ++g) {
        const float up = along(g * group_, group_, [&](std::int64_t j) { return s.d * code_level(j); });
        s.sc[g] = to_integer(static_cast<float>(s.sc[g]) + up, grid_.scale_min, grid_.scale_max), set();
        if (!grid_.has_offset) continue;
        const float down = along(g * group_, group_, [&](std::int64_t) { return -s.dmin; });
        s.m[g] = to_integer(static_cast<float>(s.m[g]) + down, 0, grid_.scale_max), set();
      }
    s.d = to_half(s.d + along(0, size_, [&](std::int64_t j) { return static_cast<float>(s.sc[j / group_]) * code_level(j); })), set();
    if (!grid_.has_offset) return;
    s.dmin = to_half(s.dmin + along(0, size_, [&](std::int64_t j) { return -static_cast<float>(s.m[j / group_]); })), set();
  }

  PackedRow& row_;
  const GridInfo& grid_;
  std::span<const float> w_;
  std::int64_t index_, size_, group_;
  int groups_;
  std::int64_t begin_;
};

}  // namespace

void min_max_row(PackedRow& row, std::span<const float> w) {
  for (std::size_t b = 0; b < row.blocks().size(); ++b) Block(row, w, static_cast<std::int64_t>(b)).start();
}

void hqq_row(PackedRow& row, std::span<const float> w) {
  for (std::size_t b = 0; b < row.blocks().size(); ++b) {
    Block block(row, w, static_cast<std::int64_t>(b));
    block.start();
    block.solve();
  }
}

HqqResult hqq(Type type, const Tensor& W) {
  if (info(type).grid.group == 0) fail("hqq: ", W.name, " cannot be ", info(type).name, ": it has no grid");
  const std::int64_t rows = W.rows(), columns = W.columns();
  const std::size_t stride = row_bytes(type, static_cast<std::uint64_t>(columns));
  HqqResult result{{type, W.shape, Bytes(stride * static_cast<std::size_t>(rows))}};
  struct Sums {
    double error = 0, energy = 0, before = 0, after = 0, whole = 0;
  };
  std::vector<Sums> sums(static_cast<std::size_t>(rows));
  const std::int64_t step = std::max<std::int64_t>(1, kSliceWeights / columns);
  for (std::int64_t begin = 0; begin < rows; begin += step) {
    check_interrupt();
    const std::int64_t end = std::min(rows, begin + step);
    const std::vector<float> slice = read_floats(W, begin, end);
    check_finite(slice, columns, W.name, begin);
    parallel_for(end - begin, [&](std::int64_t r) {
      const std::span<const float> w(slice.data() + r * columns, static_cast<std::size_t>(columns));
      const std::span<std::byte> bytes = std::span(result.Q.bytes).subspan(static_cast<std::size_t>(begin + r) * stride, stride);
      Sums& sum = sums[static_cast<std::size_t>(begin + r)];
      PackedRow row(type, bytes, columns);
      min_max_row(row, w);
      for (std::int64_t j = 0; j < columns; ++j) sum.before += static_cast<double>(phi(w[static_cast<std::size_t>(j)] - row.value(j)));
      hqq_row(row, w);
      row.write(bytes);
      for (std::int64_t j = 0; j < columns; ++j) {
        const double x = w[static_cast<std::size_t>(j)], e = x - static_cast<double>(row.value(j));
        sum.error += e * e, sum.energy += x * x;
        sum.after += static_cast<double>(phi(static_cast<float>(e))), sum.whole += static_cast<double>(phi(static_cast<float>(x)));
      }
    });
  }
  Sums all;
  for (const Sums& one : sums)
    all.error += one.error, all.energy += one.energy, all.before += one.before, all.after += one.after, all.whole += one.whole;
  if (all.energy > 0)
    result.weight_error = all.error / all.energy, result.norm_before = all.before / all.whole, result.norm_after = all.after / all.whole;
  return result;
}

}  // namespace attar
