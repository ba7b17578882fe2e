// Attention over each kind of cache against sums in double over what was written.
#include "runtime/kv_cache.h"

#include <cmath>

#include "base/random.h"
#include "base/threads.h"
#include "tests/support.h"

namespace attar {
namespace {

std::vector<float> draw(std::size_t count, Random& random) {
  std::vector<float> x(count);
  for (float& v : x) v = static_cast<float>(2 * random.uniform() - 1);
  return x;
}

std::vector<double> exact(const AttentionShape& s, std::size_t tokens, const std::vector<float>& q, const std::vector<float>& k, const std::vector<float>& v) {
  std::vector<double> out(q.size());
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t h = 0; h < s.heads; ++h) {
      const std::size_t kv = h / (s.heads / s.kv_heads), first = s.window > 0 && t + 1 > s.window ? t + 1 - s.window : 0;
      const std::size_t row = (t * s.heads + h) * s.head_dim;
      std::vector<double> weights(t + 1);
      double sum = 0;
      for (std::size_t p = first; p <= t; ++p) {
        double score = 0;
        for (std::size_t j = 0; j < s.head_dim; ++j) score += double{q[row + j]} * k[(p * s.kv_heads + kv) * s.head_dim + j];
        sum += weights[p] = std::exp(score);
      }
      for (std::size_t p = first; p <= t; ++p)
        for (std::size_t j = 0; j < s.head_dim; ++j) out[row + j] += weights[p] / sum * v[(p * s.kv_heads + kv) * s.head_dim + j];
    }
  }
  return out;
}

class Cache : public ::testing::TestWithParam<CacheType> {
 protected:
  double tolerance() const { return GetParam() == CacheType::kF32 ? 1e-5 : GetParam() == CacheType::kF16 ? 2e-3 : 3e-2; }
};

TEST_P(Cache, AttendsToWhatWasWritten) {
  for (const std::size_t window : {0, 50}) {
    const AttentionShape shape{6, 2, 64, window, 0};
    constexpr std::size_t kTokens = 300;  // past two growths of room
    Random random(1);
    const auto q = draw(kTokens * shape.heads * shape.head_dim, random);
    const auto k = draw(kTokens * shape.kv_heads * shape.head_dim, random), v = draw(k.size(), random);
    const std::vector<double> wanted = exact(shape, kTokens, q, k, v);
    std::vector<std::vector<float>> all;
    for (const int threads : {1, 3}) {
      set_thread_count(threads);
      for (const std::size_t piece : {std::size_t{1}, std::size_t{40}, kTokens}) {
        LayerCache cache(GetParam(), shape.kv_heads, shape.head_dim);
        std::vector<float> out(q.size());
        for (std::size_t t = 0; t < kTokens; t += piece) {
          const std::size_t count = std::min(piece, kTokens - t), kv = shape.kv_heads * shape.head_dim, qo = shape.heads * shape.head_dim;
          cache.write(t, count, k.data() + t * kv, v.data() + t * kv);
          cache.attend(shape, t, count, q.data() + t * qo, out.data() + t * qo);
        }
        for (std::size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(out[i], wanted[i], tolerance()) << "piece " << piece << ", " << i;
        if (piece == 40) all.push_back(std::move(out));
      }
    }
    set_thread_count(0);
    EXPECT_EQ(all[0], all[1]) << "threads";
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Cache, ::testing::Values(CacheType::kF32, CacheType::kF16, CacheType::kQ8_0),
                         [](const auto& each) { return std::string(each.param == CacheType::kF32 ? "f32" : each.param == CacheType::kF16 ? "f16" : "q8_0"); });

TEST(CacheErrors, HeadsThatDoNotDivide) {
  EXPECT_HAS(test::error_of([] { LayerCache(CacheType::kQ8_0, 2, 48); }), "heads of 48 do not divide");
  EXPECT_EQ(cache_bytes(CacheType::kF16, 2, 64), 512u);
  EXPECT_EQ(cache_bytes(CacheType::kQ8_0, 2, 64), 272u);
}

}  // namespace
}  // namespace attar
