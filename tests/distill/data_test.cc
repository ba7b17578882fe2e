#include "distill/data.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <set>

#include "base/error.h"
#include "tests/cli/tiny_model.h"
#include "tests/support.h"

namespace attar {
namespace {

Document text_of(std::int64_t first, std::int64_t count) {
  Document document;
  for (std::int64_t i = 0; i < count; ++i) document.ids.push_back(first + i);
  return document;
}

TEST(PackDocuments, WholeAndEachTokenOnce) {
  std::vector<Document> documents = {text_of(0, 3), text_of(10, 7), text_of(20, 8), text_of(30, 4), text_of(40, 2)};
  SkipCounts skips;
  const auto chunks = pack_documents(documents, 10, 99, skips);
  ASSERT_EQ(chunks.size(), 3u);  // 8 + 2, 7 + 3, 4
  EXPECT_EQ(chunks[0].ids, (Ids{20, 21, 22, 23, 24, 25, 26, 27, 40, 41}));
  EXPECT_EQ(chunks[0].starts, (std::vector<std::int64_t>{0, 8}));
  EXPECT_EQ(chunks[0].learn, (std::vector<std::uint8_t>{0, 1, 1, 1, 1, 1, 1, 1, 0, 1}));
  EXPECT_EQ(chunks[1].ids, (Ids{10, 11, 12, 13, 14, 15, 16, 0, 1, 2}));
  EXPECT_EQ(chunks[2].ids, (Ids{30, 31, 32, 33, 99, 99, 99, 99, 99, 99}));
  EXPECT_EQ(chunks[2].starts, (std::vector<std::int64_t>{0, 4}));
  EXPECT_EQ(targets_of(chunks[2]), 3);
  EXPECT_EQ(skips.skipped() + skips.cut, 0);
}

TEST(PackDocuments, CountsWhatCannotBeLearnt) {
  Document silent = text_of(50, 4), late = text_of(60, 14);
  silent.learn.assign(4, 0);
  late.learn.assign(14, 0);
  late.learn[12] = 1;  // only in its second part
  std::vector<Document> documents = {{}, text_of(1, 1), silent, late, text_of(20, 21)};
  for (const bool joined : {true, false}) {
    SkipCounts skips;
    const auto chunks = joined ? join_documents(documents, 10, skips) : pack_documents(documents, 10, 0, skips);
    EXPECT_EQ(skips.empty, 1);
    EXPECT_EQ(skips.one_token, 1);
    EXPECT_EQ(skips.masked, 1);
    EXPECT_EQ(skips.cut, joined ? 0 : 2);
    std::int64_t targets = 0;
    for (const Chunk& chunk : chunks) {
      EXPECT_EQ(chunk.ids.size(), 10u);
      EXPECT_GT(targets_of(chunk), 0);
      targets += targets_of(chunk);
    }
    // late: 1; of 21 tokens two parts of 10, whose first has nothing before it, and one token left. Joined: 35 tokens make
    // chunks of 10 ... the first has nothing to learn and goes, the next have 7 and 9; the last 5 tokens fill none.
    EXPECT_EQ(targets, joined ? 7 + 9 : 1 + 9 + 9);
  }
}

TEST(JoinDocuments, MasksGoAlong) {
  Document chat = text_of(0, 6);
  chat.learn = {0, 0, 1, 1, 0, 0};
  SkipCounts skips;
  const auto chunks = join_documents({chat, text_of(10, 6)}, 6, skips);
  ASSERT_EQ(chunks.size(), 2u);
  EXPECT_EQ(chunks[0].learn, chat.learn);
  EXPECT_EQ(targets_of(chunks[0]), 2);
  EXPECT_TRUE(chunks[1].learn.empty());
  EXPECT_TRUE(chunks[0].starts.empty());
}

class Corpus : public testing::Test {
 protected:
  void SetUp() override {
    test::write_tiny_folder(folder_.path());
    tokenizer_ = std::make_unique<Tokenizer>(read_tokenizer_data(folder_.path()));
  }
  // What is there already stays: a source that reads ahead still has it mapped.
  std::string write(const std::string& name, const std::string& text) {
    if (!fs::exists(folder_ / name)) std::ofstream(folder_ / name, std::ios::binary) << text;
    return (folder_ / name).string();
  }
  // Lines 000 to 999, each 20 bytes: every one a document.
  std::string lines(char letter, int count) {
    std::string text;
    for (int i = 0; i < count; ++i) {
      std::string number = std::to_string(1000 + i).substr(1);
      text += number + std::string(17, letter) + "\n\n";
    }
    return write(std::string(1, letter) + ".txt", text);
  }
  std::unique_ptr<ChunkSource> open(const std::vector<std::string>& sources, PackMode packing = PackMode::kDocuments,
                                    std::uint64_t seed = 3, std::int64_t length = 20) {
    return open_mixture(sources, *tokenizer_, {length, seed, packing});
  }
  std::string error_of(const std::vector<std::string>& sources, std::int64_t length = 20) {
    return test::error_of([&] { open(sources, PackMode::kDocuments, 3, length)->next(); });
  }
  test::TempFolder folder_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(Corpus, EveryEpochHasEveryDocumentInAnotherOrder) {
  const auto data = open({lines('a', 1000)});
  std::map<Ids, int> seen;
  std::vector<Ids> order;
  for (int i = 0; i < 10000; ++i) {
    order.push_back(data->next().ids);
    ++seen[order.back()];
  }
  EXPECT_EQ(seen.size(), 1000u);
  for (const auto& [ids, count] : seen) EXPECT_NEAR(count, 10, 1);  // a block reaches over the end of an epoch
  EXPECT_NE(std::vector<Ids>(order.begin(), order.begin() + 20), std::vector<Ids>(order.begin() + 1000, order.begin() + 1020));
  EXPECT_NE(open({lines('a', 1000)}, PackMode::kDocuments, 4)->next().ids, order[0]);
}

TEST_F(Corpus, SeekGoesAnywhereInEveryMode) {
  const std::string chat = write("t.jsonl", "{\"text\": \"\"}\n{\"text\": \"some words\"}\n{\"input_ids\": [1]}\n{\"text\": \"a longer line that is cut\"}\n");
  for (const PackMode mode : {PackMode::kJoined, PackMode::kDocuments}) {
    const std::vector<std::string> sources = {lines('a', 300) + ":2", chat + ":0.5", "builtin:train:1"};
    const auto data = open(sources, mode);
    for (int i = 0; i < 333; ++i) data->next();
    const auto place = nlohmann::json::parse(data->position().dump());
    const SkipCounts skips = data->skips;
    std::vector<Chunk> rest;
    for (int i = 0; i < 300; ++i) rest.push_back(data->next());
    const auto again = open(sources, mode);
    again->seek(place);
    EXPECT_EQ(nlohmann::json(again->skips), nlohmann::json(skips));
    for (const Chunk& chunk : rest) ASSERT_EQ(again->next(), chunk);
    EXPECT_EQ(again->identity, data->identity);
    EXPECT_THROW(again->seek({{"taken", {1}}, {"sources", nlohmann::json::array()}}), Error);
  }
}

TEST_F(Corpus, WeightsAreSharesOfTheChunks) {
  const std::string a = lines('a', 50), b = lines('b', 400);
  const auto data = open({a + ":0.7", b + ":0.3"});
  std::map<std::int64_t, int> seen;
  for (int i = 1; i <= 1000; ++i) {
    ++seen[data->next().ids[10]];
    EXPECT_NEAR(seen['a'], 0.7 * i, 1.0);
  }
  EXPECT_EQ(seen['a'], 700);
  EXPECT_EQ(seen['b'], 300);
  EXPECT_NE(data->identity, open({a + ":0.6", b + ":0.4"})->identity);
}

TEST_F(Corpus, SkipsAreCountedOnce) {
  const auto data = open({write("s.jsonl", "{\"text\": \"\"}\n{\"input_ids\": [5]}\n{\"text\": \"hello there\"}\n{\"text\": \"thirty letters, longer than it is\"}\n")});
  for (int i = 0; i < 500; ++i) data->next();  // many epochs
  EXPECT_EQ(data->skips.empty, 1);
  EXPECT_EQ(data->skips.one_token, 1);
  EXPECT_EQ(data->skips.masked, 0);
  EXPECT_EQ(data->skips.cut, 1);
}

// Of a text the first blocks in the seed's order are read, and no document twice.
TEST_F(Corpus, HeldOutChunksAreDifferentOnesOfTheWholeText) {
  for (const PackMode mode : {PackMode::kJoined, PackMode::kDocuments}) {
    const auto held_out = [&](std::int64_t count, std::uint64_t seed) { return held_out_chunks(lines('a', 1000), *tokenizer_, count, {20, seed, mode}); };
    const auto all = held_out(0, 3);
    EXPECT_EQ(all.size(), 1000u);
    std::set<Ids> seen;
    for (const Chunk& chunk : all) seen.insert(chunk.ids);
    EXPECT_EQ(seen.size(), 1000u);
    const auto some = held_out(500, 3);  // more than a block
    EXPECT_EQ(std::vector<Chunk>(all.begin(), all.begin() + 500), some);
    const auto first = std::minmax_element(some.begin(), some.end(), [](const Chunk& a, const Chunk& b) { return a.ids < b.ids; });
    EXPECT_EQ(first.first->ids[0], '0');   // from all over the text
    EXPECT_EQ(first.second->ids[0], '9');
    EXPECT_NE(held_out(500, 4), some);
  }
  EXPECT_HAS(test::error_of([&] { held_out_chunks(lines('a', 1000), *tokenizer_, 1001, {20, 3, PackMode::kJoined}); }),
             "gives 1000 chunks of 20 tokens, 1001 are needed");
}

TEST_F(Corpus, BadSourcesAreRefused) {
  const std::string empty = write("e.jsonl", "{\"text\": \"\"}\n{\"input_ids\": [5]}\n");
  EXPECT_HAS(error_of({empty}), "e.jsonl has nothing to learn in chunks of 20 tokens: 1 empty documents, 1 of one token, 0 with nothing");
  EXPECT_HAS(error_of({lines('a', 5) + ":0"}), "a weight must be above 0");
  EXPECT_HAS(error_of({lines('a', 5) + ":-1"}), "a weight must be above 0");
  EXPECT_HAS(error_of({(folder_ / "none.txt").string() + ":0.5"}), "none.txt");
  EXPECT_HAS(error_of({write("j.jsonl", "{\"text\": \"a\"}\n{oops\n")}), "j.jsonl: line 2 is not a JSON object");
  EXPECT_HAS(error_of({}), "no source");
  EXPECT_THROW(pack_mode_from_name("tight"), Error);
  EXPECT_THROW(held_out_chunks(lines('a', 5), *tokenizer_, 6, {20, 1, PackMode::kDocuments}), Error);
  EXPECT_EQ(held_out_chunks(lines('a', 5), *tokenizer_, 5, {20, 1, PackMode::kDocuments}).size(), 5u);
}

}  // namespace
}  // namespace attar
