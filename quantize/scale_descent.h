// What the blocks of rows store beside codes, set to what is best for the error e H e^T while codes stay (descent.h).
//
// The weights of a block are q = sum_k (d sc_k) l_k - (dmin m_k) 1_k, with l_k the levels of group k and 1_k ones there: a point in a space
// of at most 32 dimensions. The error over that space is a small form, worked out once for a chunk, and all numbers of a block are settled in it.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <span>

#include "quantize/packed_row.h"

namespace attar {

class ScaleDescent {
 public:
  // Of rows' columns [begin, begin + width), whole blocks. H: (width, width) float32, symmetric, of these columns.
  ScaleDescent(std::span<const PackedRow> rows, const at::Tensor& H, std::int64_t begin);

  // The block that starts at column `from` of the chunk, in the r-th row, which has the codes it had. g: what the row feels in the columns of this
  // block. Sets each number of the block in turn until none moves. Returns what the error has come down by; g is out of date then.
  double settle(std::size_t r, std::int64_t from, PackedRow& row, const float* g) const;

 private:
  void measure(const at::Tensor& H, std::int64_t from);
  float* form(std::size_t r, std::int64_t from) const;  // (dimensions, dimensions): b H b^T of each two vectors of the basis

  std::int64_t count_, begin_, width_, block_, group_;
  int groups_;      // of a block
  int dimensions_;  // l_0 .. l_{groups - 1}, then, in formats with an offset, the ones
  at::Tensor levels_;  // (count, width)
  at::Tensor forms_;   // (count, blocks, dimensions, dimensions)
};

}  // namespace attar
