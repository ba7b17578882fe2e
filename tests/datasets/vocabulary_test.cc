// Choosing tokens and cutting a tokenizer down to them.
#include "datasets/vocabulary.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "base/error.h"
#include "base/files.h"
#include "convert/vocabulary.h"
#include "tests/datasets/small_tokenizers.h"
#include "tests/support.h"

namespace attar {
namespace {

std::vector<Ids> encoded(const Tokenizer& tokenizer, const std::vector<std::string>& texts) {
  std::vector<Ids> documents;
  for (const auto& text : texts) documents.push_back(tokenizer.encode(text, false));
  return documents;
}

TokenizerData cut(const TokenizerData& data, const std::vector<std::string>& corpus, std::int64_t count) {
  return select_tokens(data, rank_tokens(data, encoded(Tokenizer(data), corpus), {}).first(count));
}

std::vector<std::string> texts_of(const Tokenizer& tokenizer, const std::string& text) {
  std::vector<std::string> texts;
  for (const auto id : tokenizer.encode(text, false)) texts.emplace_back(tokenizer.bytes_of(id));
  return texts;
}

using Texts = std::vector<std::string>;

TEST(RankTokens, UsesOfAPartCountThoseOfItsWholes) {
  // hello twice, hell once, " w" once, wo never. With their parts: he 3, ll 3, hell 3, hello 2, " w" 1, wo 0.
  const TokenizerData data = test::small_byte_bpe();
  const TokenRanking ranking = rank_tokens(data, encoded(Tokenizer(data), {"hello hello", "hell w"}), {});
  EXPECT_EQ(ranking.required, 257);  // the bytes and <|end|>
  ASSERT_EQ(ranking.size(), 263);
  const std::vector<std::int64_t> rest(ranking.order.begin() + 257, ranking.order.end());
  EXPECT_EQ(rest, (std::vector<std::int64_t>{256, 257, 258, 259, 260, 261}));
  // "hello", " ", "hello", "hell", " w": 5 tokens; without hello 7, without hell 10.
  EXPECT_EQ(ranking.corpus_tokens(263), 5);
  EXPECT_EQ(ranking.corpus_tokens(262), 5);
  EXPECT_EQ(ranking.corpus_tokens(261), 6);
  EXPECT_EQ(ranking.corpus_tokens(260), 8);
  EXPECT_EQ(ranking.corpus_tokens(259), 11);
  EXPECT_EQ(ranking.corpus_tokens(257), 17);  // all bytes
}

// What the ranking says without encoding anew must be what the cut tokenizers then do.
TEST(RankTokens, PredictsTheLengthOfTheCorpus) {
  for (const TokenizerData& data : {test::small_byte_bpe(), test::small_metaspace_bpe()}) {
    const Tokenizer whole(data);
    const std::vector<Ids> documents = encoded(whole, {"hello hello wo abba ab  ab", "hell w a b c cab", "  ab wow"});
    const TokenRanking ranking = rank_tokens(data, documents, {});
    for (std::int64_t count = ranking.required; count <= ranking.size(); ++count) {
      const Tokenizer tokenizer(select_tokens(data, ranking.first(count)));
      std::size_t tokens = 0;
      for (const Ids& ids : documents) tokens += tokenizer.encode(whole.decode(ids), false).size();
      EXPECT_EQ(static_cast<std::int64_t>(tokens), ranking.corpus_tokens(count)) << count;
    }
  }
}

TEST(RankTokens, PartsOfAKeptTokenAreKept) {
  const TokenizerData data = test::small_byte_bpe();
  const Tokenizer tokenizer(cut(data, {"hello"}, 261));  // he, ll, hell, hello
  EXPECT_EQ(texts_of(tokenizer, "hello wo"), (Texts{"hello", " ", "w", "o"}));
  EXPECT_EQ(tokenizer.data().merges.size(), 4u);
  EXPECT_EQ(tokenizer.data().eos_id, 260);
  EXPECT_EQ(tokenizer.encode("<|end|>", false), Ids{260});
  EXPECT_TRUE(tokenizer.is_special(260));
}

// he once in the text; of what it lacks wo is expected 3 times and hello 2, which needs ll and hell as often; " w" never.
TEST(RankTokens, WhatTheTextLacksGoesByWhatIsExpected) {
  const TokenizerData data = test::small_byte_bpe();
  std::vector<double> expected(data.size(), 0.0);
  expected[259] = 2, expected[261] = 3;
  const std::vector<Ids> documents = encoded(Tokenizer(data), {"he"});
  const TokenRanking ranking = rank_tokens(data, documents, {}, expected);
  EXPECT_EQ((std::vector<std::int64_t>(ranking.order.begin() + 257, ranking.order.end())), (std::vector<std::int64_t>{256, 261, 257, 258, 259, 260}));
  EXPECT_EQ(ranking.length, rank_tokens(data, documents, {}).length) << "what is expected is not in the text";
  expected.resize(data.size() + 5, 9.0);  // rows of padding
  EXPECT_EQ(rank_tokens(data, documents, {}, expected).order, ranking.order);
  const Tokenizer whole(data);
  for (std::int64_t count = ranking.required; count <= ranking.size(); ++count) {  // the parts of all that is kept are, too
    const Tokenizer tokenizer(select_tokens(data, ranking.first(count)));
    for (const std::int64_t id : ranking.first(count)) {
      if (id < 256) continue;
      const std::string text(whole.bytes_of(id));
      EXPECT_EQ(texts_of(tokenizer, text), Texts{text}) << count;
    }
  }
}

TEST(RankTokens, WhatIsNeededElsewhereStays) {
  const TokenizerData data = test::small_byte_bpe();
  const TokenRanking ranking = rank_tokens(data, {}, {261, -1, 999});
  EXPECT_EQ(ranking.required, 258);
  const auto ids = ranking.first(258);
  EXPECT_TRUE(std::count(ids.begin(), ids.end(), 261));
}

TEST(RankTokens, RefusesWhatCannotBe) {
  const TokenRanking ranking = rank_tokens(test::small_byte_bpe(), {}, {});
  const auto refused = [&](std::int64_t count, const std::string& expected) {
    try {
      ranking.first(count);
      ADD_FAILURE() << count;
    } catch (const Error& error) {
      EXPECT_HAS(error.what(), expected);
    }
  };
  refused(256, "257 are bytes, special or added tokens");
  refused(264, "the tokenizer has 263");
}

// The mark of a space has no bytes to fall back on, and without bytes every character is needed.
TEST(RankTokens, CharactersWithoutAFallbackStay) {
  TokenizerData data = test::small_metaspace_bpe();
  EXPECT_EQ(rank_tokens(data, {}, {}).required, 3 + 256 + 1);
  data.byte_fallback = false;
  for (TokenType& type : data.types)
    if (type == TokenType::kByte) type = TokenType::kNormal;
  EXPECT_EQ(rank_tokens(data, {}, {}).required, 3 + 4);
}

TokenizerData unigram() {
  TokenizerData data;
  data.kind = TokenizerKind::kSentencePiece;
  data.unigram = true;
  const auto add = [&](const std::string& piece, float score, TokenType type) {
    data.tokens.push_back(piece);
    data.scores.push_back(score);
    data.types.push_back(type);
  };
  add("<unk>", 0, TokenType::kUnknown);
  data.unk_id = 0;
  add(std::string(kMetaspace), -3, TokenType::kNormal);
  for (const char* letter : {"a", "b", "c"}) add(letter, -4, TokenType::kNormal);
  add("ab", -5, TokenType::kNormal);
  add("bc", -5.5, TokenType::kNormal);
  add("abc", -6, TokenType::kNormal);
  return data;
}

// A unigram piece is replaced by the next best way to write it: abc by ab + c, not by a + bc.
TEST(RankTokens, UnigramPiecesGoToTheNextBestSegmentation) {
  const TokenizerData data = unigram();
  const TokenRanking ranking = rank_tokens(data, encoded(Tokenizer(data), {"abcabc"}), {});
  EXPECT_EQ(ranking.required, 5);
  const std::vector<std::int64_t> rest(ranking.order.begin() + 5, ranking.order.end());
  EXPECT_EQ(rest, (std::vector<std::int64_t>{5, 7, 6}));
  EXPECT_EQ(texts_of(Tokenizer(select_tokens(data, ranking.first(6))), "abcabc"), (Texts{"ab", "c", "ab", "c"}));
}

TEST(SelectTokens, RefusesIdsThatAreNotAscending) {
  const TokenizerData data = test::small_byte_bpe();
  EXPECT_THROW(select_tokens(data, {3, 2}), Error);
  EXPECT_THROW(select_tokens(data, {0, 0}), Error);
  EXPECT_THROW(select_tokens(data, {0, 263}), Error);
}

TEST(IdsWithin, FindsACutVocabularyAgain) {
  const TokenizerData data = test::small_byte_bpe();
  const TokenRanking ranking = rank_tokens(data, encoded(Tokenizer(data), {"hello"}), {});
  const TokenizerData part = select_tokens(data, ranking.first(260));
  EXPECT_EQ(ids_within(part, data), ranking.first(260));
  EXPECT_EQ(ids_within(data, data), std::nullopt);
  EXPECT_EQ(ids_within(data, part), std::nullopt);
}

TEST(IdsWithin, NamesWhatDiffers) {
  const TokenizerData data = test::small_byte_bpe();
  TokenizerData part = cut(data, {"hello"}, 258);
  const auto refused = [&](const std::string& expected) {
    try {
      ids_within(part, data);
      ADD_FAILURE();
    } catch (const Error& error) {
      EXPECT_HAS(error.what(), expected);
    }
  };
  std::swap(part.tokens[3], part.tokens[4]);
  refused("in the larger one");
  part.tokens[4] = "another";
  refused("'another', id 4 of the smaller vocabulary (258 tokens), is no token of the larger one (263)");
}

// Real tokenizers, cut to a small part by one text: every text comes back, and the files that are written say the same.
class CutTokenizer : public testing::TestWithParam<std::string> {};

TEST_P(CutTokenizer, EveryTextComesBack) {
  const auto folder = test::shared("tokenizers/" + GetParam());
  const auto book = test::shared("data/stories.train.txt");
  SKIP_WITHOUT(folder / "golden.json");
  SKIP_WITHOUT(book);
  const Tokenizer whole = load_tokenizer(folder);
  const std::string text = read_text_file(book).substr(0, 400000);
  const std::vector<Ids> corpus = {whole.encode(text, false)};
  const TokenRanking ranking = rank_tokens(whole.data(), corpus, {});
  const std::int64_t count = std::max<std::int64_t>(4096, ranking.required + 256);
  const auto kept = ranking.first(count);
  const Tokenizer tokenizer(select_tokens(whole.data(), kept));
  ASSERT_EQ(tokenizer.vocab_size(), count);

  // Each token that its own text could reach can still be reached.
  std::int64_t reached = 0;
  for (std::int64_t id = 0; id < count; ++id) {
    std::string word(whole.bytes_of(kept[static_cast<std::size_t>(id)]));
    ASSERT_EQ(tokenizer.bytes_of(id), word);
    if (tokenizer.is_special(id)) continue;
    if (whole.strips_leading_space() && word.starts_with(' ')) word.erase(0, 1);  // encode() puts it there
    try {
      if (whole.encode(word, false) != Ids{kept[static_cast<std::size_t>(id)]}) continue;
    } catch (const Error&) {
      continue;  // a part of a character
    }
    EXPECT_EQ(tokenizer.encode(word, false), Ids{id}) << word;
    ++reached;
  }
  EXPECT_GT(reached, 500);

  // What was predicted of the corpus is what happens, but for words whose other merges now come first.
  const auto tokens = static_cast<double>(tokenizer.encode(text, false).size());
  EXPECT_NEAR(tokens / static_cast<double>(ranking.corpus_tokens(count)), 1.0, 0.002);

  test::TempFolder temporary;
  write_tokenizer_files(tokenizer.data(), temporary.path());
  const Tokenizer written = load_tokenizer(temporary.path());
  EXPECT_EQ(written.data().tokens, tokenizer.data().tokens);
  EXPECT_EQ(written.data().types, tokenizer.data().types);
  EXPECT_EQ(written.data().scores, tokenizer.data().scores);
  EXPECT_EQ(written.data().merges, tokenizer.data().merges);
  EXPECT_EQ(written.data().bos_id, tokenizer.data().bos_id);
  EXPECT_EQ(written.data().eos_id, tokenizer.data().eos_id);
  EXPECT_EQ(written.hash(), tokenizer.hash());

  std::vector<std::string> texts = {text, read_text_file(test::shared("data/stories.heldout.txt"))};
  const auto golden = nlohmann::json::parse(read_text_file(folder / "golden.json"));
  for (const auto& entry : golden["cases"]) texts.push_back(entry["text"]);
  for (const auto& any : texts)
    for (const bool special : {false, true}) {
      const Ids ids = written.encode(any, special);
      EXPECT_EQ(written.decode(ids, true), whole.decode(whole.encode(any, special), true)) << any.substr(0, 80);
    }
}

INSTANTIATE_TEST_SUITE_P(Real, CutTokenizer, testing::Values("llama2", "llama2_json", "llama3_2", "qwen2_5", "gpt2"),
                         [](const auto& each) { return each.param; });

}  // namespace
}  // namespace attar
