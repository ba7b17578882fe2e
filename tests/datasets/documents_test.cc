#include "datasets/documents.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "datasets/corpus.h"
#include "tests/datasets/small_tokenizers.h"
#include "tests/support.h"

namespace attar {
namespace {

constexpr const char* kChatMl =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}";

class DocumentsOfAFile : public testing::Test {
 protected:
  Documents of(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name, std::ios::trunc | std::ios::binary) << text;
    return Documents(tokenizer_, (folder_ / name).string());
  }
  std::string refused(const std::string& lines) {
    try {
      of("a.jsonl", lines);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  // The text a model learns to say, by runs of learnt tokens.
  std::vector<std::string> learnt(const Document& document) const {
    std::vector<std::string> runs;
    for (std::size_t i = 0; i < document.ids.size(); ++i) {
      if (document.learn[i] == 0) continue;
      if (i == 0 || document.learn[i - 1] == 0) runs.emplace_back();
      runs.back() += tokenizer_.decode(std::span(&document.ids[i], 1), true);
    }
    return runs;
  }

  test::TempFolder folder_;
  Tokenizer tokenizer_{[] {
    TokenizerData data = test::small_byte_bpe();
    test::add_special(data, "<|im_start|>");
    test::add_special(data, "<|im_end|>");
    data.chat_template = kChatMl;
    return data;
  }()};
};

TEST_F(DocumentsOfAFile, AnyOfThemAtAnyTime) {
  const Documents text = of("a.txt", "one\ntwo\n\n \n\nhello\n\n");
  ASSERT_EQ(text.size(), 2u);
  EXPECT_EQ(text.at(1).ids, (Ids{259, 262}));
  EXPECT_EQ(text.at(0).ids, (Ids{'o', 'n', 'e', '\n', 't', 261, 262}));
  EXPECT_TRUE(text.at(0).learn.empty());
  const Documents lines = of("a.jsonl", "{\"input_ids\": [3, 4]}\n\n{\"text\": \"\"}\n{\"text\": \"hello\"}");
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines.at(2).ids, (Ids{259, 262}));
  EXPECT_EQ(lines.at(1).ids, Ids{});
  EXPECT_EQ(lines.at(0).ids, (Ids{3, 4}));
}

// A text longer than kLongestText comes in pieces that add up to it; others stay what they were.
TEST_F(DocumentsOfAFile, LongTextsComeInPieces) {
  const auto text_of = [&](const Documents& documents, std::size_t from, std::size_t to) {
    std::string text;
    for (std::size_t i = from; i < to; ++i) text += tokenizer_.decode(documents.at(i).ids);
    return text;
  };
  std::string lines, words, letters;
  while (lines.size() < 5 * kLongestText / 2) lines += "A line of the one long text, number " + std::to_string(lines.size()) + ".\n";
  lines.pop_back();
  while (words.size() <= kLongestText) words += "word ";
  words.pop_back();
  letters = "x";
  while (letters.size() <= kLongestText) letters += "\u00e9";
  const Documents all = of("long.txt", "Short.\n\n" + lines + "\n\n" + words + "\n\n" + letters + "\n\nLast.\n");
  ASSERT_EQ(all.size(), 1u + 3 + 2 + 2 + 1);
  EXPECT_EQ(text_of(all, 0, 1), "Short.");
  EXPECT_EQ(text_of(all, 1, 4), lines);
  EXPECT_EQ(text_of(all, 1, 2).back(), '\n');
  EXPECT_EQ(text_of(all, 4, 6), words);
  EXPECT_EQ(text_of(all, 5, 6).front(), ' ');
  EXPECT_EQ(text_of(all, 6, 8), letters);
  EXPECT_EQ(text_of(all, 8, 9), "Last.");
  for (std::size_t i = 0; i < all.size(); ++i) EXPECT_LE(text_of(all, i, i + 1).size(), kLongestText) << i;
  // Only the last piece ends as a text does.
  const std::int64_t eos = tokenizer_.data().eos_id;
  ASSERT_GE(eos, 0);
  for (const std::size_t i : {1, 2, 4, 6}) EXPECT_NE(all.at(i).ids.back(), eos) << i;
  for (const std::size_t i : {0, 3, 5, 7, 8}) EXPECT_EQ(all.at(i).ids.back(), eos) << i;
  // At the limit it is whole, with the tokens of a text in one go.
  const std::string whole = lines.substr(0, kLongestText);
  const Documents one = of("whole.txt", whole);
  ASSERT_EQ(one.size(), 1u);
  const Ids body = tokenizer_.encode(whole, false);
  const Ids ids = one.at(0).ids;
  EXPECT_TRUE(std::equal(body.begin(), body.end(), ids.end() - 1 - std::ssize(body)));
}

TEST_F(DocumentsOfAFile, OnlyTheAssistantIsLearnt) {
  const Documents chat = of("a.jsonl",
                            "{\"messages\": [{\"role\": \"system\", \"content\": \"s\"}, {\"role\": \"user\", \"content\": \"he\"}, "
                            "{\"role\": \"assistant\", \"content\": \"hello\"}, {\"role\": \"user\", \"content\": \"b\"}, "
                            "{\"role\": \"assistant\", \"content\": \"wo w\"}]}\n{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}");
  EXPECT_EQ(learnt(chat.at(0)), (std::vector<std::string>{"hello<|im_end|>\n", "wo w<|im_end|>\n"}));
  EXPECT_EQ(tokenizer_.decode(chat.at(0).ids, true),
            "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nhe<|im_end|>\n<|im_start|>assistant\nhello<|im_end|>\n"
            "<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\nwo w<|im_end|>\n");
  EXPECT_TRUE(learnt(chat.at(1)).empty());
}

TEST_F(DocumentsOfAFile, EveryLineIsLookedAtFirst) {
  std::string many;
  for (int i = 0; i < 1000; ++i) many += "{\"text\": \"hello\"}\n";
  EXPECT_HAS(refused(many + "{\"text\": \"hel"), "a.jsonl: line 1001 is not a JSON object");
  EXPECT_HAS(refused(many + "\n[1]\n" + many), "a.jsonl: line 1002 is not a JSON object");
  EXPECT_HAS(refused(many + "{\"messages\": [{\"role\": \"narrator\", \"content\": \"a\"}]}"),
             "a.jsonl: line 1001: role \"narrator\" in message 1; expected user or assistant, or system first");
  EXPECT_HAS(refused("{\"\\u006dessages\": []}"), "line 1: the key \"messages\" is written with escapes");
  EXPECT_HAS(refused(" \n"), "holds no text");
}

TEST(DocumentsOfACorpus, AreTheStories) {
  const Tokenizer tokenizer(test::small_byte_bpe());
  const Documents stories(tokenizer, "builtin:heldout");
  const auto texts = read_documents("builtin:heldout");
  ASSERT_EQ(stories.size(), texts.size());
  const Ids ids = stories.at(7).ids;
  EXPECT_EQ(tokenizer.decode(ids), texts[7]);
  EXPECT_EQ(ids.back(), 262);
}

}  // namespace
}  // namespace attar
