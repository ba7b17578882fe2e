// AVX-512 with VNNI: four products of bytes and their sum in one instruction.
#if defined(__x86_64__)
#include "kernels_ref/simd/avx512_variant.h"

namespace attar {
namespace {

struct Vnni {
  template <bool>
  static __m512i dot(__m512i sum, __m512i u, __m512i s) { return _mm512_dpbusd_epi32(sum, u, s); }
  static __m512i dot16(__m512i sum, __m512i a, __m512i b) { return _mm512_dpwssd_epi32(sum, a, b); }
};
using Isa = Avx512<Vnni>;

}  // namespace

const Variant kAvx512Vnni = {"avx512_vnni", Isa::kTokens, avx512_rows<Isa>, panel_product<Isa>, avx512_unpack<Isa>, interleave_rows, dot_floats<Isa>, attention<Isa>, widen_halves<Isa>};

}  // namespace attar
#endif
