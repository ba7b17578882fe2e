// Activations rounded to 8 bits, as runtimes do it before they multiply by packed weights.
#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "kernels_ref/types.h"

namespace attar {

// q = x / d to the nearest integer in -127 .. 127, where d is shared by
enum class Rounding : std::uint8_t {
  kNone,  // nothing is rounded
  kQ8_0,  // 32 values; d = max |x| / 127, kept in f16 (but x is divided by d as it was before, as ggml does). For weights in blocks of 32
  kQ8_K,  // 256 values; d in float32. For weights in blocks of 256
  kRow,   // the whole vector; d in float32. What NPUs and XNNPACK call dynamic int8
};

// What ggml's CPU kernels round to for weights of this type; kNone for those without an integer path here (plain types,
// plain groups, and those that can only be decoded).
Rounding default_rounding(Type weights);
// Whether weights of this type can be multiplied by activations rounded so.
bool can_multiply(Type weights, Rounding rounding);
// Throws Error that says what the type takes.
void check_rounding(Type weights, Rounding rounding);

// One vector, readable (as zeros or the next one) for 256 values past its end. Of n values: d has n / 32 entries, also where they are all the same; sums[g] = sum of q[16 g .. 16 g + 15].
struct RoundedVector {
  const float* x;  // for kNone, instead of the rest
  const std::int8_t* q;
  const float* d;
  const std::int16_t* sums;
};

// As many vectors as there are tokens. The memory is kept when they are rounded anew.
class Activations {
 public:
  // x: (tokens, width), kept by pointer if nothing is rounded. width: a multiple of 32 (kQ8_K: 256) if something is.
  // Throws Error for a NaN or Inf, and for what overflows the f16 scale of q8_0.
  void round(Rounding rounding, Span<const float> x, std::size_t tokens);
  // One vector that is rounded already: blocks of q8_0 or q8_k, or a float d and `width` bytes (kRow).
  void unpack(Rounding rounding, ByteView bytes, std::size_t width);

  Rounding rounding() const { return rounding_; }
  std::size_t tokens() const { return tokens_; }
  std::size_t width() const { return width_; }
  RoundedVector token(std::size_t t) const {
    if (rounding_ == Rounding::kNone) return {x_ + t * width_, nullptr, nullptr, nullptr};
    return {nullptr, q_.data() + t * width_, d_.data() + t * (width_ / 32), sums_.data() + t * (width_ / 16)};
  }

 private:
  void resize(Rounding rounding, std::size_t tokens, std::size_t width);

  Rounding rounding_ = Rounding::kNone;
  std::size_t tokens_ = 0, width_ = 0;
  const float* x_ = nullptr;
  std::vector<std::int8_t> q_;
  std::vector<float> d_;
  std::vector<std::int16_t> sums_;
};

// The same as blocks of ggml's: x in kQ8_0, kQ8_K, or kF32 as it is. out: row_bytes(type, x.size()).
void encode_activations(Type type, Span<const float> x, Span<std::byte> out);

}  // namespace attar
