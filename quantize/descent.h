// Coordinate descent on the error e H e^T, e = t - q, of each row over everything the row stores: codes, scales and offsets, each in
// turn set to the best value the format has for it while all others stay.
//
//   Behdin, Acharya, Gupta, Song, Zhu, Keerthi, Mazumder, "QuantEase: Optimization-based Quantization for Language Models", 2023,
//   https://arxiv.org/abs/2309.01885: the descent over codes. Scales, offsets and rows that see each other are added here.
//
// docs/methods/gptq.md.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <span>
#include <vector>

#include "quantize/options.h"
#include "quantize/packed_row.h"

namespace attar {

// T: (rows, columns) float32, contiguous, what the rows should be. H: (columns, columns) float32, symmetric, positive diagonal. order: all columns;
// those of one chunk of 256 are visited in this order, chunks from left to right. A: (rows, rows) float32, symmetric, positive definite; the error is
// then tr(A E H E^T), each row seeing where the others stand. Undefined: I; rows do not see each other, but the sums' rounding depends on
// which rows come together. Never makes the error worse. Returns E = T - Q as it is then.
at::Tensor descend(std::span<PackedRow> rows, const at::Tensor& T, const at::Tensor& H, std::span<const std::int64_t> order,
                   const DescentOptions& options, const at::Tensor& A = {});

}  // namespace attar
