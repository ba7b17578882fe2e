#include "distill/schedule.h"

#include <gtest/gtest.h>

namespace attar {
namespace {

TEST(Schedule, RisesLinearlyThenFollowsACosine) {
  const Schedule schedule{.peak = 2.0, .floor_share = 0.1, .warmup = 4, .steps = 15};
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 0), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 1), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 3), 2.0);
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 4), 2.0);               // top of the cosine
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 9), 0.2 + 0.5 * 1.8);   // half way
  EXPECT_NEAR(learning_rate(schedule, 14), 0.2, 1e-15);            // floor
  for (std::int64_t step = 5; step < 15; ++step)
    EXPECT_LT(learning_rate(schedule, step), learning_rate(schedule, step - 1));
}

TEST(Schedule, WithoutWarmupOrWithOneStep) {
  EXPECT_DOUBLE_EQ(learning_rate({.peak = 1.0, .floor_share = 0.0, .warmup = 0, .steps = 1}, 0), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate({.peak = 1.0, .floor_share = 0.5, .warmup = 0, .steps = 2}, 1), 0.5);
}

}  // namespace
}  // namespace attar
