#include "eval/protocol.h"

#include <gtest/gtest.h>

#include <functional>
#include <numeric>

#include "base/error.h"

namespace attar {
namespace {

Ids numbers(std::int64_t count) {
  Ids ids(static_cast<std::size_t>(count));
  std::iota(ids.begin(), ids.end(), 100);
  return ids;
}

std::string message(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
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
  EXPECT_NE(message([] { cut_chunks(numbers(15), {.context = 8}, -1, "tale.txt"); })
                .find("tale.txt has only 15 tokens; a context of 8 needs at least 16"),
            std::string::npos);
  EXPECT_NE(message([] { cut_chunks({}, {.context = 8}, -1, "t"); }).find("only 0 tokens"), std::string::npos);
  EXPECT_NE(message([] { cut_chunks(numbers(16), {.context = 3}, -1, "t"); }).find("--context 3"), std::string::npos);
  EXPECT_NE(message([] { cut_chunks(numbers(16), {.context = -8}, -1, "t"); }).find("--context -8"), std::string::npos);
  EXPECT_NE(message([] { cut_chunks(numbers(16), {.context = 8, .tokens = 7}, -1, "t"); }).find("--tokens 7"),
            std::string::npos);
  EXPECT_NE(message([] { cut_chunks(numbers(16), {.context = std::int64_t{1} << 62}, -1, "t"); }).find("only 16 tokens"),
            std::string::npos);
}

TEST(Protocol, TokenizersAreComparedByWhatIdsMean) {
  TokenizerData a, b;
  a.tokens = {"<s>", "x", "y"};
  b.tokens = {"<s>", "x", "y", "[pad]"};
  EXPECT_NO_THROW(require_same_tokens(a, b)) << "padding at the end";
  b.tokens[2] = "z";
  EXPECT_NE(message([&] { require_same_tokens(a, b); }).find("id 2 is 'y' in the model and 'z' in the reference"),
            std::string::npos);
  b.tokens[2] = "y";
  a.add_bos = true;
  a.bos_id = 0;
  EXPECT_NE(message([&] { require_same_tokens(a, b); }).find("BOS 0 in the model, no BOS in the reference"),
            std::string::npos);
}

}  // namespace
}  // namespace attar
