// NEON with I8MM (ARMv8.6): unsigned by signed bytes in one instruction, which takes codes above 127 as they are.
#if defined(__aarch64__)
#include "kernels_ref/simd/neon.h"

namespace attar {
namespace {

struct MixedDots {
  template <bool>
  static int32x4_t dot(int32x4_t sum, int32x4_t u, int32x4_t s) {
    return vusdotq_s32(sum, vreinterpretq_u8_s32(u), vreinterpretq_s8_s32(s));
  }
};
using Isa = Neon<MixedDots>;

}  // namespace

const Variant kNeonI8mm = {"neon_i8mm", Isa::kTokens, neon_rows<Isa>, panel_product<Isa>, unpack_of, interleave_words, dot_floats<Isa>, attention<Isa>, widen_halves<Isa>};

}  // namespace attar
#endif
