// The built-in corpus: the same everywhere, no sentence in two splits, and English that keeps its own rules.
#include "datasets/stories.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <unordered_map>

#include "base/error.h"

namespace attar {
namespace {

constexpr Split kSplits[] = {Split::kTrain, Split::kCalibration, Split::kHeldout};

TEST(Stories, SplitsShareNoSentence) {
  std::unordered_map<std::string, Split> owner;
  std::size_t sentences = 0;
  for (const Split split : kSplits) {
    for (const std::string& story : story_documents(split)) {
      for (const std::string_view sentence : split_sentences(story)) {
        ++sentences;
        const auto [at, fresh] = owner.emplace(sentence, split);
        ASSERT_EQ(at->second, split) << sentence;
        (void)fresh;
      }
    }
  }
  EXPECT_GT(sentences, 200000u);
}

TEST(Stories, NamesOfSplits) {
  for (const Split split : kSplits) EXPECT_EQ(parse_split(split_name(split)), split);
  EXPECT_THROW(parse_split("test"), Error);
}

TEST(Stories, SeedsAreDifferentStoriesAndTheSameSeedTheSame) {
  StoryStream a(Split::kTrain, 1), b(Split::kTrain, 1), c(Split::kTrain, 2);
  for (int i = 0; i < 50; ++i) {
    const std::string story = a.next();
    EXPECT_EQ(story, b.next());
    EXPECT_NE(story, c.next());
  }
}

}  // namespace
}  // namespace attar
