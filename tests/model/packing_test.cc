// Packed texts give what each gives alone, in every family and with every feature that looks along a text.
#include <gtest/gtest.h>

#include "model/decoder.h"
#include "tests/model/models.h"
#include "tests/support.h"

namespace attar {
namespace {

using test::max_difference;
using test::random_ids;
using test::tiny_config;
using test::tiny_decoder;

// Rows of texts of these lengths, each row as long as the others.
const std::vector<std::vector<std::int64_t>> kRows = {{5, 1, 9}, {15}, {2, 13}};

Packing packing_of(const std::vector<std::vector<std::int64_t>>& rows) {
  std::vector<at::Tensor> documents, positions;
  Packing packing;
  for (const auto& row : rows) {
    std::vector<at::Tensor> document, position;
    for (std::size_t i = 0; i < row.size(); ++i) {
      document.push_back(at::full({row[i]}, static_cast<std::int64_t>(i), at::kLong));
      position.push_back(at::arange(row[i], at::kLong));
      packing.longest = std::max(packing.longest, row[i]);
    }
    documents.push_back(at::cat(document)), positions.push_back(at::cat(position));
  }
  packing.document = at::stack(documents), packing.position = at::stack(positions);
  return packing;
}

class PackedTexts : public testing::TestWithParam<Family> {};

TEST_P(PackedTexts, EachTextAsIfItWereAlone) {
  ModelConfig config = tiny_config(GetParam());
  if (GetParam() == Family::kMistral) config.sliding_window = 4, config.sliding_layers.assign(3, true);
  const auto decoder = tiny_decoder(config);
  const at::NoGradGuard no_grad;
  const Packing packing = packing_of(kRows);
  const at::Tensor ids = random_ids(config, 3, 15);
  decoder->packing = &packing;
  const at::Tensor together = decoder->forward(ids);
  decoder->packing = nullptr;
  for (std::size_t row = 0; row < kRows.size(); ++row) {
    std::int64_t begin = 0;
    for (const std::int64_t length : kRows[row]) {
      const auto r = static_cast<std::int64_t>(row);
      const at::Tensor alone = decoder->forward(ids.narrow(0, r, 1).narrow(1, begin, length));
      EXPECT_LT(max_difference(together.narrow(0, r, 1).narrow(1, begin, length), alone), 2e-5)
          << "row " << row << ", text at " << begin;
      begin += length;
    }
  }
  EXPECT_GT(max_difference(decoder->forward(ids), together), 1e-3);  // it does make a difference
}

TEST_P(PackedTexts, GradientsAreTheSumOfThoseAlone) {
  const ModelConfig config = tiny_config(GetParam());
  const auto decoder = tiny_decoder(config);
  const std::vector<std::vector<std::int64_t>> rows = {{5, 1, 9}};
  const Packing packing = packing_of(rows);
  const at::Tensor ids = random_ids(config, 1, 15);
  const at::Tensor weight = decoder->parameter(decoder->linear_weights(0).front());
  decoder->packing = &packing;
  decoder->forward(ids).square().sum().backward();
  decoder->packing = nullptr;
  const at::Tensor together = weight.grad().clone();
  weight.mutable_grad().zero_();
  std::int64_t begin = 0;
  for (const std::int64_t length : rows[0]) {
    decoder->forward(ids.narrow(1, begin, length)).square().sum().backward();
    begin += length;
  }
  EXPECT_LT(max_difference(together, weight.grad()), 1e-4 * together.abs().max().item<double>());
}

INSTANTIATE_TEST_SUITE_P(All, PackedTexts,
                         testing::Values(Family::kLlama, Family::kMistral, Family::kQwen3, Family::kPhi3, Family::kGemma2,
                                         Family::kGemma3));

TEST(Packing, BlocksOfALongTextSeeTheirOwn) {  // more queries than a block holds
  const ModelConfig config = tiny_config(Family::kLlama);
  const auto decoder = tiny_decoder(config);
  const at::NoGradGuard no_grad;
  const Packing packing = packing_of({{290, 310}});
  const at::Tensor ids = random_ids(config, 1, 600);
  decoder->packing = &packing;
  const at::Tensor together = decoder->forward(ids);
  decoder->packing = nullptr;
  EXPECT_LT(max_difference(together.narrow(1, 290, 310), decoder->forward(ids.narrow(1, 290, 310))), 2e-5);
}

TEST(Packing, RefusesWhatItCannotDo) {
  ModelConfig config = tiny_config(Family::kLlama);
  config.rope.type = config.local_rope.type = RopeType::kDynamic;
  config.rope.factor = config.local_rope.factor = 2;
  config.max_positions = 12;
  const auto decoder = tiny_decoder(config);
  const at::Tensor ids = random_ids(config, 3, 15);
  const Packing packing = packing_of(kRows), small = packing_of({{5, 7}});
  decoder->packing = &packing;
  EXPECT_THROW(decoder->forward(ids), Error);  // 15 tokens turn by other angles than 12
  EXPECT_THROW(decoder->embed(ids), Error);    // nor layer by layer, as activations are computed again
  decoder->packing = &small;
  EXPECT_THROW(decoder->forward(ids), Error);  // another shape
  EXPECT_NO_THROW(decoder->forward(ids.narrow(0, 0, 1).narrow(1, 0, 12)));
  KvCache cache;
  EXPECT_THROW(decoder->forward(ids.narrow(0, 0, 1).narrow(1, 0, 12), &cache), Error);
}

}  // namespace
}  // namespace attar
