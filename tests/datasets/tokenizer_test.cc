#include "datasets/tokenizer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <list>
#include <thread>

#include "base/error.h"
#include "base/random.h"
#include "tests/convert/bytes.h"
#include "tests/datasets/small_tokenizers.h"

namespace attar {
namespace {

using test::add_merge;
using test::add_special;
using test::error_of;
using test::small_byte_bpe;
using test::small_metaspace_bpe;

TEST(ByteBpe, EncodesByRank) {
  const Tokenizer tokenizer(small_byte_bpe());
  EXPECT_EQ(tokenizer.encode("hello", false), (Ids{259}));
  EXPECT_EQ(tokenizer.encode("lll hehell", false), (Ids{257, 'l', ' ', 256, 258}));
  EXPECT_EQ(tokenizer.encode(" wo", false), (Ids{260, 'o'}));  // (space)w was learnt before wo
  EXPECT_EQ(tokenizer.encode("é", false), (Ids{0xc3, 0xa9}));
  EXPECT_EQ(tokenizer.encode("", true), Ids{});
}

TEST(ByteBpe, SpecialTokens) {
  TokenizerData data = small_byte_bpe();
  data.bos_id = data.eos_id;
  data.add_bos = data.add_eos = true;
  const Tokenizer tokenizer(data);
  EXPECT_EQ(tokenizer.encode("hello<|end|>h<|end", true), (Ids{262, 259, 262, 'h', '<', '|', 'e', 'n', 'd', 262}));
  EXPECT_EQ(tokenizer.decode(Ids{262, 259, 262, 'h', 262}), "helloh");
  EXPECT_EQ(tokenizer.decode(Ids{262, 259, 262}, true), "<|end|>hello<|end|>");
}

TEST(ByteBpe, IgnoreMergesKeepsWholeWords) {
  TokenizerData data = small_byte_bpe();
  data.tokens.push_back("xyz");  // no merge leads there
  data.types.push_back(TokenType::kNormal);
  EXPECT_EQ(Tokenizer(data).encode("xyz", false), (Ids{'x', 'y', 'z'}));
  data.ignore_merges = true;
  EXPECT_EQ(Tokenizer(data).encode("xyz xyz", false), (Ids{263, ' ', 'x', 'y', 'z'}));
}

TEST(ByteBpe, NfcAndPrefixSpace) {
  TokenizerData data = small_byte_bpe();
  data.nfc = true;
  EXPECT_EQ(Tokenizer(data).encode("e\u0301", false), (Ids{0xc3, 0xa9}));
  data.add_prefix_space = true;
  EXPECT_EQ(Tokenizer(data).encode("w", false), (Ids{260}));
  EXPECT_EQ(Tokenizer(data).encode(" w", false), (Ids{260}));
}

TEST(ByteBpe, AddedTokensTakeSpacesAndWordsAsTheyAsk) {
  TokenizerData data = small_byte_bpe();
  const auto strips = add_special(data, "<m>");
  data.added.back().lstrip = data.added.back().rstrip = true;
  const auto word = add_special(data, "cat", false);
  data.added.back().single_word = true;
  const auto longer = add_special(data, "<|end|>>");
  const Tokenizer tokenizer(data);
  EXPECT_EQ(tokenizer.encode("a \n<m>\u00a0 b", false), (Ids{'a', strips, 'b'}));
  EXPECT_EQ(tokenizer.encode("cat scat cats -cat", false),
            (Ids{word, ' ', 's', 'c', 'a', 't', ' ', 'c', 'a', 't', 's', ' ', '-', word}));
  EXPECT_EQ(tokenizer.encode("<|end|>><|end|>", false), (Ids{longer, 262}));
  EXPECT_EQ(tokenizer.decode(Ids{word}), "cat");
}

TEST(ByteBpe, BadInput) {
  const Tokenizer tokenizer(small_byte_bpe());
  EXPECT_NE(error_of([&] { tokenizer.encode("abc\xff", false); }).find("byte 3"), std::string::npos);
  EXPECT_NE(error_of([&] { tokenizer.decode(Ids{263}); }).find("263"), std::string::npos);
  EXPECT_NE(error_of([&] { tokenizer.decode(Ids{-1}); }).find("-1"), std::string::npos);
  TokenizerData data = small_byte_bpe();
  data.pre = "qwen3";
  EXPECT_NE(error_of([&] { Tokenizer made(data); }).find("qwen2"), std::string::npos);  // suggested
  data = small_byte_bpe();
  data.tokens['x'] = "[none]";
  EXPECT_NE(error_of([&] { Tokenizer(data).encode("x", false); }).find("byte 120"), std::string::npos);
  data = small_byte_bpe();
  data.added[0].id = 5000;
  EXPECT_NE(error_of([&] { Tokenizer made(data); }).find("5000"), std::string::npos);
  data = small_byte_bpe();
  data.add_bos = true;
  EXPECT_NE(error_of([&] { Tokenizer made(data); }).find("BOS"), std::string::npos);
  EXPECT_NE(error_of([] { Tokenizer made(TokenizerData{}); }).find("none"), std::string::npos);
  EXPECT_NE(error_of([] { check_vocabulary(small_byte_bpe(), 256, "m"); }).find("263 tokens"), std::string::npos);
}

TEST(ByteBpe, OneLongWordTakesNoMinutes) {
  TokenizerData data = small_byte_bpe();
  add_merge(data, "a", "a");
  add_merge(data, "aa", "aa");
  const Tokenizer tokenizer(data);
  const auto start = std::chrono::steady_clock::now();
  const std::string text(1 << 20, 'a');
  const Ids ids = tokenizer.encode(text, false);
  EXPECT_EQ(ids.size(), text.size() / 4);
  EXPECT_EQ(tokenizer.decode(ids), text);
  EXPECT_EQ(tokenizer.encode(std::string(1 << 20, ' '), false).size(), std::size_t{1} << 20);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

TEST(ByteBpe, ManyThreadsGiveTheSame) {
  const Tokenizer tokenizer(small_byte_bpe());
  std::string text;
  Random random(3);
  for (int i = 0; i < 20000; ++i) text += "hel ow"[random.below(6)];
  const Ids expected = tokenizer.encode(text, false);
  std::list<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back([&] { EXPECT_EQ(tokenizer.encode(text, false), expected); });
  for (auto& thread : threads) thread.join();
}

TEST(MetaspaceBpe, EncodesAndDecodes) {
  const Tokenizer tokenizer(small_metaspace_bpe());
  EXPECT_EQ(tokenizer.encode("ab a", true), (Ids{1, 265, 264}));
  EXPECT_EQ(tokenizer.encode("  ab", false), (Ids{266, 265}));
  EXPECT_EQ(tokenizer.encode("aé\n", false), (Ids{264, 3 + 0xc3, 3 + 0xa9, 3 + '\n'}));
  for (const char* text : {"ab a", " ab", "   c b", "é\n a", "a\n"})
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, true)), text);
}

TEST(MetaspaceBpe, NormalizedTokensAreSoughtInNormalizedText) {
  TokenizerData data = small_metaspace_bpe();
  for (auto& token : data.added) token.normalized = true;
  const Tokenizer tokenizer(data);  // "</s>" is "_</s>" there: found only after a space
  EXPECT_EQ(tokenizer.encode("<s>a </s>", false), (Ids{1, 260, 2}));
  EXPECT_EQ(tokenizer.encode("a</s>", false).size(), 5u);
}

TEST(MetaspaceBpe, PreTokenizerPutsNoSecondSpace) {
  TokenizerData data = small_metaspace_bpe();
  data.prefix_unless_space = true;
  EXPECT_EQ(Tokenizer(data).encode(" a", false), (Ids{264}));
  EXPECT_EQ(Tokenizer(data).encode("a<s>a", false), (Ids{264, 1, 264}));
  data.prefix_first_only = true;
  EXPECT_EQ(Tokenizer(data).encode("a<s>a", false), (Ids{264, 1, 260}));
}

TEST(MetaspaceBpe, WithoutByteFallback) {
  TokenizerData data = small_metaspace_bpe();
  data.byte_fallback = false;
  EXPECT_EQ(Tokenizer(data).encode("aéüb", false), (Ids{264, 0, 261}));
  data.fuse_unk = false;
  EXPECT_EQ(Tokenizer(data).encode("aéüb", false), (Ids{264, 0, 0, 261}));
  data.unk_id = -1;
  EXPECT_NE(error_of([&] { Tokenizer(data).encode("é", false); }).find("'é'"), std::string::npos);
}

// Words that stand alone are cached and merged by themselves; a merge across a space forbids it.
TEST(MetaspaceBpe, MergesAcrossSpaces) {
  TokenizerData data = small_metaspace_bpe();
  add_merge(data, "b", "▁a");
  const Tokenizer tokenizer(data);
  EXPECT_EQ(tokenizer.encode("c b a", false), (Ids{259, 262, 259, 267}));
}

TEST(MetaspaceBpe, OneLongWordTakesNoMinutes) {
  const Tokenizer tokenizer(small_metaspace_bpe());
  const std::string text(1 << 20, 'b');
  EXPECT_EQ(tokenizer.encode(text, false).size(), text.size() + 1);
}

// The same as small_metaspace_bpe: scores in place of merges.
TokenizerData small_sentencepiece() {
  TokenizerData data = small_metaspace_bpe();
  data.kind = TokenizerKind::kSentencePiece;
  data.added.clear();
  data.types[0] = TokenType::kUnknown;
  data.scores.assign(data.tokens.size(), 0.0f);
  for (std::size_t id = 259; id < 263; ++id) data.scores[id] = -1000.0f;
  for (std::size_t id = 263; id < data.tokens.size(); ++id) data.scores[id] = -static_cast<float>(id - 262);
  data.merges.clear();
  return data;
}

std::int64_t add_piece(TokenizerData& data, const std::string& piece, float score,
                       TokenType type = TokenType::kNormal) {
  data.tokens.push_back(piece);
  data.scores.push_back(score);
  data.types.push_back(type);
  return static_cast<std::int64_t>(data.tokens.size()) - 1;
}

TEST(SentencePieceBpe, EncodesAndDecodes) {
  const Tokenizer tokenizer(small_sentencepiece());
  EXPECT_EQ(tokenizer.encode("ab a", true), (Ids{1, 265, 264}));
  EXPECT_EQ(tokenizer.encode("aé\n", false), (Ids{264, 3 + 0xc3, 3 + 0xa9, 3 + '\n'}));
  EXPECT_EQ(tokenizer.encode("<s>", false).size(), 4u);  // control tokens are not read from text
  for (const char* text : {"ab a", " ab", "   c b", "é\n a", "a\n"})
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, true)), text);
  EXPECT_EQ(tokenizer.decode(Ids{0}), "\u2047 ");
  EXPECT_EQ(tokenizer.encode(std::string(1 << 20, 'b'), false).size(), (std::size_t{1} << 20) + 1);
}

TEST(SentencePieceBpe, UserDefinedPiecesStayWhole) {
  TokenizerData data = small_sentencepiece();
  const auto bc = add_piece(data, "bc", 0, TokenType::kUserDefined);
  const auto aba = add_piece(data, "aba", 5);  // the best score, but its b is taken
  const Tokenizer tokenizer(data);
  EXPECT_EQ(tokenizer.encode("abc", false), (Ids{264, bc}));
  EXPECT_EQ(tokenizer.encode("abac", false), (Ids{259, aba, 262}));
}

TEST(SentencePieceBpe, PiecesOfCharactersThatAreNone) {
  TokenizerData data = small_sentencepiece();
  const auto piece = add_piece(data, "éa", -0.5f);  // é alone is no piece
  const Tokenizer tokenizer(data);
  EXPECT_EQ(tokenizer.encode("céa", false), (Ids{259, 262, piece}));
  EXPECT_EQ(tokenizer.encode("é", false), (Ids{259, 3 + 0xc3, 3 + 0xa9}));
  data.byte_fallback = false;
  EXPECT_EQ(Tokenizer(data).encode("céü", false), (Ids{259, 262, 0}));  // neighbours become one
}

TEST(SentencePieceUnigram, TakesTheBestPath) {
  TokenizerData data = small_sentencepiece();
  data.unigram = true;
  // _ab + c costs 1003, _a + bc 2 + 6.
  const auto bc = add_piece(data, "bc", -6);
  EXPECT_EQ(Tokenizer(data).encode("abc", false), (Ids{264, bc}));
  const auto abc = add_piece(data, "abc", -7);  // _ + abc costs 1007
  EXPECT_EQ(Tokenizer(data).encode("abc", false), (Ids{264, bc}));
  data.scores[static_cast<std::size_t>(259)] = -0.5f;
  EXPECT_EQ(Tokenizer(data).encode("abc", false), (Ids{259, abc}));
  EXPECT_EQ(Tokenizer(data).encode("é", false), (Ids{259, 3 + 0xc3, 3 + 0xa9}));
}

TEST(SentencePiece, ExtraSpacesGo) {
  TokenizerData data = small_sentencepiece();
  data.remove_extra_spaces = true;
  const Tokenizer tokenizer(data);
  EXPECT_EQ(tokenizer.encode("  a   ab  ", false), (Ids{264, 265}));
  EXPECT_EQ(tokenizer.encode("   ", false), Ids{});
}

// A trie that maps "A" to "a" and "AB" to "b": units of darts-clone, see sentencepiece_normalizer.cc.
std::string small_charsmap() {
  std::vector<std::uint32_t> units(512, 0);
  units[0] = 256u << 10;                                           // the root's children start at 256
  units[256 ^ 'A'] = 'A' | 1u << 8 | ((256u ^ 'A' ^ 384u) << 10);  // "A" ends here; its children start at 384
  units[384] = 1u << 31 | 0;                                       // the leaf: offset 0
  units[384 ^ 'B'] = 'B' | 1u << 8 | ((384u ^ 'B' ^ 448u) << 10);
  units[448] = 1u << 31 | 2;
  const std::uint32_t size = 512 * 4;
  std::string blob(reinterpret_cast<const char*>(&size), 4);
  blob.append(reinterpret_cast<const char*>(units.data()), size);
  return blob + std::string("a\0b\0", 4);
}

TEST(SentencePiece, CharactersAreNormalised) {
  TokenizerData data = small_sentencepiece();
  data.charsmap = small_charsmap();
  EXPECT_EQ(Tokenizer(data).encode("A AB c", false), Tokenizer(small_sentencepiece()).encode("a b c", false));
  for (const std::size_t size : {std::size_t{3}, std::size_t{100}, data.charsmap.size() - 1}) {
    TokenizerData cut = small_sentencepiece();
    cut.charsmap = data.charsmap.substr(0, size);
    EXPECT_NE(error_of([&] { Tokenizer made(cut); }).find("precompiled_charsmap"), std::string::npos);
  }
  std::fill(data.charsmap.begin() + 4, data.charsmap.begin() + 4 + 2048, '\xff');
  error_of([&] { Tokenizer(data).encode("A AB c", false); });  // any answer, but none outside the table
}

TEST(SentencePiece, BadVocabulary) {
  TokenizerData data = small_sentencepiece();
  data.scores.pop_back();
  EXPECT_NE(error_of([&] { Tokenizer made(data); }).find("scores"), std::string::npos);
  data = small_sentencepiece();
  data.scores[260] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_NE(error_of([&] { Tokenizer made(data); }).find("260"), std::string::npos);
  data = small_sentencepiece();
  data.tokens[260] = "\xff";
  EXPECT_NE(error_of([&] { Tokenizer made(data); }).find("260"), std::string::npos);
}

TEST(Tokenizer, HashIsOfWhatItDoes) {
  const TokenizerData data = small_byte_bpe();
  const std::string hash = Tokenizer(data).hash();
  TokenizerData padded = data;
  padded.tokens.push_back("[PAD263]");
  padded.types.push_back(TokenType::kUnused);
  padded.chat_template = "other";
  EXPECT_EQ(Tokenizer(padded).hash(), hash);
  TokenizerData swapped = data;
  std::swap(swapped.merges[4], swapped.merges[5]);
  EXPECT_NE(Tokenizer(swapped).hash(), hash);
  TokenizerData cut = data;
  cut.pre = "qwen2";
  EXPECT_NE(Tokenizer(cut).hash(), hash);
}

TEST(StreamDecoder, GivesWholeCharactersAsSoonAsTheyAre) {
  const Tokenizer tokenizer(small_metaspace_bpe());
  StreamDecoder stream(tokenizer);
  EXPECT_EQ(stream.push(1), "");
  EXPECT_EQ(stream.push(264), "a");  // without the space that encode() put there
  EXPECT_EQ(stream.push(264), " a");
  for (const int byte : {0xf0, 0x9f, 0x91}) EXPECT_EQ(stream.push(3 + byte), "");
  EXPECT_EQ(stream.push(3 + 0x8d), "👍");
  EXPECT_EQ(stream.push(3 + 0xc3), "");
  EXPECT_EQ(stream.push(260),
            "\xc3"
            "a");  // not UTF-8, but what the model said
  EXPECT_EQ(stream.push(3 + 0xe2), "");
  EXPECT_EQ(stream.finish(), "\xe2");
}

}  // namespace
}  // namespace attar
