// Reference products of packed weights with activations.
//
// Two ways to multiply a row of weights by x: with x as floats, or with x rounded to 8 bits in blocks, as ggml's CPU
// kernels do it. In the second, everything within a block is an exact 32-bit integer; floats only join the blocks:
//   sum over blocks of  d_x * (d * sum_g sc[g] * sum_i level_i * q_i  -  dmin * sum_g m[g] * sum_i q_i)
// with i over the weights of group g, q the 8-bit activations and the rest as in blocks.h.
#pragma once

#include <cstdint>

#include "base/bytes.h"
#include "kernels_ref/activations.h"

namespace attar {

// What activations are rounded to for weights of this type: Q8_0 (blocks of 32), Q8_K (256), or F32 for types without an
// integer path (plain types, plain groups, and those that can only be decoded).
Type activation_type(Type weights);

// Float activations. row: row_bytes(type, x.size()) bytes of any type.
float dot_row(Type type, ByteView row, Span<const float> x);

// Activations as encode_activations(activation_type(type), ...) gave them. weights: the length of the row.
float dot_row_quantized(Type type, ByteView row, ByteView activations, std::uint64_t weights);

// The integers of one block: sums[0] = sum_g sc[g] * sum_i level_i * q_i, sums[1] = sum_g m[g] * sum_i q_i.
struct BlockSums {
  std::int32_t product = 0, minimum = 0;
};
BlockSums block_sums(Type type, ByteView block, Span<const std::int8_t> q);

// The same without checks, for any rounding that the type takes.
float dot_integers(Type type, const std::byte* row, const RoundedVector& x, std::size_t weights);

}  // namespace attar
