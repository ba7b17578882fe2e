// NEON with the dot product instructions of ARMv8.2: four products of signed bytes and their sum in one.
#if defined(__aarch64__)
#include "kernels_ref/simd/neon.h"

namespace attar {
namespace {

struct SignedDots {
  template <bool kWide>
  static int32x4_t dot(int32x4_t sum, int32x4_t u, int32x4_t s) {
    const int8x16_t q = vreinterpretq_s8_s32(s);
    if constexpr (!kWide) return vdotq_s32(sum, vreinterpretq_s8_s32(u), q);
    // u = (u - 128) + 64 + 64, the first of which fits a signed byte.
    const int8x16_t half = vdupq_n_s8(64),
                    centred = vreinterpretq_s8_u8(veorq_u8(vreinterpretq_u8_s32(u), vdupq_n_u8(128)));
    return vdotq_s32(vdotq_s32(vdotq_s32(sum, centred, q), half, q), half, q);
  }
};
using Isa = Neon<SignedDots>;

}  // namespace

const Variant kNeonDotprod = {"neon_dotprod", Isa::kTokens, neon_rows<Isa>, panel_product<Isa>, unpack_of, interleave_words, dot_floats<Isa>, attention<Isa>, widen_halves<Isa>};

}  // namespace attar
#endif
