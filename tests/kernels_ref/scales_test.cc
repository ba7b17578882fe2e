#include <gtest/gtest.h>

#include "base/error.h"
#include "base/random.h"
#include "tests/kernels_ref/gridded_types.h"

namespace attar {
namespace {

constexpr std::size_t kWeights = 1024;

class Scales : public ::testing::TestWithParam<Type> {
 protected:
  void SetUp() override {
    Random random(3);
    std::vector<float> weights(kWeights);
    for (float& w : weights) w = static_cast<float>(random.uniform() + random.uniform() - 1.0);
    row.resize(row_bytes(GetParam(), kWeights));
    encode_row(GetParam(), weights, {}, row);
  }
  std::size_t blocks() const { return kWeights / block_weights(GetParam(), kWeights); }
  Bytes row;
};

// The formula in types.h, with these float operations, is what decode_row computes.
TEST_P(Scales, AreWhatTheDecoderUses) {
  const GridInfo& grid = info(GetParam()).grid;
  const std::size_t width = block_weights(GetParam(), kWeights), group = group_weights(GetParam(), kWeights);
  const std::vector<BlockScales> blocks = read_scales(GetParam(), row, kWeights);
  ASSERT_EQ(blocks.size(), kWeights / width);
  std::vector<std::uint8_t> codes(kWeights);
  read_codes(GetParam(), row, codes);
  std::vector<float> decoded(kWeights);
  decode_row(GetParam(), row, decoded);
  for (std::size_t i = 0; i < kWeights; ++i) {
    const BlockScales& s = blocks[i / width];
    const std::size_t g = i % width / group;
    EXPECT_GE(s.sc[g], grid.scale_min);
    EXPECT_LE(s.sc[g], grid.scale_max);
    const float scaled = s.d * static_cast<float>(s.sc[g]) * level(grid, codes[i]);
    ASSERT_EQ(decoded[i], grid.has_offset ? scaled - s.dmin * static_cast<float>(s.m[g]) : scaled) << i;
  }
}

TEST_P(Scales, WrittenBackTheyGiveTheSameBytes) {
  Bytes other = row;
  std::vector<BlockScales> blocks = read_scales(GetParam(), row, kWeights), zero(blocks.size());
  write_scales(GetParam(), zero, other);
  EXPECT_NE(other, row);
  write_scales(GetParam(), blocks, other);
  EXPECT_EQ(other, row);
}

TEST_P(Scales, EveryValueInRangeSurvives) {
  const GridInfo& grid = info(GetParam()).grid;
  const int groups = info(GetParam()).block_weights / grid.group;
  std::vector<BlockScales> blocks = read_scales(GetParam(), row, kWeights);
  for (std::size_t b = 0; b < blocks.size(); ++b) {
    for (int g = 0; grid.scale_max > 1 && g < groups; ++g) {
      blocks[b].sc[g] = static_cast<std::int8_t>(grid.scale_min + static_cast<int>((7 * b + 5 * static_cast<std::size_t>(g)) %
                                                                                   static_cast<std::size_t>(grid.scale_max - grid.scale_min + 1)));
      if (grid.has_offset) blocks[b].m[g] = static_cast<std::int8_t>((3 * b + 11 * static_cast<std::size_t>(g)) % static_cast<std::size_t>(grid.scale_max + 1));
    }
    blocks[b].d = -0.25f * static_cast<float>(b + 1);
  }
  write_scales(GetParam(), blocks, row);
  const std::vector<BlockScales> again = read_scales(GetParam(), row, kWeights);
  for (std::size_t b = 0; b < blocks.size(); ++b) {
    EXPECT_EQ(again[b].d, blocks[b].d);
    for (int g = 0; g < groups; ++g) {
      EXPECT_EQ(again[b].sc[g], blocks[b].sc[g]) << b << " " << g;
      EXPECT_EQ(again[b].m[g], blocks[b].m[g]) << b << " " << g;
    }
  }
}

TEST_P(Scales, WrongLengthIsRefused) {
  EXPECT_THROW(read_scales(GetParam(), ByteView(row).first(row.size() - 1), kWeights), Error);
  EXPECT_THROW(write_scales(GetParam(), std::vector<BlockScales>(blocks() + 1), row), Error);
}

INSTANTIATE_TEST_SUITE_P(All, Scales, ::testing::ValuesIn(test::gridded_types()), test::TypeName());

}  // namespace
}  // namespace attar
