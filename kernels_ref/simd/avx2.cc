// AVX2, FMA and F16C: 8 lanes.
#if defined(__x86_64__)
#include <immintrin.h>

#include "kernels_ref/variants.h"

#include "kernels_ref/simd/attention.h"
#include "kernels_ref/simd/panel.h"
#include "kernels_ref/simd/rows.h"

namespace attar {
namespace {

struct Avx2 {
  using I = __m256i;
  using F = __m256;
  static constexpr std::size_t kLanes = 8, kBytes = 32, kTokens = 4;

  static I zero_i() { return _mm256_setzero_si256(); }
  static F zero_f() { return _mm256_setzero_ps(); }
  static I load(const void* p) { return _mm256_loadu_si256(static_cast<const I*>(p)); }
  static F load_f(const float* p) { return _mm256_loadu_ps(p); }
  static F load_halves(const std::uint16_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  static void store_f(float* p, F v) { _mm256_storeu_ps(p, v); }
  static F broadcast(float v) { return _mm256_set1_ps(v); }
  static I broadcast4(const std::int8_t* p) { return _mm256_castps_si256(_mm256_broadcast_ss(reinterpret_cast<const float*>(p))); }
  // p[0], p[1] in four lanes each.
  static F spread4(const float* p) {
    const __m128 two = _mm_castpd_ps(_mm_load_sd(reinterpret_cast<const double*>(p)));
    return _mm256_set_m128(_mm_shuffle_ps(two, two, 0x55), _mm_shuffle_ps(two, two, 0));
  }
  static F spread8(const float* p) { return _mm256_broadcast_ss(p); }
  static F max(F a, F b) { return _mm256_max_ps(a, b); }
  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F to_float(I v) { return _mm256_cvtepi32_ps(v); }
  static float sum(F v) {
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)));
  }
  static float largest(F v) {
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_shuffle_ps(x, x, 1)));
  }
  // Keeps a value in its register: GCC would read it from memory again for every use.
  static void hold(F& v) { asm("" : "+x"(v)); }

  // sum + the products of four unsigned and four signed bytes in each lane. kWide: unsigned ones may be above 127, where
  // pairs of products no longer fit 16 bits.
  template <bool kWide>
  static I dot(I sum, I u, I s) {
    const I ones = _mm256_set1_epi16(1);
    if constexpr (!kWide) return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), ones));
    const I low = _mm256_set1_epi16(255);
    const I even = _mm256_mullo_epi16(_mm256_and_si256(u, low), _mm256_srai_epi16(_mm256_slli_epi16(s, 8), 8));
    const I odd = _mm256_mullo_epi16(_mm256_srli_epi16(u, 8), _mm256_srai_epi16(s, 8));
    return _mm256_add_epi32(sum, _mm256_add_epi32(_mm256_madd_epi16(even, ones), _mm256_madd_epi16(odd, ones)));
  }
};

void rows(const RowsTask& task) {
  return has_wide_codes(task.type) ? chunk_rows<Avx2, true>(task) : chunk_rows<Avx2, false>(task);
}

}  // namespace

const Variant kAvx2 = {"avx2", Avx2::kTokens, rows, panel_product<Avx2>, unpack_of, interleave_words, dot_floats<Avx2>, attention<Avx2>, widen_halves<Avx2>};

}  // namespace attar
#endif
