// Starting points at once give the bits that each alone gives.
#include "kernels_ref/search.h"

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
