// NEON as every 64-bit ARM has it: products of bytes in 16 bits, summed by pairs.
#if defined(__aarch64__)
#include "kernels_ref/simd/neon.h"

namespace attar {
namespace {

struct Widening {
  // sum + the products of four unsigned and four signed bytes in each lane. kWide: unsigned ones may be above 127; 255
  // * -128 still fits 16 bits.
  template <bool kWide>
  static int32x4_t dot(int32x4_t sum, int32x4_t u, int32x4_t s) {
    const int8x16_t q = vreinterpretq_s8_s32(s);
    int16x8_t low, high;
    if constexpr (kWide) {
      const uint8x16_t codes = vreinterpretq_u8_s32(u);
      low = vmulq_s16(vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(codes))), vmovl_s8(vget_low_s8(q)));
      high = vmulq_s16(vreinterpretq_s16_u16(vmovl_high_u8(codes)), vmovl_high_s8(q));
    } else {
      const int8x16_t codes = vreinterpretq_s8_s32(u);
      low = vmull_s8(vget_low_s8(codes), vget_low_s8(q));
      high = vmull_high_s8(codes, q);
    }
    return vaddq_s32(sum, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
  }
};
using Isa = Neon<Widening>;

}  // namespace

const Variant kNeon = {"neon", Isa::kTokens, neon_rows<Isa>, panel_product<Isa>, unpack_of, interleave_words, dot_floats<Isa>, attention<Isa>, widen_halves<Isa>};

}  // namespace attar
#endif
