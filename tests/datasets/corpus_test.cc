#include "datasets/corpus.h"

#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "base/error.h"
#include "base/threads.h"
#include "datasets/stories.h"
#include "tests/convert/bytes.h"
#include "tests/datasets/small_tokenizers.h"
#include "tests/support.h"

namespace attar {
namespace {

using test::error_of;

std::string write(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
  return path.string();
}

using Documents = std::vector<std::string>;

TEST(Corpus, TextIsCutAtBlankLines) {
  const test::TempFolder folder;
  const auto source = write(folder / "a.txt", "\n \none\ntwo\n\n\t\r\nthree \n\n\nfour");
  EXPECT_EQ(read_documents(source), (Documents{"one\ntwo", "three ", "four"}));
  EXPECT_EQ(read_source(source), "\n \none\ntwo\n\n\t\r\nthree \n\n\nfour");
}

TEST(Corpus, JsonLines) {
  const test::TempFolder folder;
  const auto source =
      write(folder / "a.jsonl", "{\"text\": \"one\\ntwo\", \"id\": 1}\n\n{\"text\": \"\"}\n{\"text\": \"ü\"}");
  EXPECT_EQ(read_documents(source), (Documents{"one\ntwo", "ü"}));
  EXPECT_EQ(read_source(source), "one\ntwo\nü");
}

TEST(Corpus, BuiltIn) {
  const auto documents = read_documents("builtin:heldout");
  EXPECT_EQ(static_cast<std::int64_t>(documents.size()), default_story_count(Split::kHeldout));
  const std::string text = read_source("builtin:heldout");
  EXPECT_TRUE(text.starts_with(documents[0] + "\n" + documents[1] + "\n"));
  EXPECT_HAS(error_of([] { read_documents("builtin:held-out"); }), "heldout");
}

TEST(Corpus, Errors) {
  const test::TempFolder folder;
  EXPECT_HAS(error_of([&] { read_documents(write(folder / "ids.json", "[1, 2]")); }), "neither text nor lines");
  EXPECT_HAS(error_of([&] { read_documents((folder / "none.txt").string()); }), "none.txt");
  EXPECT_HAS(error_of([&] { read_documents(write(folder / "empty.txt", "")); }), "empty");
  EXPECT_HAS(error_of([&] { read_documents(write(folder / "blank.txt", " \n\n")); }), "no text");
  EXPECT_HAS(error_of([&] { read_source(write(folder / "latin.txt", "caf\xe9 au lait")); }), "byte 3");
  EXPECT_HAS(error_of([&] { read_documents(write(folder / "latin.jsonl", "{\"text\": \"\xe9\"}")); }), "byte 10");
  EXPECT_HAS(error_of([&] { read_documents(write(folder / "b.jsonl", "{\"text\": \"a\"}\n{\"txt\": 1}\n")); }),
             "line 2");
  EXPECT_HAS(error_of([&] { read_documents(write(folder / "c.jsonl", "{\"text\": \"a\"}\n\n{\"text\": 1}\n")); }),
             "line 3");
  EXPECT_HAS(error_of([&] { read_documents(write(folder / "d.jsonl", "{\"text\": \"a\"")); }), "line 1");
}

TEST(Corpus, ChunksFollowEachOther) {
  const Tokenizer tokenizer(test::small_byte_bpe());
  EXPECT_EQ(chunk_text(tokenizer, "abcdefg", 3, true), (std::vector<Ids>{{'a', 'b', 'c'}, {'d', 'e', 'f'}}));
  EXPECT_HAS(error_of([&] { chunk_text(tokenizer, "ab", 3, false); }), "2 tokens");
  EXPECT_HAS(error_of([&] { chunk_text(tokenizer, "ab", 1, false); }), "at least 2");
}

TEST(Corpus, ChunksStartWithBosAsLlamaPerplexitys) {
  TokenizerData data = test::small_byte_bpe();
  data.bos_id = data.eos_id;
  data.add_bos = true;
  const Tokenizer tokenizer(data);
  EXPECT_EQ(chunk_text(tokenizer, "abcdefg", 3, true), (std::vector<Ids>{{262, 'a', 'b'}, {262, 'd', 'e'}}));
  EXPECT_EQ(chunk_text(tokenizer, "abcdefg", 3, false), (std::vector<Ids>{{'a', 'b', 'c'}, {'d', 'e', 'f'}}));
}

TEST(Corpus, SampledChunksAreAllOfThemInAnOrderOfTheSeed) {
  TokenizerData data = test::small_byte_bpe();
  const Tokenizer tokenizer(data);
  Documents documents;
  for (int i = 0; i < 40; ++i) documents.push_back(std::string(7, static_cast<char>('A' + i)));
  const test::TempFolder folder;
  std::string text;
  for (const std::string& document : documents) text += document + "\n\n";
  const auto source = write(folder / "a.txt", text);
  const auto chunks = sample_chunks(read_token_documents(tokenizer, source), 8, 0, 1);
  EXPECT_EQ(chunks.size(), 40u);
  const std::set<Ids> distinct(chunks.begin(), chunks.end());
  EXPECT_EQ(distinct.size(), 40u);
  for (const Ids& chunk : chunks) EXPECT_EQ(chunk.back(), data.eos_id);  // seven letters and the end of the document
  EXPECT_EQ(sample_chunks(read_token_documents(tokenizer, source), 8, 0, 1), chunks);
  EXPECT_NE(sample_chunks(read_token_documents(tokenizer, source), 8, 0, 2), chunks);
  set_thread_count(1);
  const auto one_thread = sample_chunks(read_token_documents(tokenizer, source), 8, 5, 1);
  set_thread_count(0);
  EXPECT_EQ(one_thread, std::vector<Ids>(chunks.begin(), chunks.begin() + 5));
  EXPECT_HAS(error_of([&] { sample_chunks(read_token_documents(tokenizer, source), 8, 41, 1); }), "40 chunks");
  EXPECT_HAS(error_of([&] { sample_chunks({{97, 262}}, 8, 0, 1); }), "0 chunks");
}

}  // namespace
}  // namespace attar
