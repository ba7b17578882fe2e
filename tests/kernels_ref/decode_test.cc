// Decoders against gguf-py, and the grid against the decoders.
#include <cmath>

#include "base/random.h"
#include "kernels_ref/types.h"
#include "tests/kernels_ref/golden.h"
#include "tests/kernels_ref/gridded_types.h"
#include "tests/support.h"

namespace attar {
namespace {

using test::gridded_types;
using test::TypeName;

std::uint32_t bits(float v) { return std::bit_cast<std::uint32_t>(v); }

TEST(Decode, EqualsGgufPyBitForBit) {
  const Bytes file = test::golden("decode.bin");
  ByteReader reader(file, "decode.bin");
  std::size_t types = 0;
  for (; reader.remaining() > 0; ++types) {
    const auto type = type_from_ggml_id(reader.read<std::uint32_t>("id"));
    ASSERT_TRUE(type.has_value());
    const auto bytes = reader.read<std::uint32_t>("bytes"), floats = reader.read<std::uint32_t>("floats");
    const ByteView row = reader.take(bytes, "row");
    const std::vector<float> expected = test::read_floats(reader, floats);
    std::vector<float> decoded(floats);
    decode_row(*type, row, decoded);
    for (std::size_t i = 0; i < floats; ++i)
      ASSERT_EQ(bits(decoded[i]), bits(expected[i])) << info(*type).name << " weight " << i;
  }
  EXPECT_EQ(types, 24u);
}

TEST(Decode, PlainIntegersAndDoubles) {
  const std::int64_t wide[2] = {-3, std::int64_t{1} << 40};
  float out[2];
  decode_row(Type::kI64, std::as_bytes(std::span(wide)), out);
  EXPECT_EQ(out[0], -3.0f);
  EXPECT_EQ(out[1], 0x1p40f);
  const double doubles[2] = {0.1, -1e300};
  decode_row(Type::kF64, std::as_bytes(std::span(doubles)), out);
  EXPECT_EQ(out[0], 0.1f);
  EXPECT_TRUE(std::isinf(out[1]));
  const std::int8_t small[2] = {-128, 127};
  decode_row(Type::kI8, std::as_bytes(std::span(small)), out);
  EXPECT_EQ(out[0], -128.0f);
  EXPECT_EQ(out[1], 127.0f);
}

TEST(Decode, RowOfWrongSizeIsAnError) {
  std::vector<float> out(256);
  const Bytes row(143);
  EXPECT_THROW(decode_row(Type::kQ4_K, row, out), Error);
  EXPECT_THROW(row_bytes(Type::kQ4_K, 288), Error);
  EXPECT_THROW(row_bytes(Type::kQ4_0, 40), Error);
  EXPECT_EQ(row_bytes(Type::kQ4_K, 512), 288u);
}

TEST(Types, NamesAndIdsLeadBack) {
  for (const TypeInfo& entry : all_types()) {
    EXPECT_EQ(type_from_name(entry.name), entry.type);
    if (!entry.ggml_id) continue;
    EXPECT_EQ(type_from_ggml_id(*entry.ggml_id), entry.type);
  }
  EXPECT_EQ(type_from_name("Q4_K"), Type::kQ4_K);
  EXPECT_EQ(type_from_name("q4_k_m"), std::nullopt);
  EXPECT_EQ(type_from_ggml_id(4), std::nullopt);
  EXPECT_EQ(quantizable_type_names().size(), 12u + 48u);
}

class Grid : public ::testing::TestWithParam<Type> {};

// Random blocks: the codes and the grid give what the decoder gives, and codes survive writing.
TEST_P(Grid, ScaleLevelOffsetIsTheDecoder) {
  const TypeInfo& entry = info(GetParam());
  Random random(7);
  const std::size_t weights = 20 * static_cast<std::size_t>(entry.block_weights);
  Bytes row(row_bytes(entry.type, weights));
  for (int trial = 0; trial < 50; ++trial) {
    for (auto& byte : row) byte = static_cast<std::byte>(random.below(256));
    std::vector<float> decoded(weights);
    decode_row(entry.type, row, decoded);
    const RowGrid grid = read_grid(entry.type, row, weights);
    std::vector<std::uint8_t> codes(weights);
    read_codes(entry.type, row, codes);
    ASSERT_EQ(grid.scale.size(), weights / group_weights(entry.type, weights));
    ASSERT_EQ(grid.offset.size(), grid.scale.size());
    for (std::size_t i = 0; i < weights; ++i) {
      const std::size_t g = i / group_weights(entry.type, weights);
      ASSERT_LT(codes[i], entry.grid.levels);
      float value = grid.scale[g] * level(entry.grid, codes[i]);
      if (entry.grid.has_offset) value += grid.offset[g];
      if (std::isnan(value)) {
        ASSERT_TRUE(std::isnan(decoded[i]));
      } else {
        ASSERT_EQ(bits(value), bits(decoded[i])) << "weight " << i;
      }
    }
    Bytes copy = row;
    write_codes(entry.type, codes, copy);
    ASSERT_EQ(copy, row);
  }
}

// Every code at every place of a block, alone among others: it comes back, and nothing else moves.
TEST_P(Grid, EveryCodeAtEveryPlace) {
  const TypeInfo& entry = info(GetParam());
  const auto weights = static_cast<std::size_t>(entry.block_weights);
  Random random(8);
  Bytes row(row_bytes(entry.type, weights));
  for (auto& byte : row) byte = static_cast<std::byte>(random.below(256));
  const RowGrid before = read_grid(entry.type, row, weights);
  std::vector<std::uint8_t> codes(weights), back(weights);
  read_codes(entry.type, row, codes);
  for (std::size_t i = 0; i < weights; ++i) {
    for (int code = 0; code < entry.grid.levels; ++code) {
      codes[i] = static_cast<std::uint8_t>(code);
      write_codes(entry.type, codes, row);
      read_codes(entry.type, row, back);
      ASSERT_EQ(back, codes) << "place " << i << " code " << code;
    }
  }
  const RowGrid after = read_grid(entry.type, row, weights);
  for (std::size_t g = 0; g < before.scale.size(); ++g) {
    EXPECT_EQ(bits(after.scale[g]), bits(before.scale[g]));
    EXPECT_EQ(bits(after.offset[g]), bits(before.offset[g]));
  }
  if (entry.grid.levels < 256) {
    codes[0] = static_cast<std::uint8_t>(entry.grid.levels);
    EXPECT_THROW(write_codes(entry.type, codes, row), Error);
  }
}

TEST_P(Grid, NearestCodeIsTheNearest) {
  const GridInfo& grid = info(GetParam()).grid;
  Random random(9);
  for (const float scale : {0.37f, -0.0123f, 1e-6f, 0.0f}) {
    for (int trial = 0; trial < 2000; ++trial) {
      const float offset = grid.has_offset ? static_cast<float>(random.uniform() - 0.5) * scale * 20 : 0.0f;
      const float w = static_cast<float>(random.uniform() - 0.5) * 300 * (scale != 0 ? scale : 1.0f) + offset;
      const auto distance = [&](int code) { return std::fabs(scale * level(grid, code) + offset - w); };
      const int code = nearest_code(grid, scale, offset, w);
      ASSERT_GE(code, 0);
      ASSERT_LT(code, grid.levels);
      for (int other = 0; other < grid.levels; ++other) ASSERT_LE(distance(code), distance(other)) << other;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, Grid, ::testing::ValuesIn(gridded_types()), TypeName());

TEST(GridErrors, TypesWithoutGrid) {
  const Bytes row(66);
  EXPECT_THROW(read_grid(Type::kIQ2_XXS, row, 256), Error);
  std::vector<std::uint8_t> codes(256);
  EXPECT_THROW(read_codes(Type::kIQ2_XXS, row, codes), Error);
}

}  // namespace
}  // namespace attar
