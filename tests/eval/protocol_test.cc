#include "eval/protocol.h"

#include <gtest/gtest.h>

#include <functional>
#include <numeric>

#include "base/error.h"
#include "tests/datasets/small_tokenizers.h"
#include "tests/support.h"

namespace attar {
namespace {

Ids numbers(std::int64_t count) {
  Ids ids(static_cast<std::size_t>(count));
  std::iota(ids.begin(), ids.end(), 100);
  return ids;
}

TEST(Protocol, ChunksFollowEachOtherAndTheRestIsDropped) {
  const auto chunks = cut_chunks(numbers(19), {.context = 8}, -1, "text");
  ASSERT_EQ(chunks.size(), 2u);
  EXPECT_EQ(chunks[0], (Ids{100, 101, 102, 103, 104, 105, 106, 107}));
  EXPECT_EQ(chunks[1].front(), 108);
}

TEST(Protocol, BosReplacesTheFirstTokenOfEachChunk) {
  const auto chunks = cut_chunks(numbers(16), {.context = 8}, 1, "text");
  EXPECT_EQ(chunks[0], (Ids{1, 101, 102, 103, 104, 105, 106, 107}));
  EXPECT_EQ(chunks[1], (Ids{1, 109, 110, 111, 112, 113, 114, 115}));
}

TEST(Protocol, ScoredHalf) {
  EXPECT_EQ(first_scored(8), 4);       // positions 4, 5, 6 predict tokens 5, 6, 7
  EXPECT_EQ(scored_per_chunk(8), 3);
  EXPECT_EQ(scored_per_chunk(512), 255);
  EXPECT_EQ(scored_per_chunk(7), 3);   // positions 3, 4, 5
  EXPECT_EQ(scored_per_chunk(4), 1);
}

TEST(Protocol, Limits) {
  EXPECT_EQ(cut_chunks(numbers(80), {.context = 8, .chunks = 3}, -1, "t").size(), 3u);
  EXPECT_EQ(cut_chunks(numbers(80), {.context = 8, .chunks = 99}, -1, "t").size(), 10u);
  EXPECT_EQ(cut_chunks(numbers(80), {.context = 8, .tokens = 25}, -1, "t").size(), 3u);
  EXPECT_EQ(cut_chunks(numbers(80), {.context = 8, .chunks = 2, .tokens = 25}, -1, "t").size(), 2u);
  EXPECT_EQ(cut_chunks(numbers(80), {.context = 8, .chunks = 5, .tokens = 25}, -1, "t").size(), 3u);
}

TEST(Protocol, RefusesWhatItCannotScore) {
  EXPECT_EQ(cut_chunks(numbers(16), {.context = 8}, -1, "t").size(), 2u);
  EXPECT_NE(test::error_of([] { cut_chunks(numbers(15), {.context = 8}, -1, "tale.txt"); })
                .find("tale.txt has only 15 tokens; a context of 8 needs at least 16"),
            std::string::npos);
  EXPECT_NE(test::error_of([] { cut_chunks({}, {.context = 8}, -1, "t"); }).find("only 0 tokens"), std::string::npos);
  EXPECT_NE(test::error_of([] { cut_chunks(numbers(16), {.context = 3}, -1, "t"); }).find("--context 3"), std::string::npos);
  EXPECT_NE(test::error_of([] { cut_chunks(numbers(16), {.context = -8}, -1, "t"); }).find("--context -8"), std::string::npos);
  EXPECT_NE(test::error_of([] { cut_chunks(numbers(16), {.context = 8, .tokens = 7}, -1, "t"); }).find("--tokens 7"),
            std::string::npos);
  EXPECT_NE(test::error_of([] { cut_chunks(numbers(16), {.context = std::int64_t{1} << 62}, -1, "t"); }).find("only 16 tokens"),
            std::string::npos);
}

TEST(Protocol, TokenizersAreComparedByWhatIdsMean) {
  TokenizerData a, b;
  a.tokens = {"<s>", "x", "y"};
  b.tokens = {"<s>", "x", "y", "[pad]"};
  EXPECT_NO_THROW(require_same_tokens(a, b)) << "padding at the end";
  b.tokens[2] = "z";
  EXPECT_NE(test::error_of([&] { require_same_tokens(a, b); }).find("id 2 is 'y' in the model and 'z' in the reference"),
            std::string::npos);
  b.tokens[2] = "y";
  a.add_bos = true;
  a.bos_id = 0;
  EXPECT_NE(test::error_of([&] { require_same_tokens(a, b); }).find("BOS 0 in the model, no BOS in the reference"),
            std::string::npos);
}

// lm-evaluation-harness's get_rolling_token_windows with context_len 1 and make_disjoint_window, of ten tokens and windows of four:
//   ([P, 0, 1, 2], [0, 1, 2, 3]), ([3, 4, 5, 6], [4, 5, 6, 7]), ([5, 6, 7, 8], [8, 9])
TEST(Rolling, WindowsAreThoseOfTheHarness) {
  const Tokenizer tokenizer(test::small_byte_bpe());
  const TextPlan plan = plan_rolling({"0123456789", "", "ab c"}, tokenizer, {.context = 4}, 263, "text");
  const std::int64_t end = tokenizer.data().eos_id;
  ASSERT_EQ(plan.sequences.size(), 4u);
  EXPECT_EQ(plan.sequences[0].ids, (Ids{end, '0', '1', '2', '3'}));
  EXPECT_EQ(plan.sequences[0].begin, 0);
  EXPECT_EQ(plan.sequences[0].end, 4);
  EXPECT_EQ(plan.sequences[1].ids, (Ids{'3', '4', '5', '6', '7'}));
  EXPECT_EQ(plan.sequences[1].begin, 0);
  EXPECT_EQ(plan.sequences[2].ids, (Ids{'5', '6', '7', '8', '9'}));
  EXPECT_EQ(plan.sequences[2].begin, 2);
  EXPECT_EQ(plan.sequences[2].end, 4);
  EXPECT_EQ(plan.sequences[2].unit, 0u);
  EXPECT_EQ(plan.sequences[3].unit, 1u);
  EXPECT_EQ(plan.bytes, (std::vector<double>{10, 4}));
  EXPECT_EQ(plan.words, (std::vector<double>{1, 2}));
}

TEST(Rolling, WordsAsPythonSplitsThem) {
  const Tokenizer tokenizer(test::small_byte_bpe());
  const auto words = [&](const std::string& text) { return plan_rolling({text}, tokenizer, {.context = 64}, 263, "text").words[0]; };
  EXPECT_EQ(words("one two  three"), 3);
  EXPECT_EQ(words(" one\n\ttwo "), 4) << "re.split keeps the empty ends";
  EXPECT_EQ(words("\xe4\xb8\x80\xe3\x80\x80\xe4\xba\x8c"), 2) << "an ideographic space";
  EXPECT_EQ(words("a\xc2\xa0"  "b"), 2);
}

TEST(Rolling, RefusesWhatItCannotScore) {
  const Tokenizer tokenizer(test::small_byte_bpe());
  EXPECT_NE(test::error_of([&] { plan_rolling({""}, tokenizer, {.context = 4}, 263, "tale"); }).find("tale has no token"), std::string::npos);
  EXPECT_NE(test::error_of([&] { plan_rolling({"a"}, tokenizer, {.context = 1}, 263, "t"); }).find("at least 2"), std::string::npos);
  EXPECT_NE(test::error_of([&] { plan_rolling({"a"}, tokenizer, {.context = 4, .tokens = 9}, 263, "t"); }).find("--tokens"), std::string::npos);
  EXPECT_NE(test::error_of([&] { plan_rolling({"hello"}, tokenizer, {.context = 4}, 200, "t"); }).find("id 259"), std::string::npos);
}

}  // namespace
}  // namespace attar
