// The learning rate over the steps: linear warm-up, then a cosine down to a floor.
//
// I. Loshchilov, F. Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017,
// https://arxiv.org/abs/1608.03983, equation 5, without restarts.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace attar {

struct Schedule {
  double peak = 1e-3;         // learning rate after the warm-up
  double floor_share = 0.1;   // the last step's rate as a share of the peak
  std::int64_t warmup = 0;    // steps
  std::int64_t steps = 1;     // all steps, warm-up included
};

// step: 0 ... steps - 1. The first step of a warm-up of n has rate peak / n, the n-th has the peak; the last has the floor.
inline double learning_rate(const Schedule& schedule, std::int64_t step) {
  if (step < schedule.warmup) return schedule.peak * static_cast<double>(step + 1) / static_cast<double>(schedule.warmup);
  const std::int64_t span = schedule.steps - 1 - schedule.warmup;
  const double t = span <= 0 ? 0.0 : std::min(1.0, static_cast<double>(step - schedule.warmup) / static_cast<double>(span));
  const double low = schedule.floor_share * schedule.peak;
  return low + 0.5 * (schedule.peak - low) * (1 + std::cos(std::numbers::pi * t));
}

}  // namespace attar
