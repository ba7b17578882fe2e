// Plain groups against the layout's own source, and by hand.
#include <cmath>

#include "base/half.h"
#include "base/random.h"
#include "kernels_ref/types.h"
#include "tests/support.h"

namespace attar {
namespace {

// extract_bits of mlx/backend/cpu/quantized.cpp (https://github.com/ml-explore/mlx, commit 846d176), with the number of codes
// that it gives; for 2, 4 and 8 bits the loop of _qmm_t in the same file.
std::vector<int> mlx_codes(int bits, const std::uint8_t* w) {
  switch (bits) {
    case 3:
      return {w[0] & 0x7, (w[0] & 0x38) >> 3, ((w[0] & 0xc0) >> 6) + ((w[1] & 0x1) << 2), (w[1] & 0xe) >> 1,
              (w[1] & 0x70) >> 4, ((w[1] & 0x80) >> 7) + ((w[2] & 0x3) << 1), (w[2] & 0x1c) >> 2, (w[2] & 0xe0) >> 5};
    case 5:
      return {w[0] & 0x1f, ((w[0] & 0xe0) >> 5) + ((w[1] & 0x3) << 3), (w[1] & 0x7c) >> 2,
              ((w[1] & 0x80) >> 7) + ((w[2] & 0xf) << 1), ((w[2] & 0xf0) >> 4) + ((w[3] & 0x1) << 4), (w[3] & 0x3e) >> 1,
              ((w[3] & 0xc0) >> 6) + ((w[4] & 0x7) << 2), (w[4] & 0xf8) >> 3};
    case 6:
      return {w[0] & 0x3f, ((w[0] >> 6) & 0x03) + ((w[1] & 0x0f) << 2), ((w[1] >> 4) & 0x0f) + ((w[2] & 0x03) << 4),
              (w[2] >> 2) & 0x3f};
    default: {
      std::vector<int> codes;
      std::uint8_t wi = w[0];
      for (int p = 0; p < 8 / bits; ++p) {
        codes.push_back(wi & ((1 << bits) - 1));
        if (bits != 8) wi = static_cast<std::uint8_t>(wi >> bits);
      }
      return codes;
    }
  }
}

TEST(PlainGroups, CodesAreMlxsStreamOfBits) {
  Random random(4);
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    const Type type = *group_type({true, bits, 128});
    Bytes row(row_bytes(type, 128));
    for (auto& byte : row) byte = static_cast<std::byte>(random.below(256));
    std::vector<std::uint8_t> codes(128);
    read_codes(type, row, codes);
    const auto* stream = reinterpret_cast<const std::uint8_t*>(row.data()) + 4;
    for (std::size_t i = 0; i < codes.size();)
      for (std::size_t at = i * static_cast<std::size_t>(bits) / 8; const int code : mlx_codes(bits, stream + at))
        ASSERT_EQ(codes[i++], code) << bits << " bits, code " << i;
  }
}

// 0, 1, .. 7 in three bits each, lowest first: 111'110'10 1'100'011'0 10'001'000.
TEST(PlainGroups, ThreeBitsByHand) {
  const Type type = *type_from_name("int3_g32");
  ASSERT_EQ(row_bytes(type, 32), 2u + 12u);
  Bytes row(14);
  std::vector<std::uint8_t> codes(32);
  for (std::size_t i = 0; i < 32; ++i) codes[i] = i % 8;
  const std::vector<BlockScales> scales = {{.d = 0.5f}};
  write_scales(type, scales, row);
  write_codes(type, codes, row);
  EXPECT_EQ(row[0], std::byte{0x00});  // 0.5 in f16: 0x3800
  EXPECT_EQ(row[1], std::byte{0x38});
  for (std::size_t i = 2; i < 14; i += 3) {
    EXPECT_EQ(row[i], std::byte{0x88});
    EXPECT_EQ(row[i + 1], std::byte{0xc6});
    EXPECT_EQ(row[i + 2], std::byte{0xfa});
  }
  std::vector<float> w(32);
  decode_row(type, row, w);
  for (std::size_t i = 0; i < 32; ++i) EXPECT_EQ(w[i], 0.5f * (static_cast<float>(i % 8) - 4.0f));
}

TEST(PlainGroups, AffineByHand) {
  const Type type = *type_from_name("affine4_g64");
  ASSERT_EQ(row_bytes(type, 128), 2u * (4 + 32));
  Bytes row(row_bytes(type, 128));
  std::vector<std::uint8_t> codes(128, 0);
  codes[0] = 10, codes[1] = 3, codes[64] = 15;
  const std::vector<BlockScales> scales = {{.d = 0.25f, .dmin = 2.0f}, {.d = -1.0f, .dmin = -3.0f}};  // offset: -dmin
  write_scales(type, scales, row);
  write_codes(type, codes, row);
  EXPECT_EQ(row[4], std::byte{0x3a});
  std::vector<float> w(128);
  decode_row(type, row, w);
  EXPECT_EQ(w[0], 0.25f * 10 - 2);
  EXPECT_EQ(w[1], 0.25f * 3 - 2);
  EXPECT_EQ(w[2], -2.0f);
  EXPECT_EQ(w[64], -15.0f + 3);
  EXPECT_EQ(w[127], 3.0f);
}

TEST(PlainGroups, WholeRowsHaveOneScale) {
  const Type type = *type_from_name("affine2_row");
  EXPECT_EQ(row_bytes(type, 96), 4u + 24u);
  EXPECT_EQ(row_bytes(type, 0), 0u);
  EXPECT_THROW(row_bytes(type, 80), Error);
  EXPECT_EQ(block_weights(type, 96), 96u);
  EXPECT_EQ(group_weights(type, 96), 96u);
  Bytes row(row_bytes(type, 96));
  std::vector<float> x(96), w(96);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = 0.5f + 0.25f * static_cast<float>(i % 4);  // on such a grid: exact
  encode_row(type, x, {}, row);
  decode_row(type, row, w);
  EXPECT_EQ(w, x);
  ASSERT_EQ(read_scales(type, row, 96).size(), 1u);
}

TEST(PlainGroups, EveryFormatHasItsName) {
  int found = 0;
  for (const TypeInfo& entry : all_types()) {
    const auto format = group_format(entry.type);
    if (!format) continue;
    ++found;
    EXPECT_EQ(group_type(*format), entry.type);
    EXPECT_EQ(type_from_name(entry.name), entry.type);
    EXPECT_FALSE(entry.ggml_id.has_value());
  }
  EXPECT_EQ(found, 48);
  EXPECT_EQ(group_type({false, 7, 32}), std::nullopt);
  EXPECT_EQ(group_type({false, 4, 256}), std::nullopt);
  EXPECT_EQ(group_format(Type::kQ4_0), std::nullopt);
}

// No scale that f16 has does better, up to what a search may miss.
TEST(PlainGroups, ScaleIsNearlyTheBestThereIs) {
  Random random(1);
  for (const char* name : {"int2_g32", "int3_g32", "int3_g128", "int4_g64", "int4_row"}) {
    const Type type = *type_from_name(name);
    const GridInfo& grid = info(type).grid;
    double ours = 0, best = 0;
    for (int trial = 0; trial < 20; ++trial) {
      std::vector<float> x(128), w(128);
      for (auto& v : x) v = static_cast<float>(random.uniform() + random.uniform() + random.uniform() - 1.5);
      Bytes row(row_bytes(type, x.size()));
      encode_row(type, x, {}, row);
      decode_row(type, row, w);
      const std::size_t group = group_weights(type, x.size());
      for (std::size_t begin = 0; begin < x.size(); begin += group) {
        const auto error = [&](const auto& decoded) {
          double sum = 0;
          for (std::size_t i = begin; i < begin + group; ++i) sum += std::pow(decoded(i) - static_cast<double>(x[i]), 2);
          return sum;
        };
        ours += error([&](std::size_t i) { return w[i]; });
        double least = HUGE_VAL;
        for (std::uint16_t bits = f16_from_f32(0.04f); bits < f16_from_f32(1.6f); ++bits)
          for (const float scale : {f32_from_f16(bits), -f32_from_f16(bits)})
            least = std::min(least, error([&](std::size_t i) {
              return scale * level(grid, nearest_code(grid, scale, 0.0f, x[i]));
            }));
        best += least;
      }
    }
    EXPECT_LE(ours, 1.01 * best) << name;
    EXPECT_GE(ours, best * (1 - 1e-6)) << name;
  }
}

}  // namespace
}  // namespace attar
