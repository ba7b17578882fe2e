// The table of types, looking them up, and sending rows to their family's code.
#include "kernels_ref/types.h"

#include <algorithm>
#include <iterator>

#include "base/checked.h"
#include "kernels_ref/blocks.h"
#include "kernels_ref/rows.h"

namespace attar {
namespace {

constexpr TypeInfo plain(Type type, const char* name, std::uint32_t id, int bytes) {
  return {type, name, id, 1, bytes, false, {}};
}

template <class Block>
constexpr TypeInfo gridded(Type type, const char* name, std::uint32_t id) {
  GridInfo grid{Block::kGroup, Block::kLevels, Block::kLevelMin, Block::kCodebook, Block::kHasOffset};
  if constexpr (Block::kWeights == kSuperBlock) grid.scale_min = Block::kScaleMin, grid.scale_max = Block::kScaleMax;
  return {type, name, id, Block::kWeights, sizeof(Block), true, grid};
}

template <class Block>
constexpr TypeInfo decode_only(Type type, const char* name, std::uint32_t id, int weights) {
  return {type, name, id, weights, sizeof(Block), true, {}};
}

// Names and ids of ggml (include/ggml.h, enum ggml_type), in the order of enum Type.
constexpr TypeInfo kTypes[] = {
    plain(Type::kF32, "f32", 0, 4),
    plain(Type::kF16, "f16", 1, 2),
    plain(Type::kBF16, "bf16", 30, 2),
    plain(Type::kF64, "f64", 28, 8),
    plain(Type::kI8, "i8", 24, 1),
    plain(Type::kI16, "i16", 25, 2),
    plain(Type::kI32, "i32", 26, 4),
    plain(Type::kI64, "i64", 27, 8),
    gridded<BlockQ4_0>(Type::kQ4_0, "q4_0", 2),
    gridded<BlockQ4_1>(Type::kQ4_1, "q4_1", 3),
    gridded<BlockQ5_0>(Type::kQ5_0, "q5_0", 6),
    gridded<BlockQ5_1>(Type::kQ5_1, "q5_1", 7),
    gridded<BlockQ8_0>(Type::kQ8_0, "q8_0", 8),
    decode_only<BlockQ8_1>(Type::kQ8_1, "q8_1", 9, 32),
    decode_only<BlockQ8_K>(Type::kQ8_K, "q8_k", 15, 256),
    gridded<BlockQ2_K>(Type::kQ2_K, "q2_k", 10),
    gridded<BlockQ3_K>(Type::kQ3_K, "q3_k", 11),
    gridded<BlockQ4_K>(Type::kQ4_K, "q4_k", 12),
    gridded<BlockQ5_K>(Type::kQ5_K, "q5_k", 13),
    gridded<BlockQ6_K>(Type::kQ6_K, "q6_k", 14),
    gridded<BlockIQ4_NL>(Type::kIQ4_NL, "iq4_nl", 20),
    gridded<BlockIQ4_XS>(Type::kIQ4_XS, "iq4_xs", 23),
    decode_only<BlockIQ2_XXS>(Type::kIQ2_XXS, "iq2_xxs", 16, 256),
    decode_only<BlockIQ2_XS>(Type::kIQ2_XS, "iq2_xs", 17, 256),
    decode_only<BlockIQ2_S>(Type::kIQ2_S, "iq2_s", 22, 256),
    decode_only<BlockIQ3_XXS>(Type::kIQ3_XXS, "iq3_xxs", 18, 256),
    decode_only<BlockIQ3_S>(Type::kIQ3_S, "iq3_s", 21, 256),
    decode_only<BlockIQ1_S>(Type::kIQ1_S, "iq1_s", 19, 256),
    decode_only<BlockIQ1_M>(Type::kIQ1_M, "iq1_m", 29, 256),
    decode_only<BlockTQ1_0>(Type::kTQ1_0, "tq1_0", 34, 256),
    decode_only<BlockTQ2_0>(Type::kTQ2_0, "tq2_0", 35, 256),
    decode_only<BlockMXFP4>(Type::kMXFP4, "mxfp4", 39, 32),
};

constexpr bool in_enum_order() {
  for (std::size_t i = 0; i < std::size(kTypes); ++i)
    if (static_cast<std::size_t>(kTypes[i].type) != i) return false;
  return true;
}
static_assert(in_enum_order() && std::size(kTypes) == static_cast<std::size_t>(Type::kMXFP4) + 1);

}  // namespace

std::span<const TypeInfo> all_types() { return kTypes; }

const TypeInfo& info(Type type) { return kTypes[static_cast<std::size_t>(type)]; }

std::optional<Type> type_from_name(std::string_view name) {
  const auto same = [](char a, char b) { return a == (b >= 'A' && b <= 'Z' ? b - 'A' + 'a' : b); };
  for (const TypeInfo& entry : kTypes) {
    const std::string_view known = entry.name;
    if (std::equal(known.begin(), known.end(), name.begin(), name.end(), same)) return entry.type;
  }
  return std::nullopt;
}

std::optional<Type> type_from_ggml_id(std::uint32_t id) {
  for (const TypeInfo& entry : kTypes)
    if (entry.ggml_id == id) return entry.type;
  return std::nullopt;
}

std::vector<std::string> quantizable_type_names() {
  std::vector<std::string> names;
  for (const TypeInfo& entry : kTypes)
    if (entry.grid.group != 0) names.emplace_back(entry.name);
  return names;
}

std::uint64_t row_bytes(Type type, std::uint64_t weights) {
  const TypeInfo& entry = info(type);
  const auto block = static_cast<std::uint64_t>(entry.block_weights);
  if (weights % block != 0)
    fail("[", entry.name, "] a row of ", weights, " weights does not divide into blocks of ", block,
         block > 32 ? "; try a type with blocks of 32, such as q8_0 or q4_0" : "; try a plain type, such as f16");
  return checked_mul(weights / block, static_cast<std::uint64_t>(entry.block_bytes), "row size");
}

void decode_row(Type type, ByteView row, std::span<float> out) {
  const TypeInfo& entry = info(type);
  if (const std::uint64_t wanted = row_bytes(type, out.size()); row.size() != wanted)
    fail("[decode] a row of ", out.size(), " weights in ", entry.name, " is ", wanted, " bytes, not ", row.size());
  if (!entry.quantized) return decode_plain_row(type, row.data(), out);
  if (entry.grid.group != 0) return decode_grid_row(type, row.data(), out);
  if (type >= Type::kIQ2_XXS && type <= Type::kIQ1_M) return decode_i_quant_row(type, row.data(), out);
  decode_other_row(type, row.data(), out);
}

}  // namespace attar
