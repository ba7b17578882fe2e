#include "datasets/train_bpe.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "datasets/stories.h"
#include "datasets/tokenizer.h"

namespace attar {
namespace {

using Merges = std::vector<std::pair<std::string, std::string>>;

// The dictionary of the paper's figure 1. Counted by hand: es 9, est 9, lo 7, low 7, then e-w, n-e and w-est 6 each, of
// which e-w has the smallest ids; n-ew and new-est follow.
TEST(TrainBpe, LearnsThePapersMergesInOrder) {
  std::vector<std::string> words;
  const auto add = [&](int count, const std::string& word) {
    words.insert(words.end(), static_cast<std::size_t>(count), word);
  };
  add(5, "low");
  add(2, "lower");
  add(6, "newest");
  add(3, "widest");
  const TokenizerData data = train_bpe(words, 257 + 7);
  const Merges expected = {{"e", "s"}, {"es", "t"}, {"l", "o"}, {"lo", "w"}, {"e", "w"}, {"n", "ew"}, {"new", "est"}};
  EXPECT_EQ(data.merges, expected);
  EXPECT_EQ(data.tokens.back(), "newest");
  EXPECT_EQ(data.tokens.size(), 264u);
  EXPECT_EQ(data.tokens[0], "<|endoftext|>");
  EXPECT_EQ(data.tokens[1 + 'a'], "a");
  EXPECT_EQ(data.tokens[1 + ' '], "\xC4\xA0");  // U+0120
}

// aaaaa becomes aa aa a, in which (aa, a) and (aa, aa) are as frequent; a has the smaller id.
TEST(TrainBpe, OverlappingPairsAreMergedFromTheLeft) {
  const TokenizerData data = train_bpe({"aaaaa aaaaa"}, 257 + 2);
  const Merges expected = {{"a", "a"}, {"aa", "a"}};
  EXPECT_EQ(data.merges, expected);
}

TEST(TrainBpe, WordsDoNotMergeAcrossSpaces) {
  const TokenizerData data = train_bpe({"ab ab ab ab"}, 257 + 2);
  for (const std::string& token : data.tokens) EXPECT_EQ(token.find("b\xC4\xA0"), std::string::npos) << token;
}

TEST(TrainBpe, TooFewAndTooMany) {
  EXPECT_THROW(train_bpe({"abc"}, 256), Error);
  EXPECT_THROW(train_bpe({"abc"}, 300), Error);
  EXPECT_EQ(train_bpe({}, 257).tokens.size(), 257u);
}

TEST(TrainBpe, TheSameDocumentsInAnyOrderGiveTheSameTokens) {
  auto documents = story_documents(Split::kTrain, 300);
  const TokenizerData forward = train_bpe(documents, 700);
  std::vector<std::string> reversed(documents.rbegin(), documents.rend());
  const TokenizerData backward = train_bpe(reversed, 700);
  EXPECT_EQ(forward.tokens, backward.tokens);
  EXPECT_EQ(forward.merges, backward.merges);
}

TEST(TrainBpe, EncodesWithoutLoss) {
  const Tokenizer tokenizer(train_bpe(story_documents(Split::kTrain, 2000), 1024));
  std::size_t bytes = 0, ids = 0;
  for (const std::string& story : story_documents(Split::kHeldout, 40)) {
    const Ids encoded = tokenizer.encode(story, true);
    ASSERT_EQ(encoded.front(), 0);
    EXPECT_EQ(tokenizer.decode(encoded), story);
    bytes += story.size();
    ids += encoded.size();
  }
  EXPECT_GT(static_cast<double>(bytes) / static_cast<double>(ids), 3.0);
  const std::string odd = "na\xC3\xAFve \xF0\x9F\x98\x80\t 12,5 \xE4\xBD\xA0\n\n";
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(odd, false)), odd);
}

}  // namespace
}  // namespace attar
