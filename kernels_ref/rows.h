// Row functions behind types.h, one per family of formats. The caller has checked that sizes match. Internal.
#pragma once

#include <cstdint>

#include "kernels_ref/types.h"

namespace attar {

// Types with a grid (grid.cc).
void decode_grid_row(Type type, const std::byte* row, Span<float> out);

// Plain groups (groups.cc); the ones that follow grid.cc's functions of the same names.
void decode_group_row(Type type, const std::byte* row, Span<float> out);
void encode_group_row(Type type, Span<const float> weights, Span<const float> importance, std::byte* row);
void read_group_scales(Type type, const std::byte* row, std::uint64_t weights, Span<BlockScales> groups);
void write_group_scales(Type type, Span<const BlockScales> groups, std::uint64_t weights, std::byte* row);
void read_group_codes(Type type, const std::byte* row, Span<std::uint8_t> codes);
void write_group_codes(Type type, Span<const std::uint8_t> codes, std::byte* row);

// F32, F16, ... (plain.cc).
void decode_plain_row(Type type, const std::byte* row, Span<float> out);
void encode_plain_row(Type type, Span<const float> weights, std::byte* row);

// IQ1, IQ2, IQ3 (i_quants.cc).
void decode_i_quant_row(Type type, const std::byte* row, Span<float> out);

// Ternary, MXFP4 and activation types (other_blocks.cc).
void decode_other_row(Type type, const std::byte* row, Span<float> out);

}  // namespace attar
