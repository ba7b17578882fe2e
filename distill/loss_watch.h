// Notices a loss that jumps: more than six standard deviations above what it was over the last fifty steps or so.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>

namespace attar {

struct LossWatch {
  double mean = 0, variance = 0;  // with weights that fall by 2 % a step
  std::int64_t count = 0;

  // Takes the next step's loss, and says if it is a spike. The first steps, where losses fall fast, are none.
  bool spike(double loss) {
    constexpr std::int64_t kFirst = 20;
    constexpr double kDeviations = 6, kShare = 0.02;
    const bool found = count >= kFirst && loss > mean + kDeviations * std::sqrt(variance);
    const double share = std::max(kShare, 1.0 / static_cast<double>(++count)), difference = loss - mean;
    mean += share * difference;
    variance = (1 - share) * (variance + share * difference * difference);
    return found;
  }
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(LossWatch, mean, variance, count)

}  // namespace attar
