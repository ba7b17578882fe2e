// Coordinate descent on a row's error e H e^T, e = t - q, over everything the row stores: codes, scales and offsets, each in
// turn set to the best value the format has for it while all others stay. docs/methods/gptq.md.
#pragma once

#include <cstdint>
#include <span>

#include "quantize/packed_row.h"

namespace attar {

// H: (columns, columns) symmetric, positive diagonal. gradient: e H of the row as it comes, kept up to date. order: in which
// columns are visited. At most `passes` times over codes, and over scales in between; ends when nothing moves. Never makes the row worse.
void descend(PackedRow& row, const float* H, std::span<float> gradient, std::span<const std::int64_t> order, int passes);

}  // namespace attar
