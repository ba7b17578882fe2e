#include "distill/search_text.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/files.h"
#include "convert/tokenizer_data.h"
#include "tests/cli/tiny_model.h"
#include "tests/support.h"

namespace attar {
namespace {

class SearchTextTest : public ::testing::Test {
 protected:
  void SetUp() override {
    test::write_tiny_folder(folder_ / "bytes");
    test::write_tiny_folder(folder_ / "words", -1, test::word_config(true), test::word_tokenizer());
    write_text_file(path("data.txt"), test::tiny_text(800, 1));
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  Tokenizer tokenizer(const std::string& name) const { return Tokenizer(read_tokenizer_data(folder_ / name)); }
  static std::vector<Ids> ids(const std::vector<Document>& documents) {
    std::vector<Ids> all;
    for (const Document& document : documents) all.push_back(document.ids);
    return all;
  }
  static std::int64_t count(const std::vector<Ids>& documents) {
    std::int64_t tokens = 0;
    for (const Ids& document : documents) tokens += std::ssize(document);
    return tokens;
  }
  test::TempFolder folder_;
};

TEST_F(SearchTextTest, WhatIsSetApartIsNotLearnt) {
  const Tokenizer bytes = tokenizer("bytes");
  const SearchText text(bytes, path("data.txt"), "", 1'000'000, 1);
  const auto training = ids(text.training(bytes)), heldout = ids(text.heldout(bytes));
  EXPECT_EQ(training.size() + heldout.size(), 100u);
  EXPECT_EQ(heldout.size(), 10u);
  for (const Ids& document : heldout) EXPECT_EQ(std::count(training.begin(), training.end(), document), 0);
  EXPECT_EQ(ids(SearchText(bytes, path("data.txt"), "", 1'000'000, 1).heldout(bytes)), heldout);
  EXPECT_NE(ids(SearchText(bytes, path("data.txt"), "", 1'000'000, 2).heldout(bytes)), heldout);
  // Not more than is asked for, up to a document.
  const auto few = ids(SearchText(bytes, path("data.txt"), "", 500, 1).heldout(bytes));
  EXPECT_GE(count(few), 500);
  EXPECT_LT(count(few), 1000);
}

TEST_F(SearchTextTest, EqualDocumentsAreOnOneSide) {
  const std::string once = test::tiny_text(400, 1);
  write_text_file(path("twice.txt"), once + once);
  const Tokenizer bytes = tokenizer("bytes");
  const SearchText text(bytes, path("twice.txt"), "", 1'000'000, 1);
  const auto training = ids(text.training(bytes)), heldout = ids(text.heldout(bytes));
  ASSERT_FALSE(heldout.empty());
  for (const Ids& document : heldout) {
    EXPECT_EQ(std::count(training.begin(), training.end(), document), 0);
    EXPECT_EQ(std::count(heldout.begin(), heldout.end(), document) % 2, 0);
  }
}

TEST_F(SearchTextTest, TheSameDocumentsUnderAnotherTokenizer) {
  const Tokenizer bytes = tokenizer("bytes"), words = tokenizer("words");
  const SearchText text(bytes, path("data.txt"), "", 1'000'000, 1);
  const auto in_bytes = text.heldout(bytes), in_words = text.heldout(words);
  ASSERT_EQ(in_bytes.size(), in_words.size());
  EXPECT_LT(count(ids(in_words)), count(ids(in_bytes)));
  for (std::size_t i = 0; i < in_bytes.size(); ++i) {
    Ids whole = in_words[i].ids;
    whole.pop_back();  // "<|end|>"
    EXPECT_EQ(words.decode(whole), bytes.decode(in_bytes[i].ids));
  }
}

TEST_F(SearchTextTest, ATextOfItsOwnIsWhatIsJudgedOn) {
  write_text_file(path("held.txt"), test::tiny_text(80, 9));
  const Tokenizer bytes = tokenizer("bytes");
  const SearchText text(bytes, path("data.txt"), path("held.txt"), 1'000'000, 1);
  EXPECT_EQ(text.training(bytes).size(), 100u);
  EXPECT_EQ(text.heldout(bytes).size(), 10u);
}

TEST_F(SearchTextTest, RefusesWhatCannotBeSplit) {
  const Tokenizer bytes = tokenizer("bytes");
  write_text_file(path("one.txt"), "one long text without an empty line\n");
  EXPECT_HAS(test::error_of([&] { SearchText(bytes, path("one.txt"), "", 100, 1); }), "holds 1 documents");
  EXPECT_HAS(test::error_of([&] { SearchText(bytes, path("one.txt"), "", 100, 1); }), "--heldout");
  write_text_file(path("copy.txt"), test::tiny_text(800, 1));
  EXPECT_HAS(test::error_of([&] { SearchText(bytes, path("data.txt"), path("copy.txt"), 100, 1); }), "is the text of --data");
}

}  // namespace
}  // namespace attar
