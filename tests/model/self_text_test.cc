#include "model/self_text.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/console.h"
#include "base/error.h"
#include "base/threads.h"
#include "tests/model/models.h"

namespace attar {
namespace {

Checkpoint writer(std::int64_t bos, std::int64_t eos) {
  const auto decoder = test::tiny_decoder(test::tiny_config(Family::kLlama, 4, 2, 16));
  Checkpoint model = to_checkpoint(*decoder, {});
  model.tokenizer.bos_id = bos;
  model.tokenizer.eos_id = eos;
  return model;
}

class SelfText : public testing::Test {
 protected:
  void SetUp() override { set_verbosity(Verbosity::kQuiet); }
  void TearDown() override {
    set_verbosity(Verbosity::kNormal);
    set_thread_count(0);
  }
};

TEST_F(SelfText, IsTheSameAtAnyNumberOfThreadsAndForAnyCount) {
  const Checkpoint model = writer(1, 2);
  set_thread_count(1);
  const auto once = write_self_text(model, 21, 24, 7);
  ASSERT_EQ(once.size(), 21u);
  for (const Ids& chunk : once) {
    EXPECT_EQ(chunk.size(), 24u);
    EXPECT_EQ(chunk.front(), 1);
  }
  set_thread_count(3);
  EXPECT_EQ(write_self_text(model, 21, 24, 7), once);
  EXPECT_EQ(write_self_text(model, 3, 24, 7), std::vector<Ids>(once.begin(), once.begin() + 3));
  EXPECT_NE(write_self_text(model, 21, 24, 8), once);
  EXPECT_NE(once[0], once[1]);
}

TEST_F(SelfText, FollowsTheModelsDistribution) {
  const Checkpoint model = writer(1, -1);
  const auto decoder = load_decoder(model);
  const at::NoGradGuard no_grad;
  const at::Tensor p = at::softmax(decoder->forward(at::tensor({1}, at::kLong).view({1, 1})), -1).flatten();
  constexpr int kDraws = 4000;
  std::vector<double> count(static_cast<std::size_t>(p.numel()));
  for (const Ids& chunk : write_self_text(model, kDraws, 2, 3)) ++count[static_cast<std::size_t>(chunk[1])];
  double chi_square = 0;
  for (std::int64_t id = 0; id < p.numel(); ++id) {
    const double expected = kDraws * p[id].item<double>();
    chi_square += (count[static_cast<std::size_t>(id)] - expected) * (count[static_cast<std::size_t>(id)] - expected) / expected;
  }
  const double freedom = static_cast<double>(p.numel() - 1);
  EXPECT_LT(chi_square, freedom + 4 * std::sqrt(2 * freedom));
}

TEST_F(SelfText, AfterAnEndComesANewBeginning) {
  const Checkpoint model = writer(1, 5);
  int ends = 0;
  for (const Ids& chunk : write_self_text(model, 40, 40, 1))
    for (std::size_t i = 0; i + 1 < chunk.size(); ++i) {
      if (chunk[i] != 5) continue;
      ++ends;
      EXPECT_EQ(chunk[i + 1], 1);
    }
  EXPECT_GT(ends, 5);
  // Without BOS texts begin with what ends them.
  for (const Ids& chunk : write_self_text(writer(-1, 5), 3, 8, 1)) EXPECT_EQ(chunk.front(), 5);
  EXPECT_THROW(write_self_text(writer(-1, -1), 3, 8, 1), Error);
}

}  // namespace
}  // namespace attar
