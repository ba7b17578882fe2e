// A panel of 16 rows times many tokens: codes of four weights of each row against four broadcast activations.
#pragma once

namespace attar {
namespace {

// kTokens tokens from `first` on. kVectors: vectors that hold the 16 rows.
template <class Isa, int kGroup, bool kWide, int kTokens>
void panel_tile(const PanelTask& task, std::size_t first) {
  using F = typename Isa::F;
  using I = typename Isa::I;
  constexpr std::size_t kRows = Isa::kLanes;
  const std::size_t groups = task.columns / kGroup;
  for (std::size_t row = 0; row < task.rows; row += kRows) {
    F total[kTokens];
    for (int t = 0; t < kTokens; ++t) total[t] = Isa::zero_f();
    const std::uint8_t* w = task.codes + 4 * row;
    const float *scale = task.scale + row, *offset = task.offset + row;
    for (std::size_t block = 0; block < task.columns / 32; ++block) {
      F value[kTokens];
      for (int part = 0; part < 32 / kGroup; ++part) {
        I sum[kTokens];
        for (int t = 0; t < kTokens; ++t) sum[t] = Isa::zero_i();
        const std::int8_t* q = task.q + first * task.columns + 32 * block + static_cast<std::size_t>(part * kGroup);
        for (int k = 0; k < kGroup; k += 4, w += 4 * kPanelRows) {
          const I codes = Isa::load(w);
          for (int t = 0; t < kTokens; ++t)
            sum[t] = Isa::template dot<kWide>(sum[t], codes, Isa::broadcast4(q + static_cast<std::size_t>(t) * task.columns + k));
        }
        const F s = Isa::load_f(scale), o = Isa::load_f(offset);
        scale += kPanelRows, offset += kPanelRows;
        const float* sums = task.sums + first * groups + block * (32 / kGroup) + static_cast<std::size_t>(part);
        for (int t = 0; t < kTokens; ++t) {
          const F product = Isa::to_float(sum[t]);
          value[t] = part == 0 ? Isa::mul(product, s) : Isa::fma(product, s, value[t]);
          value[t] = Isa::fma(o, Isa::broadcast(sums[static_cast<std::size_t>(t) * groups]), value[t]);
        }
      }
      const float* d = task.d + first * (task.columns / 32) + block;
      for (int t = 0; t < kTokens; ++t)
        total[t] = Isa::fma(value[t], Isa::broadcast(d[static_cast<std::size_t>(t) * (task.columns / 32)]), total[t]);
    }
    const std::size_t count = task.rows - row < kRows ? task.rows - row : kRows;
    for (int t = 0; t < kTokens; ++t) {
      alignas(64) float out[kRows];
      Isa::store_f(out, total[t]);
      float* y = task.y + (first + static_cast<std::size_t>(t)) * task.y_stride + row;
      for (std::size_t r = 0; r < count; ++r) y[r] = out[r];
    }
  }
}

template <class Isa, int kGroup, bool kWide>
void panel_tiles(const PanelTask& task) {
  std::size_t t = 0;
  for (; t + Isa::kTokens <= task.tokens; t += Isa::kTokens) panel_tile<Isa, kGroup, kWide, Isa::kTokens>(task, t);
  for (; t < task.tokens; ++t) panel_tile<Isa, kGroup, kWide, 1>(task, t);
}

template <class Isa>
void panel_product(const PanelTask& task) {
  if (task.group == 16) {
    panel_tiles<Isa, 16, false>(task);
  } else if (task.wide) {
    panel_tiles<Isa, 32, true>(task);
  } else {
    panel_tiles<Isa, 32, false>(task);
  }
}

}  // namespace
}  // namespace attar
