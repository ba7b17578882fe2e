// The built-in corpus: the same everywhere, no sentence in two splits, and English that keeps its own rules.
#include "datasets/stories.h"

#include <gtest/gtest.h>

#include <string>
#include <unordered_map>

#include "base/error.h"
#include "base/text.h"
#include "tests/datasets/story_reader.h"

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

// If these change, the built-in teacher no longer comes from this corpus: train it again.
TEST(Stories, TheFirstHundredAreTheSameOnEveryMachine) {
  const std::string expected[] = {"c066f422db6a5213b79c3f7baa05408c", "993e2dac1ea2ca476bf93cde3f42b497", "0e2ccc0bdff215b33897eec832b70024"};
  for (const Split split : kSplits) {
    ContentHash hash;
    for (const std::string& story : story_documents(split, 100)) hash.add(story + "\n");
    EXPECT_EQ(hash.hex(), expected[static_cast<std::size_t>(split)]) << split_name(split);
  }
}

TEST(Stories, EveryTrainSentenceBelongsToTrain) {
  for (const std::string& story : story_documents(Split::kTrain, 500)) {
    for (const std::string_view sentence : split_sentences(story)) {
      ASSERT_EQ(sentence_split(sentence), Split::kTrain) << sentence;
    }
  }
}

TEST(Stories, SentenceSplitIgnoresCaseAndPunctuation) {
  EXPECT_EQ(sentence_split("Tom had two plums."), sentence_split("\"tom had  two plums!\""));
}

TEST(Stories, SentencesAreCutAtTheirEnds) {
  const auto sentences = split_sentences("Tom said, \"No.\" Was it so? It was 3.5 m!\nYes.");
  ASSERT_EQ(sentences.size(), 4u);
  EXPECT_EQ(sentences[0], "Tom said, \"No.\"");
  EXPECT_EQ(sentences[2], "It was 3.5 m!");
}

TEST(Stories, EnglishKeepsItsRules) {
  const auto vowel = [](char c) { return std::string_view("aeiou").find(c) != std::string_view::npos; };
  for (const std::string& story : story_documents(Split::kTrain, 5000)) {
    ASSERT_FALSE(test::contains(story, "  ")) << story;
    ASSERT_EQ(story.find_first_of("{}[]|@"), std::string::npos) << story;
    for (const std::string_view bad : {" ,", " .", "..", ",,", ".\".", "?\"."})
      ASSERT_FALSE(test::contains(story, bad)) << story;
    ASSERT_EQ(std::count(story.begin(), story.end(), '"') % 2, 0) << story;
    for (const std::string_view sentence : split_sentences(story)) {
      const char first = sentence[sentence[0] == '"' ? 1 : 0];
      ASSERT_TRUE(std::isupper(static_cast<unsigned char>(first))) << sentence;
      const char last = sentence.back() == '"' ? sentence[sentence.size() - 2] : sentence.back();
      ASSERT_NE(std::string_view(".!?").find(last), std::string_view::npos) << sentence;
    }
    const auto words = test::words_of(story);
    for (std::size_t i = 0; i + 1 < words.size(); ++i) {
      const std::string& next = words[i + 1];
      const bool an = vowel(next[0]) || next == "honest" || next == "hour";
      if (words[i] == "a" || words[i] == "A" || words[i] == "an" || words[i] == "An") {
        ASSERT_EQ(words[i].size() == 2, an) << words[i] << ' ' << next << ": " << story;
      }
      if (std::islower(static_cast<unsigned char>(next[0])) != 0) {
        ASSERT_NE(words[i], next) << story;
      }
      if (const auto n = test::number_of(words[i]); n && *n != 1 && words[i] != "zero") {
        for (const Thing& food : foods()) ASSERT_NE(next, food.noun) << words[i] << ' ' << next << ": " << story;
      }
      if (words[i] == "one") {
        for (const Thing& food : foods()) ASSERT_NE(next, food.plural) << story;
      }
    }
  }
}

TEST(Stories, LengthsAndVocabulary) {
  std::unordered_map<std::string, int> vocabulary;
  std::size_t all = 0, fits = 0;
  for (const std::string& story : story_documents(Split::kTrain, 5000)) {
    const auto words = test::words_of(story);
    for (const std::string& word : words) ++vocabulary[word];
    ++all;
    fits += words.size() >= 60 && words.size() <= 180 ? 1 : 0;
    EXPECT_GE(words.size(), 35u) << story;
    EXPECT_LE(words.size(), 230u) << story;
  }
  EXPECT_GT(fits * 100, all * 90);
  EXPECT_GT(vocabulary.size(), 600u);
  EXPECT_LT(vocabulary.size(), 1400u);
}

TEST(Stories, PronounsFitTheChildren) {
  int checked = 0;
  for (const std::string& story : story_documents(Split::kTrain, 3000)) {
    for (const std::string_view sentence : split_sentences(story)) {
      // "... Lily felt proud because she had ..." and "Lily was a kind girl": one name, one pronoun.
      const bool he = test::contains(sentence, " because he had "), she = test::contains(sentence, " because she had ");
      if (he == she) continue;
      for (const std::string& word : test::words_of(sentence.substr(0, sentence.find(" because ")))) {
        if (const auto gender = test::gender_of(word)) {
          ASSERT_EQ(*gender, he ? Gender::kMale : Gender::kFemale) << sentence;
          ++checked;
        }
      }
    }
    for (const std::string& kind : {std::string(" girl "), std::string(" boy ")}) {
      for (const std::string verb : {"named ", "called "}) {
        const std::size_t at = story.find(kind + verb);
        if (at == std::string::npos) continue;
        const auto named = test::words_of(story.substr(at + kind.size() + verb.size(), 20));
        ASSERT_EQ(*test::gender_of(named[0]), kind == " boy " ? Gender::kMale : Gender::kFemale) << story;
        ++checked;
      }
    }
  }
  EXPECT_GT(checked, 2000);
}

TEST(Stories, ArithmeticIsTrue) {
  int checked = 0;
  for (const std::string& story : story_documents(Split::kTrain, 5000)) {
    const auto tally = test::tally(story);
    if (!tally) continue;
    ASSERT_EQ(tally->wrong, 0) << story;
    ++checked;
  }
  EXPECT_GT(checked, 600);
}

}  // namespace
}  // namespace attar
