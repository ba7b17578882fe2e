// The table of types, looking them up, and sending rows to their family's code.
#include "kernels_ref/types.h"

#include <algorithm>
#include <array>
#include <iterator>

#include "base/checked.h"
#include "kernels_ref/blocks.h"
#include "kernels_ref/rows.h"

namespace attar {
namespace {

constexpr int kRowUnit = 32;  // the length of a row that is one group is a multiple of it

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
constexpr TypeInfo kNamed[] = {
    plain(Type::kF32, "f32", 0, 4),
    plain(Type::kF16, "f16", 1, 2),
    plain(Type::kBF16, "bf16", 30, 2),
    plain(Type::kF64, "f64", 28, 8),
    plain(Type::kI8, "i8", 24, 1),
    plain(Type::kI16, "i16", 25, 2),
    plain(Type::kI32, "i32", 26, 4),
    plain(Type::kI64, "i64", 27, 8),
    {Type::kU32, "u32", {}, 1, 4, false, {}},
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

// --- plain groups ----------------------------------------------------------------------------------------------------

constexpr int kBits[] = {2, 3, 4, 5, 6, 8};
constexpr int kGroups[] = {32, 64, 128, 0};
constexpr std::size_t kGroupTypes = 2 * std::size(kBits) * std::size(kGroups);

constexpr GroupFormat format_at(std::size_t index) {
  return {index / std::size(kGroups) / std::size(kBits) == 1, kBits[index / std::size(kGroups) % std::size(kBits)],
          kGroups[index % std::size(kGroups)]};
}

struct Name {
  char text[16] = {};
};
constexpr Name name_of(const GroupFormat& format) {
  Name name;
  std::size_t at = 0;
  const auto add = [&](std::string_view part) {
    for (const char c : part) name.text[at++] = c;
  };
  add(format.affine ? "affine" : "int");
  name.text[at++] = static_cast<char>('0' + format.bits);
  add(format.group == 0 ? "_row" : format.group == 32 ? "_g32" : format.group == 64 ? "_g64" : "_g128");
  return name;
}
constexpr auto kGroupNames = [] {
  std::array<Name, kGroupTypes> names;
  for (std::size_t i = 0; i < kGroupTypes; ++i) names[i] = name_of(format_at(i));
  return names;
}();

constexpr TypeInfo group_info(std::size_t index) {
  const GroupFormat format = format_at(index);
  GridInfo grid;
  grid.group = format.group == 0 ? kRowUnit : format.group;
  grid.levels = 1 << format.bits;
  grid.level_min = format.affine ? 0 : -grid.levels / 2;
  grid.has_offset = format.affine;
  grid.whole_row = format.group == 0;
  const int codes = grid.group * format.bits / 8, scales = grid.whole_row ? 0 : format.affine ? 4 : 2;
  return {static_cast<Type>(std::size(kNamed) + index), kGroupNames[index].text, {}, grid.group, scales + codes, true, grid};
}

constexpr auto kTypes = [] {
  std::array<TypeInfo, std::size(kNamed) + kGroupTypes> types{};
  for (std::size_t i = 0; i < std::size(kNamed); ++i) types[i] = kNamed[i];
  for (std::size_t i = 0; i < kGroupTypes; ++i) types[std::size(kNamed) + i] = group_info(i);
  return types;
}();

constexpr bool in_enum_order() {
  for (std::size_t i = 0; i < std::size(kTypes); ++i)
    if (static_cast<std::size_t>(kTypes[i].type) != i) return false;
  return true;
}
static_assert(in_enum_order() && std::size(kNamed) == static_cast<std::size_t>(Type::kMXFP4) + 1);

}  // namespace

Span<const TypeInfo> all_types() { return kTypes; }

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

std::optional<Type> group_type(const GroupFormat& format) {
  for (std::size_t i = 0; i < kGroupTypes; ++i) {
    const GroupFormat known = format_at(i);
    if (known.affine == format.affine && known.bits == format.bits && known.group == format.group)
      return static_cast<Type>(std::size(kNamed) + i);
  }
  return std::nullopt;
}

std::optional<GroupFormat> group_format(Type type) {
  const auto index = static_cast<std::size_t>(type);
  if (index < std::size(kNamed)) return std::nullopt;
  return format_at(index - std::size(kNamed));
}

std::uint64_t block_weights(Type type, std::uint64_t weights) {
  const TypeInfo& entry = info(type);
  return entry.grid.whole_row ? weights : static_cast<std::uint64_t>(entry.block_weights);
}

std::uint64_t group_weights(Type type, std::uint64_t weights) {
  const GridInfo& grid = info(type).grid;
  return grid.whole_row ? weights : static_cast<std::uint64_t>(grid.group);
}

std::uint64_t row_bytes(Type type, std::uint64_t weights) {
  const TypeInfo& entry = info(type);
  const auto block = static_cast<std::uint64_t>(entry.block_weights);
  if (weights % block != 0)
    fail("[", entry.name, "] a row of ", weights, " weights does not divide into blocks of ", block,
         block > 32 ? "; try a type with blocks of 32, such as q8_0, q4_0 or int4_g32" : "; try a plain type, such as f16");
  const std::uint64_t bytes = checked_mul(weights / block, static_cast<std::uint64_t>(entry.block_bytes), "row size");
  return entry.grid.whole_row && weights > 0 ? checked_add(bytes, entry.grid.has_offset ? 4 : 2, "row size") : bytes;
}

void decode_row(Type type, ByteView row, Span<float> out) {
  const TypeInfo& entry = info(type);
  if (const std::uint64_t wanted = row_bytes(type, out.size()); row.size() != wanted)
    fail("[decode] a row of ", out.size(), " weights in ", entry.name, " is ", wanted, " bytes, not ", row.size());
  if (!entry.quantized) return decode_plain_row(type, row.data(), out);
  if (group_format(type)) return decode_group_row(type, row.data(), out);
  if (entry.grid.group != 0) return decode_grid_row(type, row.data(), out);
  if (type >= Type::kIQ2_XXS && type <= Type::kIQ1_M) return decode_i_quant_row(type, row.data(), out);
  decode_other_row(type, row.data(), out);
}

}  // namespace attar
