// WebAssembly's 128-bit vectors: 4 lanes. There is no fused multiply-add and no product of bytes with their sum.
#if defined(__wasm_simd128__)
#include <wasm_simd128.h>

#include "base/half.h"
#include "kernels_ref/variants.h"

#include "kernels_ref/simd/attention.h"
#include "kernels_ref/simd/panel.h"
#include "kernels_ref/simd/rows.h"

namespace attar {
namespace {

struct WasmSimd {
  using I = v128_t;
  using F = v128_t;
  static constexpr std::size_t kLanes = 4, kBytes = 16, kTokens = 4;

  static I zero_i() { return wasm_i32x4_const_splat(0); }
  static F zero_f() { return wasm_f32x4_const_splat(0); }
  static I load(const void* p) { return wasm_v128_load(p); }
  static F load_f(const float* p) { return wasm_v128_load(p); }
  static F load_halves(const std::uint16_t* p) {
    return wasm_f32x4_make(f32_from_f16(p[0]), f32_from_f16(p[1]), f32_from_f16(p[2]), f32_from_f16(p[3]));
  }
  static void store_f(float* p, F v) { wasm_v128_store(p, v); }
  static F broadcast(float v) { return wasm_f32x4_splat(v); }
  static I broadcast4(const std::int8_t* p) { return wasm_v128_load32_splat(p); }
  static F spread4(const float* p) { return wasm_v128_load32_splat(p); }
  static F spread8(const float* p) { return wasm_v128_load32_splat(p); }
  static F max(F a, F b) { return wasm_f32x4_max(a, b); }
  static F add(F a, F b) { return wasm_f32x4_add(a, b); }
  static F mul(F a, F b) { return wasm_f32x4_mul(a, b); }
  static F fma(F a, F b, F c) { return wasm_f32x4_add(wasm_f32x4_mul(a, b), c); }
  static F to_float(I v) { return wasm_f32x4_convert_i32x4(v); }
  static float sum(F v) {
    v = wasm_f32x4_add(v, wasm_i32x4_shuffle(v, v, 2, 3, 0, 1));
    return wasm_f32x4_extract_lane(v, 0) + wasm_f32x4_extract_lane(v, 1);
  }
  static float largest(F v) {
    v = wasm_f32x4_max(v, wasm_i32x4_shuffle(v, v, 2, 3, 0, 1));
    return wasm_f32x4_extract_lane(wasm_f32x4_max(v, wasm_i32x4_shuffle(v, v, 1, 0, 3, 2)), 0);
  }
  static void hold(F&) {}

  // sum + the products of four unsigned and four signed bytes in each lane. kWide: unsigned ones may be above 127; 255
  // * -128 still fits 16 bits.
  template <bool kWide>
  static I dot(I sum, I u, I s) {
    I low, high;
    if constexpr (kWide) {
      low = wasm_i16x8_mul(wasm_u16x8_extend_low_u8x16(u), wasm_i16x8_extend_low_i8x16(s));
      high = wasm_i16x8_mul(wasm_u16x8_extend_high_u8x16(u), wasm_i16x8_extend_high_i8x16(s));
    } else {
      low = wasm_i16x8_extmul_low_i8x16(u, s);
      high = wasm_i16x8_extmul_high_i8x16(u, s);
    }
    low = wasm_i32x4_extadd_pairwise_i16x8(low), high = wasm_i32x4_extadd_pairwise_i16x8(high);
    return wasm_i32x4_add(
        sum, wasm_i32x4_add(wasm_i32x4_shuffle(low, high, 0, 2, 4, 6), wasm_i32x4_shuffle(low, high, 1, 3, 5, 7)));
  }
};

void rows(const RowsTask& task) {
  return has_wide_codes(task.type) ? chunk_rows<WasmSimd, true>(task) : chunk_rows<WasmSimd, false>(task);
}

}  // namespace

const Variant kWasmSimd = {"wasm_simd", WasmSimd::kTokens, rows, panel_product<WasmSimd>, unpack_of, interleave_words, dot_floats<WasmSimd>, attention<WasmSimd>, widen_halves<WasmSimd>};

}  // namespace attar
#endif
