// NEON: 4 lanes. Dots: how bytes are multiplied and summed, with the dot product instructions or without.
#pragma once

#include <arm_neon.h>

#include <cstring>

#include "kernels_ref/variants.h"

#include "kernels_ref/simd/attention.h"
#include "kernels_ref/simd/panel.h"
#include "kernels_ref/simd/rows.h"

namespace attar {
namespace {

template <class Dots>
struct Neon : Dots {
  using I = int32x4_t;  // of bytes: reinterpreted
  using F = float32x4_t;
  static constexpr std::size_t kLanes = 4, kBytes = 16, kTokens = 4;

  static I zero_i() { return vdupq_n_s32(0); }
  static F zero_f() { return vdupq_n_f32(0); }
  static I load(const void* p) { return vreinterpretq_s32_u8(vld1q_u8(static_cast<const std::uint8_t*>(p))); }
  static F load_f(const float* p) { return vld1q_f32(p); }
  static F load_halves(const std::uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
  static void store_f(float* p, F v) { vst1q_f32(p, v); }
  static F broadcast(float v) { return vdupq_n_f32(v); }
  static I broadcast4(const std::int8_t* p) {
    std::int32_t four;
    std::memcpy(&four, p, 4);
    return vdupq_n_s32(four);
  }
  static F spread4(const float* p) { return vld1q_dup_f32(p); }
  static F spread8(const float* p) { return vld1q_dup_f32(p); }
  static F max(F a, F b) { return vmaxq_f32(a, b); }
  static F add(F a, F b) { return vaddq_f32(a, b); }
  static F mul(F a, F b) { return vmulq_f32(a, b); }
  static F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
  static F to_float(I v) { return vcvtq_f32_s32(v); }
  static float sum(F v) { return vaddvq_f32(v); }
  static float largest(F v) { return vmaxvq_f32(v); }
  // Keeps a value in its register: GCC would read it from memory again for every use.
  static void hold(F& v) { asm("" : "+w"(v)); }
};

template <class Isa>
void neon_rows(const RowsTask& task) {
  return has_wide_codes(task.type) ? chunk_rows<Isa, true>(task) : chunk_rows<Isa, false>(task);
}

}  // namespace
}  // namespace attar
