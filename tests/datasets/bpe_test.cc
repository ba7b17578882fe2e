// The pieces under the byte-level BPE: alphabet, normalisation, splitting and merging.
#include "datasets/bpe.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "convert/pretokenizers.h"
#include "datasets/split_regex.h"
#include "datasets/unicode.h"
#include "tests/convert/bytes.h"
#include "tests/datasets/small_tokenizers.h"

namespace attar {
namespace {

using test::error_of;
using test::small_byte_bpe;

std::vector<std::string> split(const std::vector<std::string>& regexes, std::string_view text) {
  SplitRegexes::Workspace workspace;
  std::vector<std::string> words;
  SplitRegexes(regexes).split(text, workspace, [&](std::string_view word) { words.emplace_back(word); });
  return words;
}

using Words = std::vector<std::string>;

TEST(Unicode, ByteAlphabetIsGpt2s) {
  EXPECT_EQ(byte_alphabet()['A'], "A");
  EXPECT_EQ(byte_alphabet()[' '], "Ġ");
  EXPECT_EQ(byte_alphabet()['\n'], "Ċ");
  EXPECT_EQ(byte_alphabet()[0xad], "Ń");  // the last one to be given away, U+0143
  for (std::size_t byte = 0; byte < 256; ++byte)
    EXPECT_EQ(from_byte_alphabet(byte_alphabet()[byte]), std::string(1, static_cast<char>(byte)));
  EXPECT_EQ(from_byte_alphabet("a b"), std::nullopt);
}

TEST(Unicode, Nfc) {
  EXPECT_EQ(normalize_nfc("e\u0301"), "é");
  EXPECT_EQ(normalize_nfc("\u1112\u1161\u11ab"), "한");
  EXPECT_EQ(normalize_nfc("é plain"), std::nullopt);
}

TEST(SplitRegexes, Gpt2) {
  const auto& regexes = find_pretokenizer("gpt-2").regexes;
  EXPECT_EQ(split(regexes, "I'm  fine, 123 you'LL"), (Words{"I", "'m", " ", " fine", ",", " 123", " you", "'", "LL"}));
  EXPECT_EQ(split(regexes, "a \n b  "), (Words{"a", " \n", " b", "  "}));
}

TEST(SplitRegexes, Llama3AndQwenDifferInDigits) {
  EXPECT_EQ(split(find_pretokenizer("llama-bpe").regexes, "12345 it'S\n\n x"),
            (Words{"123", "45", " it", "'S", "\n\n", " x"}));
  EXPECT_EQ(split(find_pretokenizer("qwen2").regexes, "123 it'S"), (Words{"1", "2", "3", " it", "'S"}));
}

TEST(SplitRegexes, InOrderEachOnThePiecesOfTheLast) {
  // The space before 5 is a piece of its own after the first regex, so the second one's look-ahead sees its end.
  EXPECT_EQ(split(find_pretokenizer("smollm").regexes, "ab 52 c"), (Words{"ab", " ", "5", "2", " c"}));
}

TEST(SplitRegexes, WhiteSpaceIsUnicodes) {
  EXPECT_EQ(split({R"(\s+)"}, "a\u00a0\u3000\u0085b"), (Words{"a", "\u00a0\u3000\u0085", "b"}));
  EXPECT_EQ(split({R"(\s+)"}, "a\u180eb"), (Words{"a\u180eb"}));  // a space in older Unicode only
  EXPECT_EQ(split({R"([^\s]+)"}, "a b"), (Words{"a", " ", "b"}));
  EXPECT_EQ(split({R"([]\s]+)"}, "a] b"), (Words{"a", "] ", "b"}));
}

TEST(SplitRegexes, EmptyMatchesCut) {
  EXPECT_EQ(split({R"((?=(\d{3})+(?!\d)))"}, "1234567"), (Words{"1", "234", "567"}));
}

TEST(SplitRegexes, EveryKnownNameCompilesAndLosesNothing) {
  const std::string text = "Hello, wörld 1234!\n\n  don't 日本語 \u00a0x\t\r\n[a] '";
  for (const auto& entry : all_pretokenizers()) {
    std::string joined;
    for (const auto& word : split(entry.regexes, text)) joined += word;
    EXPECT_EQ(joined, text) << entry.name;
  }
}

TEST(SplitRegexes, Errors) {
  EXPECT_NE(error_of([] { split({"(a"}, "a"); }).find("'(a'"), std::string::npos);
  EXPECT_NE(error_of([] { split({"(a*)*b|(a|a)*c"}, std::string(100, 'a') + "d"); }).find("fails on this text"),
            std::string::npos);
}

// The definition of BPE, step by step: merge the first of the pairs with the lowest rank, until there is none.
std::vector<TokenId> merged_by_definition(const TokenizerData& data, const std::string& word) {
  std::vector<std::string> parts;
  for (const char c : word) parts.emplace_back(1, c);
  for (;;) {
    std::size_t best_rank = data.merges.size(), best = 0;
    for (std::size_t i = 0; i + 1 < parts.size(); ++i)
      for (std::size_t rank = 0; rank < best_rank; ++rank)
        if (data.merges[rank] == std::pair(parts[i], parts[i + 1])) best_rank = rank, best = i;
    if (best_rank == data.merges.size()) break;
    parts[best] += parts[best + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
  const Vocabulary vocabulary = make_vocabulary(data);
  std::vector<TokenId> ids;
  for (const auto& part : parts) ids.push_back(vocabulary.at(part));
  return ids;
}

TEST(BpeMerger, EqualsTheDefinition) {
  Random random(7);
  for (int round = 0; round < 40; ++round) {
    TokenizerData data;
    data.tokens = {"a", "b", "c"};
    for (int i = 0; i < 12; ++i) {
      const auto& left = data.tokens[random.below(data.tokens.size())];
      const auto& right = data.tokens[random.below(data.tokens.size())];
      if (make_vocabulary(data).contains(left + right)) continue;
      data.merges.emplace_back(left, right);
      data.tokens.push_back(left + right);
    }
    const Vocabulary vocabulary = make_vocabulary(data);
    const BpeMerger merger(ranked_merges(data, vocabulary));
    BpeMerger::Workspace workspace;
    for (int i = 0; i < 50; ++i) {
      std::string word;
      for (std::uint64_t n = random.below(40); n-- > 0;) word += static_cast<char>('a' + random.below(3));
      std::vector<TokenId> ids;
      for (const char c : word) ids.push_back(c - 'a');
      merger.merge(ids, workspace);
      ASSERT_EQ(ids, merged_by_definition(data, word)) << word;
    }
  }
}

TEST(BpeMerger, MergeWithoutItsTokensIsAnError) {
  TokenizerData data = small_byte_bpe();
  data.merges.emplace_back("x", "nothing");
  EXPECT_NE(error_of([&] { Tokenizer tokenizer(data); }).find("'nothing'"), std::string::npos);
}

}  // namespace
}  // namespace attar
