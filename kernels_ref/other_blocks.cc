// Decoders of ternary blocks, MXFP4 (OCP Microscaling Formats v1.0) and of quantized activations. Layouts and order of
// operations: ggml's dequantize_row_* (https://github.com/ggml-org/ggml, src/ggml-quants.c).

#include "base/half.h"
#include "kernels_ref/blocks.h"
#include "kernels_ref/rows.h"

namespace attar {
namespace {

// The n-th base-3 digit of a byte q that holds ceil(256/243 * value): multiply it to the top, keep the carry.
int ternary_digit(std::uint8_t q, int n) {
  constexpr std::uint8_t kPower[5] = {1, 3, 9, 27, 81};
  const auto shifted = static_cast<std::uint8_t>(q * kPower[n]);
  return (shifted * 3) >> 8;
}

// `bytes` bytes with `digits` digits each; digit n of byte l is weight n * bytes + l.
float* decode_digits(const std::uint8_t* q, int bytes, int digits, float d, float* out) {
  for (int n = 0; n < digits; ++n)
    for (int l = 0; l < bytes; ++l) *out++ = d * static_cast<float>(ternary_digit(q[l], n) - 1);
  return out;
}

void decode(const BlockTQ1_0& block, float* out) {
  const float d = f32_from_f16(block.d);
  out = decode_digits(block.qs, 32, 5, d, out);
  out = decode_digits(block.qs + 32, 16, 5, d, out);
  decode_digits(block.qh, 4, 4, d, out);
}

void decode(const BlockTQ2_0& block, float* out) {
  const float d = f32_from_f16(block.d);
  for (int h = 0; h < 2; ++h)
    for (int j = 0; j < 4; ++j)
      for (int l = 0; l < 32; ++l) *out++ = d * static_cast<float>(((block.qs[32 * h + l] >> (2 * j)) & 3) - 1);
}

// e2m1 numbers, doubled to be integers; the scale 2^(e - 127) is halved instead.
void decode(const BlockMXFP4& block, float* out) {
  constexpr std::int8_t kLevels[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
  const std::uint32_t bits = block.e < 2 ? 0x00200000u << block.e : static_cast<std::uint32_t>(block.e - 1) << 23;
  const auto d = bits_as<float>(bits);
  for (int l = 0; l < 16; ++l) {
    out[l] = d * static_cast<float>(kLevels[block.qs[l] & 15]);
    out[16 + l] = d * static_cast<float>(kLevels[block.qs[l] >> 4]);
  }
}

void decode(const BlockQ8_1& block, float* out) {
  const float d = f32_from_f16(block.d);
  for (int j = 0; j < 32; ++j) out[j] = d * static_cast<float>(block.qs[j]);
}

void decode(const BlockQ8_K& block, float* out) {
  const float d = block.d;
  for (int j = 0; j < 256; ++j) out[j] = d * static_cast<float>(block.qs[j]);
}

template <class Block>
void decode_blocks(const std::byte* row, Span<float> out, std::size_t block_weights) {
  for (std::size_t b = 0; b * block_weights < out.size(); ++b)
    decode(block_at<Block>(row, b), out.data() + b * block_weights);
}

}  // namespace

void decode_other_row(Type type, const std::byte* row, Span<float> out) {
  switch (type) {
    case Type::kTQ1_0: return decode_blocks<BlockTQ1_0>(row, out, 256);
    case Type::kTQ2_0: return decode_blocks<BlockTQ2_0>(row, out, 256);
    case Type::kMXFP4: return decode_blocks<BlockMXFP4>(row, out, 32);
    case Type::kQ8_1: return decode_blocks<BlockQ8_1>(row, out, 32);
    case Type::kQ8_K: return decode_blocks<BlockQ8_K>(row, out, 256);
    default: fail("[decode] ", info(type).name, " has no decoder");
  }
}

}  // namespace attar
