// The items are read again by a reader that knows nothing of the simulation.
#include "datasets/cloze.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <unordered_set>

#include "tests/datasets/story_reader.h"

namespace attar {
namespace {

constexpr Split kSplits[] = {Split::kTrain, Split::kCalibration, Split::kHeldout};

// " under the bed." -> "under the bed"
std::string_view answer(std::string_view choice) { return choice.substr(1, choice.size() - 2); }

TEST(Cloze, FourDifferentChoicesAndEveryPositionEquallyOften) {
  for (const Split split : kSplits) {
    std::map<int, int> positions;
    std::map<std::string, int> kinds;
    const auto items = cloze_items(split, 400);
    ASSERT_EQ(items.size(), 400u);
    for (const ClozeItem& item : items) {
      ASSERT_EQ(item.choices.size(), 4u);
      const std::set<std::string> different(item.choices.begin(), item.choices.end());
      ASSERT_EQ(different.size(), 4u) << item.context;
      for (const std::string& choice : item.choices) {
        EXPECT_EQ(choice.front(), ' ');
        EXPECT_EQ(choice.back(), '.') << choice;
        EXPECT_EQ(choice.find_first_of("{}[]|@"), std::string::npos) << choice;
      }
      EXPECT_NE(item.context.back(), ' ');
      ++positions[item.gold];
      ++kinds[item.kind];
    }
    for (int i = 0; i < 4; ++i) EXPECT_EQ(positions[i], 100) << i;
    EXPECT_EQ(kinds.size(), 9u);
  }
}

TEST(Cloze, ShareNoSentenceWithAnotherSplit) {
  std::unordered_set<std::string> train;
  for (const std::string& story : story_documents(Split::kTrain)) {
    for (const std::string_view sentence : split_sentences(story)) train.emplace(sentence);
  }
  for (const Split split : {Split::kCalibration, Split::kHeldout}) {
    for (const ClozeItem& item : cloze_items(split, 300)) {
      const std::string told = item.context + item.choices[static_cast<std::size_t>(item.gold)];
      for (const std::string_view sentence : split_sentences(told)) {
        EXPECT_EQ(sentence_split(sentence), split) << sentence;
        EXPECT_EQ(train.count(std::string(sentence)), 0u) << sentence;
      }
    }
  }
}

TEST(Cloze, TheSameEveryTime) {
  const auto a = cloze_items(Split::kHeldout, 60), b = cloze_items(Split::kHeldout, 80);
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].context, b[i].context);
    EXPECT_EQ(a[i].choices, b[i].choices);
    EXPECT_EQ(a[i].gold, b[i].gold);
  }
}

TEST(Cloze, AnswersStandInTheStory) {
  int checked = 0;
  for (const ClozeItem& item : cloze_items(Split::kHeldout, 600)) {
    if (item.kind == "pronoun" || item.kind == "verb" || item.kind == "count") continue;
    std::string_view gold = answer(item.choices[static_cast<std::size_t>(item.gold)]);
    if (gold.ends_with("'s")) gold.remove_suffix(2);
    const std::string story = item.context.substr(0, item.context.find('\n'));
    std::string first(gold);  // as the first word of a sentence
    first[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(first[0])));
    EXPECT_TRUE(test::contains(story, gold) || test::contains(story, first)) << item.context << " -> " << gold;
    ++checked;
  }
  EXPECT_GT(checked, 300);
}

TEST(Cloze, CountsComeOutWhenCountedAgain) {
  int checked = 0;
  for (const ClozeItem& item : cloze_items(Split::kHeldout, 900)) {
    if (item.kind != "count") continue;
    // Asked within the story: a right answer makes a story whose sums are right, a wrong one does not.
    if (test::contains(item.context, "\n")) continue;
    for (int i = 0; i < 4; ++i) {
      const auto tally = test::tally(item.context + item.choices[static_cast<std::size_t>(i)]);
      if (!tally) continue;
      EXPECT_EQ(tally->wrong, i == item.gold ? 0 : 1) << item.context << item.choices[static_cast<std::size_t>(i)];
      ++checked;
    }
  }
  EXPECT_GT(checked, 80);
}

TEST(Cloze, PronounsAndVerbForms) {
  const std::set<std::string> past = {"went", "slept", "sang", "wrote", "ate", "drew", "gave", "drank", "told", "had"};
  int pronouns_checked = 0, verbs_checked = 0;
  for (const ClozeItem& item : cloze_items(Split::kHeldout, 600)) {
    const auto gold = test::words_of(item.choices[static_cast<std::size_t>(item.gold)]);
    if (item.kind == "verb") {
      for (int i = 0; i < 4; ++i) {
        const auto words = test::words_of(item.choices[static_cast<std::size_t>(i)]);
        EXPECT_EQ(past.count(words[0]), i == item.gold ? 1u : 0u) << words[0];
      }
      ++verbs_checked;
    }
    if (item.kind == "pronoun") {
      std::optional<Gender> gender;
      const auto sentences = split_sentences(item.context);
      for (const std::string& word : test::words_of(sentences.back())) {
        if (const auto found = test::gender_of(word)) gender = found;
      }
      if (!gender) continue;
      EXPECT_EQ(gold[0], *gender == Gender::kMale ? "he" : "she") << item.context;
      ++pronouns_checked;
    }
  }
  EXPECT_GT(pronouns_checked, 20);
  EXPECT_GT(verbs_checked, 40);
}

}  // namespace
}  // namespace attar
