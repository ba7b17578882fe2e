// What GPTQ (gptq.h), the descent behind it (descent.h) and AutoRound (autoround.h) can be asked.
#pragma once

#include <cstdint>

namespace attar {

struct DescentOptions {
  int passes = 8;  // at most, over codes, and over scales in between
  // A pass that lowers the error by less than this share of what all have lowered it by is the last.
  double worthwhile = 0.08;
};

struct GptqOptions {
  // Added to the diagonal of H, as a share of its mean. The paper's 0.01 trusts little calibration text too much: with
  // 12 k tokens on a 15 M model, KL divergence on other text was 0.0370 at 0.01, 0.0356 at 0.05, 0.0344 at 0.1.
  double damping = 0.1;
  bool act_order = true;       // visit the columns with the largest diagonal first
  DescentOptions descent;      // after the columns are done
};

struct AutoRoundOptions {
  int steps = 200;
  std::int64_t batch = 8;  // chunks in a step
  double rate = 0.005;     // the paper's: of V, in steps of the grid; falls to nothing along the way
};

// |h_q - h_fp|^2 over all chunks.
struct AutoRoundResult {
  double before = 0, after = 0;
};

}  // namespace attar
