// Up to 256 weights of a row in one form for every type with a grid: unsigned codes and, for every 16 of them, a scale and an
// offset. What the kernels that have no code of their own for a type work on, and what is repacked for products with many tokens.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels_ref/types.h"

namespace attar {

// w[i] = scale[i / 16] * codes[i] + offset[i / 16]. Codes are below 128, or below 256 where codebooks or q8_0 are behind them.
struct Chunk {
  alignas(64) std::uint8_t codes[256];
  alignas(64) float scale[16], offset[16];
};

// first, weights: multiples of the block; weights at most 256. What is past them becomes zero.
using Unpack = void (*)(const std::byte* row, std::size_t first, std::size_t weights, Chunk& chunk);
Unpack unpack_of(Type type);  // nullptr for types without an integer path

}  // namespace attar
