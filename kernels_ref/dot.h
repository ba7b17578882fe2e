// Reference products of packed weights with activations.
//
// Two ways to multiply a row of weights by x: with x as floats, or with x rounded to 8 bits in blocks, as ggml's CPU
// kernels do it. In the second, everything within a block is an exact 32-bit integer; floats only join the blocks:
//   sum over blocks of  d_x * (d * sum_g sc[g] * sum_i level_i * q_i  -  dmin * sum_g m[g] * sum_i q_i)
// with i over the weights of group g, q the 8-bit activations and the rest as in blocks.h.
#pragma once

#include <cstdint>
#include "base/span.h"

#include "base/bytes.h"
#include "kernels_ref/types.h"

namespace attar {

// What activations are rounded to for weights of this type: Q8_0 (blocks of 32), Q8_K (256), or F32 for types without an
// integer path (plain types, plain groups, and those that can only be decoded).
Type activation_type(Type weights);

// x in kQ8_0, kQ8_K or kF32. out: row_bytes(type, x.size()). Throws Error for NaN, Inf, or what overflows the scale.
void encode_activations(Type type, Span<const float> x, Span<std::byte> out);

// Float activations. row: row_bytes(type, x.size()) bytes of any type.
float dot_row(Type type, ByteView row, Span<const float> x);

// Activations as encode_activations(activation_type(type), ...) gave them. weights: the length of the row.
float dot_row_quantized(Type type, ByteView row, ByteView activations, std::uint64_t weights);

// The same block of sums as integers: sums[0] = sum_g sc[g] * sum_i level_i * q_i, sums[1] = sum_g m[g] * sum_i q_i.
struct BlockSums {
  std::int32_t product = 0, minimum = 0;
};
BlockSums block_sums(Type type, ByteView block, Span<const std::int8_t> q);

// y[r] = weights[r] . x for `rows` rows that follow each other; through the integer path where there is one. Spread over
// the threads; the result does not depend on their number.
void matvec(Type type, ByteView weights, std::int64_t rows, Span<const float> x, Span<float> y);

}  // namespace attar
