#include "distill/shape_search.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/error.h"
#include "tests/distill/tiny.h"
#include "tests/support.h"

namespace attar {
namespace {

// The sizes of stories15M.
ModelConfig stories_config() {
  auto json = test::tiny_json();
  json.update({{"hidden_size", 288}, {"intermediate_size", 768}, {"num_hidden_layers", 6}, {"num_attention_heads", 6},
               {"num_key_value_heads", 6}, {"head_dim", 48}, {"vocab_size", 32000}});
  return parse_config(json, "test");
}

std::uint64_t count_of(const ModelConfig& config, const StudentShape& shape) { return parameter_count(shaped_config(config, shape)); }

StudentShape cheapest(const ModelConfig& config, std::uint64_t target, const StudentShape& fixed = {}, const TokenRanking* tokens = nullptr) {
  return propose_shapes(config, {target}, fixed, tokens, 1).front();
}

// A corpus in which few tokens do most of the work.
TokenRanking steep_ranking() {
  TokenRanking tokens;
  tokens.order.resize(32000);
  tokens.required = 259;
  for (int n = 0; n <= 32000 - 259; ++n) tokens.length.push_back(1'000'000 + static_cast<std::int64_t>(3e6 * std::exp(-n / 500.0)));
  return tokens;
}

TEST(ProposeShapes, TheFirstStaysUnderTheTargetInLegalSteps) {
  const ModelConfig config = stories_config();
  const std::uint64_t full = parameter_count(config);
  EXPECT_EQ(full, 15191712u);
  const std::uint64_t target = full * 6 / 10;
  const StudentShape shape = cheapest(config, target);
  EXPECT_LE(count_of(config, shape), target);
  EXPECT_GE(count_of(config, shape), target * 95 / 100);
  EXPECT_EQ(shape.hidden % 32, 0);
  EXPECT_EQ(shape.ffn % 256, 0);
  EXPECT_EQ(cheapest(config, full).layers, 6);
  EXPECT_EQ(cheapest(config, full).hidden, 288);
  EXPECT_EQ(cheapest(config, target, {.layers = 5}).layers, 5);
  try {
    cheapest(config, 1000);
    FAIL();
  } catch (const Error& error) {
    EXPECT_HAS(std::string(error.what()), "no student of 1000 parameters");
    EXPECT_HAS(std::string(error.what()), "the smallest has");
  }
}

TEST(ProposeShapes, AllAreDifferentLegalAndAsFull) {
  const ModelConfig config = stories_config();
  const TokenRanking tokens = steep_ranking();
  for (const TokenRanking* ranking : {static_cast<const TokenRanking*>(nullptr), &tokens}) {
    const std::uint64_t target = parameter_count(config) * 6 / 10;
    const auto shapes = propose_shapes(config, {target}, {}, ranking, 6);
    ASSERT_EQ(shapes.size(), 6u);
    std::uint64_t fullest = 0, emptiest = target;
    std::set<std::vector<std::int64_t>> seen;
    for (const StudentShape& shape : shapes) {
      EXPECT_NO_THROW(check_shape(config, shape));
      EXPECT_EQ(shape.hidden % 32, 0);
      EXPECT_EQ(shape.ffn % 256, 0);
      EXPECT_LE(count_of(config, shape), target);
      fullest = std::max(fullest, count_of(config, shape));
      emptiest = std::min(emptiest, count_of(config, shape));
      EXPECT_TRUE(seen.insert({shape.layers, shape.hidden, shape.ffn, shape.heads, shape.vocabulary}).second);
    }
    EXPECT_GE(static_cast<double>(emptiest), 0.95 * static_cast<double>(fullest));
    const StudentShape first = cheapest(config, target, {}, ranking);
    EXPECT_TRUE(shapes.front().layers == first.layers && shapes.front().hidden == first.hidden && shapes.front().ffn == first.ffn);
    EXPECT_EQ(propose_shapes(config, {target}, {}, ranking, 3).size(), 3u);
  }
  EXPECT_EQ(propose_shapes(config, {parameter_count(config)}, {}, nullptr, 6).front().layers, 6) << "nothing has to go";
}

// In bytes of bf16: two for each parameter, and 30 for each token's entry in the tokenizer.
TEST(ProposeShapes, BytesCountWhatStandsBesideTheWeights) {
  const ModelConfig config = stories_config();
  const TokenRanking tokens = steep_ranking();
  const Budget budget{20'000'000, "bytes", 2, 32000 * 30 + 5000, 30};
  for (const TokenRanking* ranking : {static_cast<const TokenRanking*>(nullptr), &tokens})
    for (const StudentShape& shape : propose_shapes(config, budget, {}, ranking, 4)) {
      const std::uint64_t bytes = 2 * count_of(config, shape) + 30 * static_cast<std::uint64_t>(shape.vocabulary) + 5000;
      EXPECT_LE(bytes, budget.most);
      EXPECT_GE(bytes, budget.most * 90 / 100);
    }
}

// Where few tokens do most of the work, a vocabulary costs less than depth or width.
TEST(ProposeShapes, TheVocabularyGoesFirstWhereItIsHardlyUsed) {
  const ModelConfig config = stories_config();
  const TokenRanking tokens = steep_ranking();
  const std::uint64_t full = parameter_count(config), target = full * 6 / 10;
  const StudentShape shape = cheapest(config, target, {}, &tokens);
  EXPECT_EQ(shape.layers, 6);
  EXPECT_EQ(shape.hidden, 288);
  EXPECT_EQ(shape.ffn, 768);
  EXPECT_EQ(shape.heads, 6);
  EXPECT_EQ(shape.vocabulary, (target - (full - 32000 * 288)) / 288 / 32 * 32);
  const StudentShape small = cheapest(config, full / 4, {}, &tokens);  // tokens alone do not make room for that
  EXPECT_LE(count_of(config, small), full / 4);
  EXPECT_LT(small.ffn * small.hidden * small.layers, 768 * 288 * 6);
  EXPECT_GE(small.vocabulary, 259);
  EXPECT_EQ(cheapest(config, full, {}, &tokens).vocabulary, 32000);
}

TEST(LegalStep, KeepsWhatQuantizersLike) {
  EXPECT_EQ(legal_step(1024), 256);
  EXPECT_EQ(legal_step(768), 256);
  EXPECT_EQ(legal_step(256), 32);
  EXPECT_EQ(legal_step(288), 32);
  EXPECT_EQ(legal_step(576), 32);
  EXPECT_EQ(legal_step(72), 8);
}

}  // namespace
}  // namespace attar
