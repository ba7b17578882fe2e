#include "eval/breakdown.h"

#include <cmath>

#include "tests/datasets/small_tokenizers.h"
#include "tests/support.h"

namespace attar {
namespace {

class Parts : public ::testing::Test {
 protected:
  Tokenizer tokenizer_{test::small_byte_bpe()};
  TextPlan plan_;
  TokenScores scores_;

  // Two units of eight bytes; every byte but the first is scored, the loss is its place, the divergence a hundredth of it.
  Parts() {
    for (std::size_t unit = 0; unit < 2; ++unit) {
      plan_.sequences.push_back({tokenizer_.encode(unit == 0 ? "abcdefgh" : "ABCD\nFGH", false), 0, 7, unit});
      plan_.bytes.push_back(7), plan_.words.push_back(0);
      for (int p = 0; p < 7; ++p) {
        scores_.nll.push_back(p + 1), scores_.reference_nll.push_back(1);
        scores_.kl.push_back(unit == 1 && p == 3 ? 5 : 0.01 * p);
        scores_.top.push_back('x'), scores_.reference_top.push_back('y');
      }
    }
  }
};

TEST_F(Parts, MeansByPlaceAndUnit) {
  const Breakdown parts = break_down(plan_, scores_, tokenizer_);
  ASSERT_EQ(parts.bands.size(), 7u);
  for (int p = 0; p < 7; ++p) {
    EXPECT_EQ(parts.bands[static_cast<std::size_t>(p)].scored, 2);
    EXPECT_EQ(parts.bands[static_cast<std::size_t>(p)].nll, p + 1);
    EXPECT_EQ(parts.bands[static_cast<std::size_t>(p)].from, p + 1);
  }
  ASSERT_EQ(parts.units.size(), 2u);
  EXPECT_EQ(parts.units[1].nll, 4);
  EXPECT_NEAR(parts.units[1].kl, (5 + 0.01 * (0 + 1 + 2 + 4 + 5 + 6)) / 7, 1e-12);
}

TEST_F(Parts, TheWorstTokenStandsInItsContext) {
  const Breakdown parts = break_down(plan_, scores_, tokenizer_, 3);
  ASSERT_EQ(parts.worst.size(), 3u);
  const WorstToken& worst = parts.worst[0];
  EXPECT_EQ(worst.unit, 1u);
  EXPECT_EQ(worst.place, 4);
  EXPECT_EQ(worst.before, "ABCD");
  EXPECT_EQ(worst.token, "\n");
  EXPECT_EQ(worst.after, "FGH");
  EXPECT_EQ(worst.kl, 5);
  EXPECT_DOUBLE_EQ(worst.p, std::exp(-4));
  EXPECT_HAS(worst_text(parts, 1), "...ABCD[ ]FGH");
  EXPECT_EQ(to_json(parts)["worst_tokens"].size(), 3u);
  EXPECT_EQ(to_json(parts)["by_unit"][1]["unit"], 1);
  EXPECT_EQ(parts.worst[1].unit, 0u) << "equals in the order of the text";
}

TEST_F(Parts, WithoutAReferenceByLoss) {
  TokenScores alone;
  alone.nll = scores_.nll, alone.top = scores_.top;
  const Breakdown parts = break_down(plan_, alone, tokenizer_, 1);
  EXPECT_EQ(parts.worst[0].place, 7);
  EXPECT_FALSE(to_json(parts)["worst_tokens"][0].contains("kl"));
  EXPECT_FALSE(to_json(parts)["by_place"][0].contains("kl"));
}

}  // namespace
}  // namespace attar
