#include "distill/schedule.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/random.h"
#include "distill/loss_watch.h"

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

TEST(Schedule, LinearAndConstant) {
  const Schedule linear{.peak = 2.0, .floor_share = 0.1, .warmup = 4, .steps = 15, .decay = parse_decay("linear")};
  EXPECT_DOUBLE_EQ(learning_rate(linear, 1), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate(linear, 4), 2.0);
  EXPECT_DOUBLE_EQ(learning_rate(linear, 9), 1.1);
  EXPECT_NEAR(learning_rate(linear, 14), 0.2, 1e-15);
  const Schedule constant{.peak = 2.0, .floor_share = 0.1, .warmup = 4, .steps = 15, .decay = parse_decay("constant")};
  EXPECT_DOUBLE_EQ(learning_rate(constant, 0), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate(constant, 14), 2.0);
  EXPECT_THROW(parse_decay("step"), Error);
}

TEST(LossWatch, FindsAJumpAndNothingElse) {
  LossWatch watch;
  Random random(1);
  for (int i = 0; i < 500; ++i) EXPECT_FALSE(watch.spike(3.0 * std::exp(-i / 200.0) + 0.1 * random.uniform())) << i;
  EXPECT_TRUE(watch.spike(1.5));
  EXPECT_FALSE(watch.spike(0.3));
  LossWatch taken_up = nlohmann::json::parse(nlohmann::json(watch).dump()).get<LossWatch>();  // as a resumed run has it
  EXPECT_EQ(taken_up.spike(0.9), watch.spike(0.9));
  EXPECT_EQ(taken_up.mean, watch.mean);
}

}  // namespace
}  // namespace attar
