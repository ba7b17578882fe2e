// Symbols: e = t - q  error of the row; g = e H  (half the negative gradient of the loss L = e H e^T).
// Moving q by d changes the loss by  d H d^T - 2 g d^T  and g by  -d H.
#include "quantize/descent.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/half.h"

namespace attar {
namespace {

class Descent {
 public:
  Descent(PackedRow& row, const float* H, std::span<float> g) : row_(row), H_(H), g_(g), n_(row.columns()), v_(at(row.block_weights())), vH_(v_), moved_(g.size()) {}

  // With all others fixed the best q_j is the grid's value nearest to q_j + g_j / H_jj.
  bool codes(std::span<const std::int64_t> order) {
    bool changed = false;
    for (const std::int64_t j : order) {
      const float Hjj = H_[j * n_ + j], q = row_.value(j);
      const int code = row_.nearest(j, q + g_[at(j)] / Hjj);
      if (code == row_.code(j)) continue;
      const float d = row_.value(j, code) - q;
      if (!(d * (d * Hjj - 2.0f * g_[at(j)]) < 0.0f)) continue;
      const float* line = H_ + j * n_;
      for (std::int64_t i = 0; i < n_; ++i) g_[at(i)] -= d * line[i];
      row_.set_code(j, code);
      changed = true;
    }
    return changed;
  }

  // q is linear in each number that a block stores: q = theta v + rest. The best theta is theta + (g v^T) / (v H v^T).
  bool scales() {
    const GridInfo& grid = row_.grid();
    const std::int64_t width = row_.block_weights(), group = row_.group_weights();
    const int groups = static_cast<int>(width / group);
    const bool many = grid.scale_max > grid.scale_min;
    bool changed = false;
    for (std::int64_t b = 0; b * width < n_; ++b) {
      const std::int64_t begin = b * width;
      for (int k = 0; many && k < groups; ++k) {
        const std::int64_t from = begin + k * group, to = from + group;
        changed |= stored_integer(b, from, to, [k](BlockScales& s) -> int& { return s.sc[k]; }, grid.scale_min, grid.scale_max,
                                  [&](const BlockScales& s, std::int64_t j) { return s.d * code_level(j); });
        if (grid.has_offset)
          changed |= stored_integer(b, from, to, [k](BlockScales& s) -> int& { return s.m[k]; }, 0, grid.scale_max,
                                    [&](const BlockScales& s, std::int64_t) { return -s.dmin; });
      }
      changed |= stored_half(b, &BlockScales::d, [&](const BlockScales& s, std::int64_t j) {
        return static_cast<float>(s.sc[(j - begin) / group]) * code_level(j);
      });
      if (grid.has_offset)
        changed |= stored_half(b, &BlockScales::dmin, [&](const BlockScales& s, std::int64_t j) {
          return -static_cast<float>(s.m[(j - begin) / group]);
        });
    }
    return changed;
  }

 private:
  static std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }
  float code_level(std::int64_t j) const { return level(row_.grid(), row_.code(j)); }

  template <class Field, class Direction>
  bool stored_integer(std::int64_t b, std::int64_t from, std::int64_t to, const Field& field, int low, int high,
                      const Direction& direction) {
    BlockScales s = row_.blocks()[at(b)];
    int& theta = field(s);
    const float step = best_step(from, to, [&](std::int64_t j) { return direction(s, j); });
    if (!std::isfinite(step)) return false;
    const float wanted = std::clamp(static_cast<float>(theta) + step, static_cast<float>(low), static_cast<float>(high));
    const int next = static_cast<int>(std::nearbyint(wanted));
    if (next == theta) return false;
    theta = next;
    return accept(b, s, from, to);
  }

  template <class Direction>
  bool stored_half(std::int64_t b, float BlockScales::*field, const Direction& direction) {
    BlockScales s = row_.blocks()[at(b)];
    const std::int64_t from = b * row_.block_weights(), to = from + row_.block_weights();
    const float step = best_step(from, to, [&](std::int64_t j) { return direction(s, j); });
    if (!std::isfinite(step)) return false;
    const float next = round_to_f16(std::clamp(s.*field + step, -65504.0f, 65504.0f));
    if (next == s.*field) return false;
    s.*field = next;
    return accept(b, s, from, to);
  }

  // (g v^T) / (v H v^T) for a v that is zero outside [from, to); NaN if v is.
  template <class Direction>
  float best_step(std::int64_t from, std::int64_t to, const Direction& direction) {
    const std::int64_t width = to - from;
    float *v = v_.data(), *vH = vH_.data();
    for (std::int64_t j = 0; j < width; ++j) v[j] = direction(from + j), vH[j] = 0;
    for (std::int64_t j = 0; j < width; ++j) {
      const float* line = H_ + (from + j) * n_ + from;
      for (std::int64_t i = 0; i < width; ++i) vH[i] += v[j] * line[i];
    }
    double slope = 0, curvature = 0;
    for (std::int64_t j = 0; j < width; ++j) {
      curvature += static_cast<double>(v[j]) * vH[j];
      slope += static_cast<double>(v[j]) * g_[at(from + j)];
    }
    return curvature > 0 ? static_cast<float>(slope / curvature) : std::nanf("");
  }

  // Takes the block's new scales if they lower the loss.
  bool accept(std::int64_t b, const BlockScales& scales, std::int64_t from, std::int64_t to) {
    const BlockScales before = row_.blocks()[at(b)];
    float* d = v_.data();
    for (std::int64_t j = from; j < to; ++j) d[j - from] = -row_.value(j);
    row_.set_block(b, scales);
    for (std::int64_t j = from; j < to; ++j) d[j - from] += row_.value(j);
    std::fill(moved_.begin(), moved_.end(), 0.0f);  // d H
    for (std::int64_t j = from; j < to; ++j) {
      const float* line = H_ + j * n_;
      const float dj = d[j - from];
      for (std::int64_t i = 0; i < n_; ++i) moved_[at(i)] += dj * line[i];
    }
    double change = 0;
    for (std::int64_t j = from; j < to; ++j)
      change += static_cast<double>(d[j - from]) * (moved_[at(j)] - 2.0 * g_[at(j)]);
    if (!(change < 0)) {
      row_.set_block(b, before);
      return false;
    }
    for (std::int64_t i = 0; i < n_; ++i) g_[at(i)] -= moved_[at(i)];
    return true;
  }

  PackedRow& row_;
  const float* H_;
  std::span<float> g_;
  std::int64_t n_;
  std::vector<float> v_, vH_;  // (block) scratch
  std::vector<float> moved_;   // (columns) scratch
};

}  // namespace

void descend(PackedRow& row, const float* H, std::span<float> gradient, std::span<const std::int64_t> order, int passes) {
  Descent descent(row, H, gradient);
  if (passes > 0) descent.codes(order);
  for (int pass = 1; pass < passes; ++pass) {
    const bool scales = descent.scales(), codes = descent.codes(order);
    if (!scales && !codes) break;
  }
}

}  // namespace attar
