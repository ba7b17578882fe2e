// Symbols: e = t - q  error of a row; g = e H  (half the negative gradient of the loss L = e H e^T).
// Moving q by d changes the loss by  d H d^T - 2 g d^T  and g by  -d H.
//
// What moves in one chunk of columns is felt there at once and by all other columns when the chunk is left, for all rows in one
// matrix product: H, which is larger than any cache, is then read once for all of them.
#include "quantize/descent.h"

#include <algorithm>
#include <cmath>

#include "base/half.h"
#include "base/vector_clones.h"

namespace attar {
namespace {

constexpr std::int64_t kChunk = 256;  // columns; a block that does not divide this, such as a whole row, is a chunk of its own

// y -= d x
ATTAR_VECTOR_CLONES void subtract(float d, const float* x, std::int64_t n, float* y) {
  for (std::int64_t i = 0; i < n; ++i) y[i] -= d * x[i];
}

// y = H v for a symmetric H of n lines, `stride` apart; four of them at a time, so that y is loaded and stored less often.
ATTAR_VECTOR_CLONES void multiply_symmetric(const float* H, std::int64_t stride, const float* v, std::int64_t n, float* y) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = 0;
  std::int64_t j = 0;
  for (; j + 4 <= n; j += 4) {
    const float *a = H + j * stride, *b = a + stride, *c = b + stride, *d = c + stride;
    for (std::int64_t i = 0; i < n; ++i) y[i] += (v[j] * a[i] + v[j + 1] * b[i]) + (v[j + 2] * c[i] + v[j + 3] * d[i]);
  }
  for (; j < n; ++j) subtract(-v[j], H + j * stride, n, y);
}

// x y, in float64.
ATTAR_VECTOR_CLONES double dot(const float* x, const float* y, std::int64_t n) {
  constexpr std::int64_t kSums = 8;  // each adds up its own share, so that they can go side by side
  double sums[kSums] = {}, total = 0;
  std::int64_t i = 0;
  for (; i + kSums <= n; i += kSums)
    for (std::int64_t k = 0; k < kSums; ++k) sums[k] += static_cast<double>(x[i + k]) * static_cast<double>(y[i + k]);
  for (; i < n; ++i) total += static_cast<double>(x[i]) * static_cast<double>(y[i]);
  for (const double sum : sums) total += sum;
  return total;
}

// The part of one row that lies in one chunk: columns [begin, begin + width). Indices i, j count from begin.
class Chunk {
 public:
  // H: (width, width) contiguous; g: (width), kept up to date; scratch: (3 * width).
  Chunk(PackedRow& row, const float* H, float* g, std::int64_t begin, std::int64_t width, float* scratch)
      : row_(row), H_(H), g_(g), begin_(begin), width_(width), v_(scratch), vH_(scratch + width), levels_(scratch + 2 * width) {}

  // With all others fixed the best q_j is the grid's value nearest to q_j + g_j / H_jj.
  bool codes(std::span<const std::int64_t> order) {
    bool changed = false;
    for (const std::int64_t column : order) {
      const std::int64_t j = column - begin_;
      const float Hjj = H_[j * width_ + j], q = row_.value(column);
      const int code = row_.nearest(column, q + g_[j] / Hjj);
      if (code == row_.code(column)) continue;
      const float d = row_.value(column, code) - q, change = d * (d * Hjj - 2.0f * g_[j]);
      if (!(change < 0.0f)) continue;
      gained_ -= static_cast<double>(change);
      row_.set_code(column, code);
      move(j, d);
      changed = true;
    }
    return changed;
  }

  // q is linear in each number that a block stores: q = theta v + rest. The best theta is theta + (g v^T) / (v H v^T).
  bool scales() {
    const GridInfo& grid = row_.grid();
    const std::int64_t block = row_.block_weights(), group = row_.group_weights();
    const int groups = static_cast<int>(block / group);
    const bool many = grid.scale_max > grid.scale_min;
    bool changed = false;
    for (std::int64_t from = 0; from < width_; from += block) {
      for (std::int64_t j = 0; j < block; ++j) levels_[j] = level(grid, row_.code(begin_ + from + j));
      for (int k = 0; many && k < groups; ++k) {
        const float* own = levels_ + k * group;
        changed |= stored_integer(from, k, &BlockScales::sc, grid.scale_min, grid.scale_max, [&](const BlockScales& s) {
          for (std::int64_t j = 0; j < group; ++j) v_[j] = s.d * own[j];
        });
        if (grid.has_offset)
          changed |= stored_integer(from, k, &BlockScales::m, 0, grid.scale_max,
                                    [&](const BlockScales& s) { std::fill_n(v_, group, -s.dmin); });
      }
      changed |= stored_half(from, &BlockScales::d, [&](const BlockScales& s) {
        for (int k = 0; k < groups; ++k)
          for (std::int64_t j = k * group; j < (k + 1) * group; ++j) v_[j] = static_cast<float>(s.sc[k]) * levels_[j];
      });
      if (grid.has_offset)
        changed |= stored_half(from, &BlockScales::dmin, [&](const BlockScales& s) {
          for (int k = 0; k < groups; ++k) std::fill_n(v_ + k * group, group, -static_cast<float>(s.m[k]));
        });
    }
    return changed;
  }

  // What the loss of the row has come down by.
  double gained() const { return gained_; }

 private:
  void move(std::int64_t j, float d) { subtract(d, H_ + j * width_, width_, g_); }

  // Both take a number of the block at `from`: an integer that rules group k, or a half that rules the whole block. direction(s)
  // writes v, of the columns that are ruled.
  template <class Integers, class Direction>
  bool stored_integer(std::int64_t from, int k, Integers BlockScales::*field, int low, int high, const Direction& direction) {
    const std::int64_t count = row_.group_weights(), begin = from + k * count;
    BlockScales s = row_.blocks()[block(from)];
    std::int8_t& theta = (s.*field)[k];
    direction(s);
    const Slope slope = along(begin, count);
    const float wanted = static_cast<float>(theta) + slope.best();
    if (!std::isfinite(wanted)) return false;
    const int next = static_cast<int>(std::nearbyint(std::clamp(wanted, static_cast<float>(low), static_cast<float>(high))));
    if (!improves(slope.change(next - theta))) return false;
    theta = static_cast<std::int8_t>(next);
    return take(from, s, begin, count);
  }

  template <class Direction>
  bool stored_half(std::int64_t from, float BlockScales::*field, const Direction& direction) {
    BlockScales s = row_.blocks()[block(from)];
    direction(s);
    const Slope slope = along(from, row_.block_weights());
    const float wanted = s.*field + slope.best();
    if (!std::isfinite(wanted)) return false;
    const float next = round_to_f16(std::clamp(wanted, -65504.0f, 65504.0f));
    if (!improves(slope.change(static_cast<double>(next) - s.*field))) return false;
    s.*field = next;
    return take(from, s, from, row_.block_weights());
  }

  // The loss along theta, which moves q by v: L(theta + d) = L + d^2 vHv - 2 d gv.
  struct Slope {
    double gv = 0, vHv = 0;
    float best() const { return vHv > 0 ? static_cast<float>(gv / vHv) : std::nanf(""); }
    double change(double d) const { return d * (d * vHv - 2.0 * gv); }
  };
  bool improves(double change) {
    if (!(change < 0)) return false;
    gained_ -= change;
    return true;
  }
  // Along v_, which is that of columns [begin, begin + count).
  Slope along(std::int64_t begin, std::int64_t count) const {
    multiply_symmetric(H_ + begin * width_ + begin, width_, v_, count, vH_);
    return {dot(v_, g_ + begin, count), dot(v_, vH_, count)};
  }

  // The block at `from` gets these scales; only columns [begin, begin + count) feel it.
  bool take(std::int64_t from, const BlockScales& scales, std::int64_t begin, std::int64_t count) {
    float* d = v_;
    for (std::int64_t j = 0; j < count; ++j) d[j] = -row_.value(begin_ + begin + j);
    row_.set_block(static_cast<std::int64_t>(block(from)), scales);
    for (std::int64_t j = 0; j < count; ++j) move(begin + j, d[j] + row_.value(begin_ + begin + j));
    return true;
  }

  std::size_t block(std::int64_t from) const { return static_cast<std::size_t>((begin_ + from) / row_.block_weights()); }

  PackedRow& row_;
  const float* H_;
  float* g_;
  std::int64_t begin_, width_;
  float *v_, *vH_, *levels_;
  double gained_ = 0;
};

// sum = weights (rows) times M (rows, width), whose lines are `stride` apart.
void mix(const float* weights, const float* M, std::int64_t rows, std::int64_t stride, std::int64_t width, float* sum) {
  std::fill_n(sum, width, 0.0f);
  for (std::int64_t k = 0; k < rows; ++k)
    for (std::int64_t j = 0; j < width; ++j) sum[j] += weights[k] * M[k * stride + j];
}

}  // namespace

void descend(std::span<PackedRow> rows, const at::Tensor& H, at::Tensor& gradient, std::span<const std::int64_t> order,
             const DescentOptions& options, const at::Tensor& A) {
  if (rows.empty()) return;
  const auto count = static_cast<std::int64_t>(rows.size());
  const std::int64_t n = H.size(0), size = kChunk % rows.front().block_weights() == 0 ? kChunk : n;
  std::vector<std::vector<std::int64_t>> orders(static_cast<std::size_t>((n + size - 1) / size));
  for (const std::int64_t column : order) orders[static_cast<std::size_t>(column / size)].push_back(column);
  const bool tied = A.defined();
  // What row r feels is the mean of all rows' gradients by this row of weights.
  const at::Tensor share = tied ? (A / A.diagonal().unsqueeze(1)).contiguous() : at::Tensor();
  std::vector<float> scratch(static_cast<std::size_t>(5 * std::min(size, n)));
  std::vector<bool> done(rows.size()), moved(rows.size());
  double gained = 0;
  for (int pass = 0; pass < options.passes; ++pass) {
    double now = 0;
    std::fill(moved.begin(), moved.end(), false);
    for (std::size_t c = 0; c < orders.size(); ++c) {
      const std::int64_t begin = static_cast<std::int64_t>(c) * size, width = std::min(size, n - begin), end = begin + width;
      const at::Tensor lines = H.narrow(0, begin, width), own = lines.narrow(1, begin, width).contiguous();
      at::Tensor D = at::empty({count, width});
      std::vector<std::int64_t> row_of;  // of the rows of D in use
      for (std::int64_t r = 0; r < count; ++r) {
        const auto at = static_cast<std::size_t>(r);
        if (done[at]) continue;
        float *g = scratch.data(), *felt = g + width, *e_H = gradient.data_ptr<float>() + r * n + begin;
        float* d = D.data_ptr<float>() + static_cast<std::int64_t>(row_of.size()) * width;
        if (tied)
          mix(share.data_ptr<float>() + r * count, gradient.data_ptr<float>() + begin, count, n, width, felt);
        else
          std::copy_n(e_H, width, felt);
        std::copy_n(felt, width, g);
        for (std::int64_t j = 0; j < width; ++j) d[j] = -rows[at].value(begin + j);
        Chunk chunk(rows[at], own.data_ptr<float>(), g, begin, width, felt + width);
        const bool scales = pass > 0 && chunk.scales(), codes = chunk.codes(orders[c]);
        if (!scales && !codes) continue;
        now += chunk.gained() * (tied ? static_cast<double>(A.data_ptr<float>()[r * count + r]) : 1.0);
        for (std::int64_t j = 0; j < width; ++j) d[j] += rows[at].value(begin + j);
        for (std::int64_t j = 0; j < width; ++j) e_H[j] += g[j] - felt[j];
        moved[at] = true;
        row_of.push_back(r);
      }
      if (row_of.empty()) continue;
      // The columns to the left and to the right of the chunk.
      for (const auto& [from, to] : {std::pair(std::int64_t{0}, begin), std::pair(end, n)}) {
        if (from == to) continue;
        const at::Tensor felt = at::mm(D.narrow(0, 0, static_cast<std::int64_t>(row_of.size())), lines.narrow(1, from, to - from));
        for (std::size_t k = 0; k < row_of.size(); ++k) {
          float* g = gradient.data_ptr<float>() + row_of[k] * n + from;
          const float* f = felt.data_ptr<float>() + static_cast<std::int64_t>(k) * (to - from);
          for (std::int64_t i = 0; i < to - from; ++i) g[i] -= f[i];
        }
      }
    }
    gained += now;
    if (pass == 0) continue;  // nothing moved yet but codes
    if (now <= options.worthwhile * gained) break;
    if (!tied)
      for (std::size_t r = 0; r < rows.size(); ++r) done[r] = done[r] || !moved[r];
  }
}

}  // namespace attar
