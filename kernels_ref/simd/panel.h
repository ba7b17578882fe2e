// A panel of 16 rows times many tokens: codes of four weights of each row against four broadcast activations.
#pragma once

#include <cstring>

#include "kernels_ref/simd/unrolled.h"
#include "kernels_ref/variants.h"

namespace attar {
namespace {

// The rows of a panel against one tile of Isa::kTokens tokens.
template <class Isa, int kGroup, bool kWide, bool kOffsets>
void panel_tile(const PanelTask& task, std::size_t tile) {
  using F = typename Isa::F;
  using I = typename Isa::I;
  constexpr std::size_t kRows = Isa::kLanes, kTokens = Isa::kTokens;
  constexpr Count<kTokens> tokens;
  const std::size_t blocks = task.columns / 32, groups = task.columns / kGroup, first = tile * kTokens;
  for (std::size_t row = 0; row < task.rows; row += kRows) {
    F total[kTokens];
    unrolled(tokens, [&](auto t) ATTAR_ALWAYS_INLINE { total[t.value] = Isa::zero_f(); });
    const std::uint8_t* w = task.codes + 4 * row;
    const float *scale = task.scale + row, *offset = kOffsets ? task.offset + row : nullptr;
    const std::int8_t* q = task.q + first * task.columns;
    const float *d = task.d + first * blocks, *sums = kOffsets ? task.sums + first * groups : nullptr;
    const std::int32_t* start = kOffsets ? nullptr : task.start + first * groups;
    for (std::size_t block = 0; block < blocks; ++block, d += kTokens) {
      F value[kTokens];
      unrolled(Count<32 / kGroup>{}, [&](auto part) ATTAR_ALWAYS_INLINE {
        I sum[kTokens];
        unrolled(tokens, [&](auto t) ATTAR_ALWAYS_INLINE {
          if constexpr (kOffsets) sum[t.value] = Isa::zero_i();
          else sum[t.value] = Isa::broadcast4(reinterpret_cast<const std::int8_t*>(start + t.value));
        });
        for (int k = 0; k < kGroup; k += 4, w += 4 * kPanelRows, q += 4 * kTokens) {
          const I codes = Isa::load(w);
          unrolled(tokens, [&](auto t) ATTAR_ALWAYS_INLINE {
            sum[t.value] = Isa::template dot<kWide>(sum[t.value], codes, Isa::broadcast4(q + 4 * t.value));
          });
        }
        const F s = Isa::load_f(scale);
        F o;
        if constexpr (kOffsets) o = Isa::load_f(offset);
        unrolled(tokens, [&](auto t) ATTAR_ALWAYS_INLINE {
          const F product = Isa::to_float(sum[t.value]);
          value[t.value] = part.value == 0 ? Isa::mul(product, s) : Isa::fma(product, s, value[t.value]);
          if constexpr (kOffsets) value[t.value] = Isa::fma(o, Isa::broadcast(sums[t.value]), value[t.value]);
        });
        scale += kPanelRows;
        if constexpr (kOffsets) offset += kPanelRows, sums += kTokens;
        else start += kTokens;
      });
      unrolled(tokens, [&](auto t) ATTAR_ALWAYS_INLINE { total[t.value] = Isa::fma(value[t.value], Isa::broadcast(d[t.value]), total[t.value]); });
    }
    const std::size_t count = task.rows - row < kRows ? task.rows - row : kRows;
    alignas(64) float out[kTokens][kRows];
    unrolled(tokens, [&](auto t) ATTAR_ALWAYS_INLINE { Isa::store_f(out[t.value], total[t.value]); });
    for (std::size_t t = 0; t < kTokens && first + t < task.tokens; ++t)
      for (std::size_t r = 0; r < count; ++r) task.y[(first + t) * task.y_stride + row + r] = out[t][r];
  }
}

template <class Isa, int kGroup, bool kWide, bool kOffsets>
void panel_tiles(const PanelTask& task) {
  for (std::size_t tile = 0; tile * Isa::kTokens < task.tokens; ++tile) panel_tile<Isa, kGroup, kWide, kOffsets>(task, tile);
}

template <class Isa>
void panel_product(const PanelTask& task) {
  const bool offsets = task.offset != nullptr;
  if (task.group == 16) return offsets ? panel_tiles<Isa, 16, false, true>(task) : panel_tiles<Isa, 16, false, false>(task);
  if (task.wide) return panel_tiles<Isa, 32, true, false>(task);  // codebooks and q8_0 have none
  return offsets ? panel_tiles<Isa, 32, false, true>(task) : panel_tiles<Isa, 32, false, false>(task);
}

inline void interleave_words(const std::uint8_t* codes, std::size_t stride, std::size_t weights, std::uint8_t* out) {
  for (std::size_t i = 0; i < weights; i += 4)
    for (std::size_t r = 0; r < kPanelRows; ++r) std::memcpy(out + i * kPanelRows + 4 * r, codes + r * stride + i, 4);
}

}  // namespace
}  // namespace attar
