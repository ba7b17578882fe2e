#include "model/batch_text.h"

#include <gtest/gtest.h>

#include "tests/support.h"

namespace attar {
namespace {

TEST(Repetition, IsTheShareOfRunsSeenBefore) {
  EXPECT_EQ(repetition(std::vector<std::int64_t>{}), 0.0);
  EXPECT_EQ(repetition(std::vector<std::int64_t>{1, 1, 1, 1}), 0.0);
  EXPECT_EQ(repetition(std::vector<std::int64_t>{1, 1, 1, 1, 1}), 0.5);
  EXPECT_EQ(repetition(std::vector<std::int64_t>{1, 2, 3, 4, 5, 6, 7, 8}), 0.0);
  EXPECT_NEAR(repetition(std::vector<std::int64_t>{1, 2, 3, 4, 9, 1, 2, 3, 4}), 1.0 / 6, 1e-15);
}

TEST(TextFilter, EveryReasonIsNamed) {
  Generated text;
  text.ids = {1, 2, 3, 4, 5, 6};
  text.text = "fine";
  text.stopped_by = "eos";
  TextFilter filter{6, 0.3, false};
  EXPECT_EQ(reason_to_drop(text, filter), "");
  filter.min_tokens = 7;
  EXPECT_EQ(reason_to_drop(text, filter), "short");
  filter.min_tokens = 1;
  text.stopped_by = "length";
  EXPECT_EQ(reason_to_drop(text, filter), "unfinished");
  filter.keep_unfinished = true;
  EXPECT_EQ(reason_to_drop(text, filter), "");
  text.ids = {1, 1, 1, 1, 1, 1, 1};
  EXPECT_EQ(reason_to_drop(text, filter), "repetitive");
  text.ids = {1, 2};
  text.text = "\xff";
  EXPECT_EQ(reason_to_drop(text, filter), "not_text");
}

}  // namespace
}  // namespace attar
