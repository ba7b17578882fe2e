// One row of a matrix as the device stores it: the scales of its blocks, a code for every weight, and what they decode to.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels_ref/types.h"

namespace attar {

class PackedRow {
 public:
  PackedRow(Type type, ByteView row, std::int64_t columns);

  std::int64_t columns() const { return static_cast<std::int64_t>(codes_.size()); }
  float value(std::int64_t column) const { return value(column, code(column)); }
  float value(std::int64_t column, int code) const {
    const std::size_t g = group(column);
    return scale_[g] * level(grid_, code) + offset_[g];
  }
  // Of the columns from `begin` on, which is where a group starts, as it is where they end.
  void values(std::int64_t begin, std::span<float> out) const;
  void levels(std::int64_t begin, std::span<float> out) const;
  // value = scale * level(code) + offset
  float scale(std::int64_t column) const { return scale_[group(column)]; }
  float offset(std::int64_t column) const { return offset_[group(column)]; }
  int code(std::int64_t column) const { return codes_[static_cast<std::size_t>(column)]; }
  void set_code(std::int64_t column, int code) { codes_[static_cast<std::size_t>(column)] = static_cast<std::uint8_t>(code); }
  // The code whose value is nearest to w.
  int nearest(std::int64_t column, float w) const {
    const std::size_t g = group(column);
    return nearest_code(grid_, scale_[g], offset_[g], w);
  }

  const GridInfo& grid() const { return grid_; }
  std::int64_t block_weights() const { return block_weights_; }
  std::int64_t group_weights() const { return group_weights_; }
  std::span<const BlockScales> blocks() const { return blocks_; }
  void set_block(std::int64_t block, const BlockScales& scales);

  // Into the bytes the row was read from, or others that hold as much.
  void write(std::span<std::byte> row) const;

 private:
  std::size_t group(std::int64_t column) const { return static_cast<std::size_t>(column / group_weights_); }
  void decode_scales(std::size_t block);

  Type type_;
  const GridInfo& grid_;
  std::int64_t block_weights_, group_weights_;
  std::vector<BlockScales> blocks_;
  std::vector<float> scale_, offset_;  // by group, with the decoder's own float operations
  std::vector<std::uint8_t> codes_;
};

}  // namespace attar
