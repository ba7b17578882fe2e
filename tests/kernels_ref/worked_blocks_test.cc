// The blocks that docs/formats/gguf-blocks.md works out by hand.
#include <cstring>

#include "base/half.h"
#include "kernels_ref/blocks.h"
#include "kernels_ref/dot.h"
#include "tests/support.h"

namespace attar {
namespace {

template <class Block>
ByteView bytes_of(const Block& block) { return {reinterpret_cast<const std::byte*>(&block), sizeof(Block)}; }

TEST(WorkedBlocks, Q4_0) {
  Bytes block(18, std::byte{0x88});
  block[0] = std::byte{0x00}, block[1] = std::byte{0x38}, block[2] = std::byte{0x9F};
  std::vector<float> w(32), expected(32, 0.0f);
  expected[0] = 3.5f, expected[16] = 0.5f;
  decode_row(Type::kQ4_0, block, w);
  EXPECT_EQ(w, expected);

  BlockQ8_0 x{};
  x.d = f16_from_f32(0.25f);
  x.qs[0] = 10, x.qs[16] = -4;
  EXPECT_EQ(block_sums(Type::kQ4_0, block, {x.qs, 32}).product, 66);
  EXPECT_EQ(dot_row_quantized(Type::kQ4_0, block, bytes_of(x), 32), 8.25f);
}

TEST(WorkedBlocks, Q4_K) {
  BlockQ4_K block{};
  block.d = f16_from_f32(0.5f), block.dmin = f16_from_f32(0.25f);
  const std::uint8_t scales[12] = {0x03, 0x80, 0, 0, 0x02, 0x40, 0, 0, 0, 0x13, 0, 0};
  std::memcpy(block.scales, scales, 12);
  block.qs[0] = 0x07, block.qs[64] = 0xA0;
  const auto head = bytes_of(block);
  EXPECT_EQ(head[1], std::byte{0x38});
  EXPECT_EQ(head[3], std::byte{0x34});
  std::vector<float> w(256);
  decode_row(Type::kQ4_K, bytes_of(block), w);
  for (std::size_t i = 0; i < 256; ++i) {
    const float expected = i == 0 ? 10.0f : i < 32 ? -0.5f : i == 160 ? 170.75f : i > 160 && i < 192 ? -4.25f : 0.0f;
    EXPECT_EQ(w[i], expected) << i;
  }

  BlockQ8_K x{};
  x.d = 0.125f;
  x.qs[0] = 2, x.qs[1] = 1, x.qs[160] = -3;
  const BlockSums sums = block_sums(Type::kQ4_K, bytes_of(block), {x.qs, 256});
  EXPECT_EQ(sums.product, -1008);
  EXPECT_EQ(sums.minimum, -45);
  EXPECT_EQ(dot_row_quantized(Type::kQ4_K, bytes_of(block), bytes_of(x), 256), -61.59375f);
}

}  // namespace
}  // namespace attar
