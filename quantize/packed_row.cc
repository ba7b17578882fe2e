#include "quantize/packed_row.h"

namespace attar {

PackedRow::PackedRow(Type type, ByteView row, std::int64_t columns)
    : type_(type), grid_(info(type).grid),
      block_weights_(static_cast<std::int64_t>(attar::block_weights(type, static_cast<std::uint64_t>(columns)))),
      group_weights_(static_cast<std::int64_t>(attar::group_weights(type, static_cast<std::uint64_t>(columns)))),
      blocks_(read_scales(type, row, static_cast<std::uint64_t>(columns))),
      scale_(static_cast<std::size_t>(columns / group_weights_)), offset_(scale_.size()),
      codes_(static_cast<std::size_t>(columns)) {
  read_codes(type, row, codes_);
  for (std::size_t b = 0; b < blocks_.size(); ++b) decode_scales(b);
}

void PackedRow::decode_scales(std::size_t block) {
  const BlockScales& s = blocks_[block];
  const auto groups = static_cast<std::size_t>(block_weights_ / group_weights_);
  for (std::size_t g = 0; g < groups; ++g) {
    scale_[block * groups + g] = s.d * static_cast<float>(s.sc[g]);
    offset_[block * groups + g] = grid_.has_offset ? -(s.dmin * static_cast<float>(s.m[g])) : 0.0f;
  }
}

void PackedRow::levels(std::int64_t begin, std::span<float> out) const {
  const std::uint8_t* code = codes_.data() + begin;
  if (grid_.codebook != nullptr)
    for (float& each : out) each = static_cast<float>(grid_.codebook[*code++]);
  else
    for (float& each : out) each = static_cast<float>(*code++ + grid_.level_min);
}

void PackedRow::values(std::int64_t begin, std::span<float> out) const {
  levels(begin, out);
  const auto width = static_cast<std::size_t>(group_weights_);
  for (std::size_t from = 0, g = group(begin); from < out.size(); from += width, ++g)
    for (std::size_t j = from; j < from + width; ++j) out[j] = scale_[g] * out[j] + offset_[g];
}

void PackedRow::set_block(std::int64_t block, const BlockScales& scales) {
  blocks_[static_cast<std::size_t>(block)] = scales;
  decode_scales(static_cast<std::size_t>(block));
}

void PackedRow::write(std::span<std::byte> row) const {
  write_scales(type_, blocks_, row);
  write_codes(type_, codes_, row);
}

}  // namespace attar
