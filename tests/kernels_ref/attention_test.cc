// Every variant of attention against sums in double, and of widening against all 65,536 halves.
#include <cmath>
#include <numeric>

#include "base/half.h"
#include "base/random.h"
#include "kernels_ref/variants.h"
#include "tests/kernels_ref/with_variant.h"
#include "tests/support.h"

namespace attar {
namespace {

class Attention : public ::testing::TestWithParam<std::string> {
  const test::WithVariant with_{GetParam()};
};

std::vector<double> exact(const AttentionTask& task, std::size_t i) {
  std::vector<double> weights(task.last[i]), out(task.head_dim);
  double sum = 0;
  for (std::size_t k = task.first[i]; k < task.last[i]; ++k) {
    double score = 0;
    for (std::size_t j = 0; j < task.head_dim; ++j) score += double{task.q[i][j]} * task.keys[j * task.stride + k];
    if (task.softcap > 0) score = task.softcap * std::tanh(score / task.softcap);
    sum += weights[k] = std::exp(score);
  }
  for (std::size_t k = task.first[i]; k < task.last[i]; ++k)
    for (std::size_t j = 0; j < task.head_dim; ++j) out[j] += weights[k] / sum * task.values[k * task.head_dim + j];
  return out;
}

TEST_P(Attention, IsTheSoftmaxOfTheScores) {
  Random random(1);
  const auto draw = [&](std::size_t count) {
    std::vector<float> x(count);
    for (float& v : x) v = static_cast<float>(4 * random.uniform() - 2);
    return x;
  };
  for (const std::size_t d : {6, 16, 48, 80, 128}) {
    for (const std::size_t keys : {1, 5, 64, 65, 300}) {
      const std::size_t stride = (keys + kAttentionKeys - 1) / kAttentionKeys * kAttentionKeys;
      std::vector<float> K = draw(d * stride), V = draw(keys * d);
      for (std::size_t j = 0; j < d; ++j)  // what pads the keys would win every softmax
        for (std::size_t k = keys; k < stride; ++k) K[j * stride + k] = 1e6f;
      for (const std::size_t queries : {std::size_t{1}, kAttentionQueries}) {
        for (const float softcap : {0.0f, 3.0f}) {
          const std::vector<float> q = draw(queries * d);
          std::vector<float> scores(queries * stride), out(queries * d);
          AttentionTask task = {queries, {}, K.data(), V.data(), d, stride, {}, {}, softcap, scores.data(), {}};
          for (std::size_t i = 0; i < queries; ++i) {
            task.q[i] = q.data() + i * d, task.out[i] = out.data() + i * d;
            task.last[i] = keys - std::min(keys - 1, queries - 1 - i);  // the last query sees all
            task.first[i] = task.last[i] - 1 - random.below(task.last[i]);
          }
          active_variant().attention(task);
          for (std::size_t i = 0; i < queries; ++i) {
            const std::vector<double> wanted = exact(task, i);
            for (std::size_t j = 0; j < d; ++j)
              ASSERT_NEAR(task.out[i][j], wanted[j], 2e-5) << "d " << d << ", keys " << keys << ", query " << i << " of " << queries;
          }
        }
      }
    }
  }
}

TEST_P(Attention, WidensEveryHalf) {
  std::vector<std::uint16_t> halves(65536);
  std::iota(halves.begin(), halves.end(), 0);
  std::vector<float> wide(halves.size() + 1, -7.0f);
  for (const std::size_t count : {std::size_t{65536}, std::size_t{13}, std::size_t{0}}) {
    std::fill(wide.begin(), wide.end(), -7.0f);
    active_variant().widen(halves.data(), count, wide.data());
    for (std::size_t i = 0; i < count; ++i) {
      if (std::isnan(f32_from_f16(halves[i]))) {
        EXPECT_TRUE(std::isnan(wide[i])) << i;
      } else {
        EXPECT_EQ(bits_as<std::uint32_t>(wide[i]), bits_as<std::uint32_t>(f32_from_f16(halves[i]))) << i;
      }
    }
    EXPECT_EQ(wide[count], -7.0f);
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, Attention, ::testing::ValuesIn(kernel_variants()), [](const auto& each) { return each.param; });

}  // namespace
}  // namespace attar
