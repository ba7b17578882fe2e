// AVX-512 without VNNI.
#if defined(__x86_64__)
#include "kernels_ref/simd/avx512_variant.h"

namespace attar {
namespace {

struct WithoutVnni {
  // sum + the products of four unsigned and four signed bytes in each lane. kWide: unsigned ones may be above 127, where
  // pairs of products no longer fit 16 bits.
  template <bool kWide>
  static __m512i dot(__m512i sum, __m512i u, __m512i s) {
    const __m512i ones = _mm512_set1_epi16(1);
    if constexpr (!kWide) return _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(u, s), ones));
    const __m512i low = _mm512_set1_epi16(255);
    const __m512i even = _mm512_mullo_epi16(_mm512_and_si512(u, low), _mm512_srai_epi16(_mm512_slli_epi16(s, 8), 8));
    const __m512i odd = _mm512_mullo_epi16(_mm512_srli_epi16(u, 8), _mm512_srai_epi16(s, 8));
    return _mm512_add_epi32(sum, _mm512_add_epi32(_mm512_madd_epi16(even, ones), _mm512_madd_epi16(odd, ones)));
  }
  // sum + the products of two pairs of 16-bit numbers in each lane.
  static __m512i dot16(__m512i sum, __m512i a, __m512i b) { return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b)); }
};
using Isa = Avx512<WithoutVnni>;

}  // namespace

const Variant kAvx512 = {"avx512", Isa::kTokens, avx512_rows<Isa>, panel_product<Isa>, avx512_unpack<Isa>, interleave_rows, dot_floats<Isa>, attention<Isa>, widen_halves<Isa>};

}  // namespace attar
#endif
