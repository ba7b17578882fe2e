// The one table of weight types: storage types and block formats, with what each can do.
//
// A row of weights is stored as consecutive blocks. The layouts are those of ggml (https://github.com/ggml-org/ggml,
// ggml-common.h), and plain groups for what is not a GGUF; docs/formats describes every byte.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace attar {

enum class Type : std::uint8_t {
  kF32, kF16, kBF16, kF64, kI8, kI16, kI32, kI64, kU32,
  kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ8_0, kQ8_1, kQ8_K,
  kQ2_K, kQ3_K, kQ4_K, kQ5_K, kQ6_K,
  kIQ4_NL, kIQ4_XS,
  kIQ2_XXS, kIQ2_XS, kIQ2_S, kIQ3_XXS, kIQ3_S, kIQ1_S, kIQ1_M, kTQ1_0, kTQ2_0, kMXFP4,
  // The values after these are the plain groups, see group_type().
};

// How the weights of a quantized type hang together: w = scale * level(code) + offset, where scale and offset belong to
// a group of consecutive weights and level is the code itself (uniform: code + level_min) or a codebook entry.
struct GridInfo {
  int group = 0;                      // weights that share a scale and an offset
  int levels = 0;                     // codes run from 0 to levels - 1
  int level_min = 0;                  // level(code) = code + level_min, unless there is a codebook
  const std::int8_t* codebook = nullptr;  // ascending, `levels` entries
  bool has_offset = false;
  int scale_min = 1, scale_max = 1;   // of sc in BlockScales, and of m from 0 on; 1 .. 1: the block has one scale
  bool whole_row = false;             // the block and its one group are the row, whose length is a multiple of `group`
};

struct TypeInfo {
  Type type;
  const char* name;        // llama.cpp's, lower case: "q4_k"; of plain groups: "int4_g32", "affine4_row"
  std::optional<std::uint32_t> ggml_id;  // nothing: ggml does not know it
  int block_weights;       // 1 for plain types
  int block_bytes;
  bool quantized;
  GridInfo grid;           // group == 0: this type can only be decoded here
};

Span<const TypeInfo> all_types();
const TypeInfo& info(Type type);
std::optional<Type> type_from_name(std::string_view name);       // case does not matter
std::optional<Type> type_from_ggml_id(std::uint32_t id);
std::vector<std::string> quantizable_type_names();               // those that encode_row accepts, without plain ones

// Plain groups: codes of `bits` bits and, for every group of consecutive weights, one f16 scale, or one f16 scale and one f16 offset.
// docs/formats/plain-groups.md.
//   int{bits}_{group}     w = scale * (code - 2^(bits - 1))
//   affine{bits}_{group}  w = scale * code + offset
struct GroupFormat {
  bool affine = false;
  int bits = 4;    // 2, 3, 4, 5, 6 or 8
  int group = 32;  // 32, 64, 128, or 0: the whole row
};
std::optional<Type> group_type(const GroupFormat& format);  // nothing if there is no such type
std::optional<GroupFormat> group_format(Type type);         // nothing for any other type

// Bytes of a row of `weights` weights. Throws Error if they do not divide into whole blocks.
std::uint64_t row_bytes(Type type, std::uint64_t weights);
// Weights in a block, and in a group, of a row of `weights`: what info(type) says, or all of them where group and block are the row.
std::uint64_t block_weights(Type type, std::uint64_t weights);
std::uint64_t group_weights(Type type, std::uint64_t weights);

// row: row_bytes(type, out.size()) bytes. Floats bit-equal to ggml's own dequantization.
void decode_row(Type type, ByteView row, Span<float> out);

// Encodes weights into `row` with the type's scale search. importance: empty, or one non-negative number per weight (such
// as the mean square of the activation it meets): the search minimises sum importance * (w - decoded)^2.
// Plain float types are converted. Throws Error for a type that can only be decoded, and for NaN or Inf.
void encode_row(Type type, Span<const float> weights, Span<const float> importance, Span<std::byte> row);

// The grid of an encoded row: scale and offset for every group, as the decoder computes them (same float operations).
struct RowGrid {
  std::vector<float> scale, offset;  // one entry per group of info(type).grid.group weights; offset is 0 where unused
};
RowGrid read_grid(Type type, ByteView row, std::uint64_t weights);

// What the blocks of a row store beside the codes: w = (d * sc[g]) * level(code) - dmin * m[g]. Formats without an offset leave
// dmin and m alone, those with one scale a block have sc[0] = m[0] = 1.
struct BlockScales {
  float d = 0, dmin = 0;  // values of f16
  std::int8_t sc[16] = {}, m[16] = {};
};
std::vector<BlockScales> read_scales(Type type, ByteView row, std::uint64_t weights);
void write_scales(Type type, Span<const BlockScales> blocks, Span<std::byte> row);  // codes stay as they are

// Codes of an encoded row, 0 .. levels - 1, one per weight, and back. write_codes leaves scales and offsets as they are.
void read_codes(Type type, ByteView row, Span<std::uint8_t> codes);
void write_codes(Type type, Span<const std::uint8_t> codes, Span<std::byte> row);

// The code whose value scale * level + offset is nearest to w.
int nearest_code(const GridInfo& grid, float scale, float offset, float w);
inline float level(const GridInfo& grid, int code) {
  return static_cast<float>(grid.codebook != nullptr ? grid.codebook[code] : code + grid.level_min);
}

}  // namespace attar
