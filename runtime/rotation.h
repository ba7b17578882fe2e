// Rotary position embedding as the decoder applies it: a table that grows with the context. Internal.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "runtime/rope.h"

namespace attar {

// cos and sin of every position's angles: (positions, pairs). The config it is made from must outlive it.
class Rotation {
 public:
  Rotation(const Rope& rope, const ModelConfig& config) : rope_(rope), config_(config), follows_length_(depends_on_length(rope)) {}

  // True if keys turned for a context of `from` tokens are not those of one of `to`.
  bool changes(std::size_t from, std::size_t to) const { return follows_length_ && frequencies(from).theta != frequencies(to).theta; }

  // Before positions up to `end` are turned. Throws Error for values that give no finite angles.
  void prepare(std::size_t end) {
    const RopeFrequencies now = frequencies(end);
    if (now.theta == theta_ && end <= rows_) return;
    theta_ = now.theta;
    rows_ = std::max<std::size_t>(end + end / 2, 128);
    cos_.resize(rows_ * theta_.size());
    sin_.resize(rows_ * theta_.size());
    for (std::size_t m = 0; m < rows_; ++m) {
      for (std::size_t j = 0; j < theta_.size(); ++j) {
        const float angle = static_cast<float>(m) * theta_[j];
        cos_[m * theta_.size() + j] = static_cast<float>(std::cos(angle) * now.attention_factor);
        sin_[m * theta_.size() + j] = static_cast<float>(std::sin(angle) * now.attention_factor);
      }
    }
  }

  // Turns the pairs (j, j + r) of a head at `position` and multiplies everything by scale.
  void turn(float* x, std::size_t head_dim, std::size_t position, float scale) const {
    const std::size_t r = theta_.size();
    const float *c = cos_.data() + position * r, *s = sin_.data() + position * r;
    for (std::size_t j = 0; j < r; ++j) {
      const float a = x[j], b = x[j + r];
      x[j] = (a * c[j] - b * s[j]) * scale;
      x[j + r] = (b * c[j] + a * s[j]) * scale;
    }
    for (std::size_t j = 2 * r; j < head_dim; ++j) x[j] *= scale;
  }

 private:
  RopeFrequencies frequencies(std::size_t length) const {
    return rope_frequencies(rope_, config_.head_dim, config_.max_positions, static_cast<std::int64_t>(length));
  }

  const Rope& rope_;
  const ModelConfig& config_;
  bool follows_length_;
  std::size_t rows_ = 0;
  std::vector<float> theta_, cos_, sin_;
};

}  // namespace attar
