// Starting points at once give the bits that each alone gives, also where weights are not clamped to the levels.
#include "kernels_ref/search_batch.h"

#include <cmath>
#include <limits>
#include <vector>

#include "base/random.h"
#include "tests/support.h"

namespace attar::search {
namespace {

std::vector<float> numbers(std::size_t count, double low, double high, Random& random) {
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(low + (high - low) * random.uniform());
  return values;
}

template <class Levels>
void expect_same_sums(const Levels& levels) {
  Random random(5);
  for (const int n : {16, 32, 128}) {
    const auto size = static_cast<std::size_t>(n);
    const std::vector<float> x = numbers(size, -3, 3, random), w = numbers(size, 0, 2, random);
    Floats scale{};
    for (int c = 0; c < kAtOnce; ++c) scale[c] = c == 3 ? 0.0f : static_cast<float>(random.uniform() - 0.5);
    const ScaleSumsOf<Floats> all = measure(levels, x.data(), w.data(), n, scale);
    for (int c = 0; c < kAtOnce; ++c) {
      const ScaleSums one = measure(levels, x.data(), w.data(), n, static_cast<float>(scale[c]));
      EXPECT_EQ(all.rr[c], one.rr);
      EXPECT_EQ(all.rl[c], one.rl);
      EXPECT_EQ(all.ll[c], one.ll);
      EXPECT_EQ(all.refitted_error()[c], one.refitted_error());
      EXPECT_EQ(all.correction()[c], one.correction());
    }
  }
}

TEST(Search, ScalesTogetherAndAlone) {
  expect_same_sums(Uniform{-8, 7});
  expect_same_sums(Uniform{-128, 127});
  expect_same_sums(Iq4{});
}

// Q4_0, Q5_0, Q8_0, Q3_K, Q6_K.
TEST(Search, NothingIsClampedWhereTargetsSaySo) {
  Random random(8);
  for (const auto& [low, high] : {std::pair(-8.0f, 7.0f), {-16.0f, 15.0f}, {-128.0f, 127.0f}, {-4.0f, 3.0f}, {-32.0f, 31.0f}}) {
    const Uniform levels{low, high};
    const TargetList list({SearchKind::kScale, nullptr, nullptr, 32, 1, low, high, false, 0, 0});
    const Targets targets = list.all();
    EXPECT_EQ(targets.within.size() + targets.above.size() + targets.outside.size(), list.count);
    for (const Span<const float> part : {targets.within, targets.above, targets.outside}) EXPECT_EQ(part.size() % 2, 0u) << low;
    EXPECT_FALSE(targets.within.empty()) << low;
    // Whichever sign the target has, the other weights have either and are at most as large.
    const auto expect_same = [&](Span<const float> part, auto nearest) {
      for (const float target : part)
        for (int i = 0; i <= 1000; ++i) {
          const float v = std::fabs(target) * (i == 0 ? 1.0f : i == 1 ? -1.0f : static_cast<float>(2 * random.uniform() - 1));
          ASSERT_EQ(nearest(v), levels.nearest(v)) << v << " of " << low << " to " << high;
        }
    };
    expect_same(targets.within, [&](float v) { return levels.within(v); });
    expect_same(targets.above, [&](float v) { return levels.nearest_above(v); });
  }
}

TEST(Search, AffineTogetherAndAlone) {
  Random random(6);
  for (const float max_offset : {0.0f, std::numeric_limits<float>::infinity()}) {
    const std::vector<float> x = numbers(32, -1, 4, random), w = numbers(32, 0, 2, random);
    Floats scale{}, offset{};
    for (int c = 0; c < kAtOnce; ++c) {
      scale[c] = c == 2 ? 0.0f : static_cast<float>(0.4 * random.uniform());  // zero: all weights on one level
      offset[c] = static_cast<float>(random.uniform() - 1.0);
    }
    const AffineSumsOf<Floats> all = measure_affine(15, x.data(), w.data(), 32, scale, offset);
    const AffineStepOf<Floats> steps = refit_affine(all, scale, offset, max_offset);
    for (int c = 0; c < kAtOnce; ++c) {
      const float s = scale[c], o = offset[c];
      const AffineSums one = measure_affine(15, x.data(), w.data(), 32, s, o);
      EXPECT_EQ(all.rr[c], one.rr);
      EXPECT_EQ(all.r[c], one.r);
      EXPECT_EQ(all.rq[c], one.rq);
      EXPECT_EQ(all.q[c], one.q);
      EXPECT_EQ(all.qq[c], one.qq);
      EXPECT_EQ(all.w[c], one.w);
      const AffineStep step = refit_affine(one, s, o, max_offset);
      EXPECT_EQ(steps.scale[c], step.scale);
      EXPECT_EQ(steps.offset[c], step.offset);
      EXPECT_EQ(steps.error[c], step.error);
      EXPECT_LE(step.offset, max_offset);
    }
  }
}

}  // namespace
}  // namespace attar::search
