// Decoders of IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, IQ1_S and IQ1_M. Order of float operations as in ggml
// (dequantize_row_iq*, https://github.com/ggml-org/ggml, src/ggml-quants.c), so that the floats are bit-equal.
#include <cstring>

#include "base/half.h"
#include "kernels_ref/blocks.h"
#include "kernels_ref/i_quant_tables.h"
#include "kernels_ref/rows.h"

namespace attar {
namespace {

constexpr float kIq2Magnitudes[4] = {8, 25, 43, 0};
constexpr float kIq3xxsMagnitudes[8] = {4, 12, 20, 28, 36, 44, 52, 62};
constexpr float kIq3sMagnitudes[8] = {1, 3, 5, 7, 9, 11, 13, 15};
constexpr float kIq1Shift = 0.125f;

// Seven stored sign bits; the eighth makes the number of negative weights even.
std::uint8_t eight_signs(std::uint32_t seven) {
  seven &= 127;
  const std::uint32_t odd = (0x6996u >> ((seven ^ (seven >> 4)) & 15)) & 1;  // parity of the bits, looked up four at a time
  return static_cast<std::uint8_t>(seven | (odd != 0 ? 128u : 0u));
}

float signed_value(float value, std::uint8_t signs, int bit) { return (signs >> bit) & 1 ? -value : value; }

// Eight weights of a packed IQ2 grid entry.
float* put_iq2(float db, std::uint16_t entry, std::uint8_t signs, float* out) {
  for (int i = 0; i < 8; ++i) *out++ = signed_value(db * kIq2Magnitudes[(entry >> (2 * i)) & 3], signs, i);
  return out;
}

// Eight weights of two packed IQ3 grid entries.
float* put_iq3(float db, std::uint16_t first, std::uint16_t second, const float* magnitudes, std::uint8_t signs,
               float* out) {
  for (int i = 0; i < 4; ++i) *out++ = signed_value(db * magnitudes[(first >> (4 * i)) & 7], signs, i);
  for (int i = 0; i < 4; ++i) *out++ = signed_value(db * magnitudes[(second >> (4 * i)) & 7], signs, 4 + i);
  return out;
}

float* put_iq1(float dl, std::uint16_t entry, float shift, float* out) {
  for (int i = 0; i < 8; ++i) *out++ = dl * (static_cast<float>(((entry >> (2 * i)) & 3) - 1) + shift);
  return out;
}

void decode(const BlockIQ2_XXS& block, float* out) {
  const float d = f32_from_f16(block.d);
  for (int g = 0; g < 8; ++g) {
    const Packed<std::uint16_t>* q = block.qs + 4 * g;
    const std::uint32_t rest = std::uint32_t{q[2]} | (std::uint32_t{q[3]} << 16);
    const float db = d * (0.5f + static_cast<float>(rest >> 28)) * 0.25f;
    for (int k = 0; k < 4; ++k)
      out = put_iq2(db, kIq2xxsGrid[(q[k / 2] >> (k % 2 * 8)) & 255], eight_signs(rest >> (7 * k)), out);
  }
}

void decode(const BlockIQ2_XS& block, float* out) {
  const float d = f32_from_f16(block.d);
  for (int k = 0; k < 32; ++k) {
    const int scale = (block.scales[k / 4] >> (k / 2 % 2 * 4)) & 15;
    const float db = d * (0.5f + static_cast<float>(scale)) * 0.25f;
    out = put_iq2(db, kIq2xsGrid[block.qs[k] & 511], eight_signs(block.qs[k] >> 9), out);
  }
}

void decode(const BlockIQ2_S& block, float* out) {
  const float d = f32_from_f16(block.d);
  for (int k = 0; k < 32; ++k) {
    const int scale = (block.scales[k / 4] >> (k / 2 % 2 * 4)) & 15;
    const float db = d * (0.5f + static_cast<float>(scale)) * 0.25f;
    const int index = block.qs[k] | (((block.qh[k / 4] >> (k % 4 * 2)) & 3) << 8);
    out = put_iq2(db, kIq2sGrid[index], block.signs[k], out);
  }
}

void decode(const BlockIQ3_XXS& block, float* out) {
  const float d = f32_from_f16(block.d);
  for (int g = 0; g < 8; ++g) {
    std::uint32_t rest;
    std::memcpy(&rest, block.scales_and_signs + 4 * g, 4);
    const float db = d * (0.5f + static_cast<float>(rest >> 28)) * 0.5f;
    for (int k = 0; k < 4; ++k) {
      const std::uint8_t* q = block.qs + 8 * g + 2 * k;
      out = put_iq3(db, kIq3xxsGrid[q[0]], kIq3xxsGrid[q[1]], kIq3xxsMagnitudes, eight_signs(rest >> (7 * k)), out);
    }
  }
}

void decode(const BlockIQ3_S& block, float* out) {
  const float d = f32_from_f16(block.d);
  const auto entry = [&](int k) {
    return kIq3sGrid[block.qs[k] | (((block.qh[k / 8] >> (k % 8)) & 1) << 8)];
  };
  for (int k = 0; k < 32; ++k) {
    const int scale = (block.scales[k / 8] >> (k / 4 % 2 * 4)) & 15;
    const float db = d * static_cast<float>(1 + 2 * scale);
    out = put_iq3(db, entry(2 * k), entry(2 * k + 1), kIq3sMagnitudes, block.signs[k], out);
  }
}

void decode(const BlockIQ1_S& block, float* out) {
  const float d = f32_from_f16(block.d);
  for (int k = 0; k < 32; ++k) {
    const int qh = block.qh[k / 4];
    const float dl = d * static_cast<float>(2 * ((qh >> 12) & 7) + 1);
    const int index = block.qs[k] | (((qh >> (k % 4 * 3)) & 7) << 8);
    out = put_iq1(dl, kIq1sGrid[index], (qh & 0x8000) != 0 ? -kIq1Shift : kIq1Shift, out);
  }
}

void decode(const BlockIQ1_M& block, float* out) {
  int bits = 0;
  for (int i = 0; i < 4; ++i) bits |= (block.scales[i] >> 12) << (4 * i);
  const float d = f32_from_f16(static_cast<std::uint16_t>(bits));
  for (int k = 0; k < 32; ++k) {
    const float dl = d * static_cast<float>(2 * ((block.scales[k / 8] >> (k / 2 % 4 * 3)) & 7) + 1);
    const int qh = block.qh[k / 2] >> (k % 2 * 4);
    out = put_iq1(dl, kIq1sGrid[block.qs[k] | ((qh & 7) << 8)], (qh & 8) != 0 ? -kIq1Shift : kIq1Shift, out);
  }
}

template <class Block>
void decode_blocks(const std::byte* row, Span<float> out) {
  for (std::size_t b = 0; b * kSuperBlock < out.size(); ++b)
    decode(block_at<Block>(row, b), out.data() + b * kSuperBlock);
}

}  // namespace

void decode_i_quant_row(Type type, const std::byte* row, Span<float> out) {
  switch (type) {
    case Type::kIQ2_XXS: return decode_blocks<BlockIQ2_XXS>(row, out);
    case Type::kIQ2_XS: return decode_blocks<BlockIQ2_XS>(row, out);
    case Type::kIQ2_S: return decode_blocks<BlockIQ2_S>(row, out);
    case Type::kIQ3_XXS: return decode_blocks<BlockIQ3_XXS>(row, out);
    case Type::kIQ3_S: return decode_blocks<BlockIQ3_S>(row, out);
    case Type::kIQ1_S: return decode_blocks<BlockIQ1_S>(row, out);
    case Type::kIQ1_M: return decode_blocks<BlockIQ1_M>(row, out);
    default: fail("[decode] ", info(type).name, " is not an i-quant");
  }
}

}  // namespace attar
