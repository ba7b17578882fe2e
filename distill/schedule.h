// The learning rate over the steps: linear warm-up, then constant, or down to a floor on a line or on a cosine.
//
// I. Loshchilov, F. Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017,
// https://arxiv.org/abs/1608.03983, equation 5, without restarts.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <string>

#include "base/error.h"

namespace attar {

enum class Decay { kCosine, kLinear, kConstant };
inline constexpr const char* kDecayNames[] = {"cosine", "linear", "constant"};

inline Decay parse_decay(const std::string& name) {
  for (const Decay decay : {Decay::kCosine, Decay::kLinear, Decay::kConstant})
    if (name == kDecayNames[static_cast<int>(decay)]) return decay;
  fail("[distill] no schedule '", name, "'; there are cosine, linear and constant");
}

struct Schedule {
  double peak = 1e-3;         // learning rate after the warm-up
  double floor_share = 0.1;   // the last step's rate as a share of the peak; a constant schedule does not look at it
  std::int64_t warmup = 0;    // steps
  std::int64_t steps = 1;     // all steps, warm-up included
  Decay decay = Decay::kCosine;
};

// step: 0 ... steps - 1. The first step of a warm-up of n has rate peak / n, the n-th has the peak; the last has the floor.
inline double learning_rate(const Schedule& schedule, std::int64_t step) {
  if (step < schedule.warmup) return schedule.peak * static_cast<double>(step + 1) / static_cast<double>(schedule.warmup);
  const std::int64_t span = schedule.steps - 1 - schedule.warmup;
  const double t = span <= 0 ? 0.0 : std::min(1.0, static_cast<double>(step - schedule.warmup) / static_cast<double>(span));
  const double low = schedule.floor_share * schedule.peak;
  switch (schedule.decay) {
    case Decay::kCosine: return low + 0.5 * (schedule.peak - low) * (1 + std::cos(std::numbers::pi * t));
    case Decay::kLinear: return low + (schedule.peak - low) * (1 - t);
    case Decay::kConstant: break;
  }
  return schedule.peak;
}

}  // namespace attar
