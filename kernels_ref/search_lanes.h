// The searches of search.h for many groups at once, one in each lane of a vector. F: float, one group, or a vector of four, eight or sixteen: as many
// as a register of the processor holds, since compilers take wider ones apart weight by weight where they choose between two. The operations are
// the same, so the bits are. Internal.
//
// To rank starting points the sums over weights suffice (x l, l l): that of x x is the same for all. What is kept is measured by
// residuals.
#pragma once

#include <cstring>
#include <type_traits>
#include <utility>

#include "kernels_ref/search.h"

namespace attar::search {
namespace {

template <class F>
inline constexpr int kWidth = static_cast<int>(sizeof(F) / sizeof(float));

using Fours = float __attribute__((vector_size(16)));
using Eights = float __attribute__((vector_size(32)));
using Sixteens = float __attribute__((vector_size(64)));
// What comparing such vectors gives: as many integers.
template <class F>
using IntsOf = std::remove_cv_t<decltype(F{} < F{})>;

template <class F>
F load(const float* p) {
  F v;
  std::memcpy(&v, p, sizeof(F));
  return v;
}
template <class F>
void store(F v, float* p) {
  std::memcpy(p, &v, sizeof(F));
}
template <class F>
F magnitude(F v) {
  return v < F{} ? -v : v;
}
template <class F>
F least(F a, F b) {
  return b < a ? b : a;
}
template <class F>
F most(F a, F b) {
  return a < b ? b : a;
}

inline float to_f16_lanes(float v) { return to_f16(v); }
template <class F>
F to_f16_lanes(F v) {
  using Ints = IntsOf<F>;
  v = least(most(v, F{} - 65504.0f), F{} + 65504.0f);
  const Ints bits = reinterpret_cast<Ints>(v), magnitude = bits & 0x7fffffff;
  const Ints normal = (magnitude + 0xfff + ((magnitude >> 13) & 1)) & ~0x1fff;
  const Ints subnormal = reinterpret_cast<Ints>((reinterpret_cast<F>(magnitude) + 0.5f) - 0.5f);  // to a multiple of 2^-24
  return reinterpret_cast<F>((magnitude >= 0x38800000 ? normal : subnormal) | (bits & ~0x7fffffff));
}

inline void store_integers(float v, std::int32_t* p) { *p = static_cast<std::int32_t>(v); }
template <class F>
void store_integers(F v, std::int32_t* p) {
  const auto integers = __builtin_convertvector(v, IntsOf<F>);
  std::memcpy(p, &integers, sizeof integers);
}

// As many rows as columns change places: blocks of half the size, then of a quarter, and so on.
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define ATTAR_TRANSPOSE 1
template <int S, class F, int... J>
void exchange(F& a, F& b, std::integer_sequence<int, J...>) {
  const F first = a;
  a = __builtin_shufflevector(first, b, ((J & S) != 0 ? kWidth<F> + J - S : J)...);
  b = __builtin_shufflevector(first, b, ((J & S) != 0 ? kWidth<F> + J : J + S)...);
}
template <int S, class F>
void exchange_all(F* rows) {
  for (int i = 0; i < kWidth<F>; ++i)
    if ((i & S) == 0) exchange<S>(rows[i], rows[i + S], std::make_integer_sequence<int, kWidth<F>>{});
}
template <class F, int S = kWidth<F> / 2>
void transpose(F* rows) {
  exchange_all<S>(rows);
  if constexpr (S > 1) transpose<F, S / 2>(rows);
}
#endif
#endif

// kWeighted: not all weights are equally important.
template <class F, bool kWeighted>
struct Groups {
  int n;
  F x[32], w[kWeighted ? 32 : 1];

  // x, w: (kWidth, n)
  void fill(const float* x_rows, const float* w_rows, int count) {
    n = count;
    turn(x_rows, x);
    if constexpr (kWeighted) turn(w_rows, w);
  }
  // v times the importance of weight i.
  F weigh(int i, F v) const {
    if constexpr (kWeighted) return w[i] * v;
    return v;
  }

 private:
  void turn(const float* rows, F* columns) const {
#ifdef ATTAR_TRANSPOSE
    if constexpr (kWidth<F> > 1) {
      for (int i = 0; i < n; i += kWidth<F>) {
        for (int k = 0; k < kWidth<F>; ++k) columns[i + k] = load<F>(rows + k * n + i);
        transpose(columns + i);
      }
      return;
    }
#endif
    for (int k = 0; k < kWidth<F>; ++k)
      for (int i = 0; i < n; ++i)
        std::memcpy(reinterpret_cast<char*>(columns + i) + sizeof(float) * static_cast<std::size_t>(k), rows + k * n + i, sizeof(float));
  }
};

// --- symmetric -------------------------------------------------------------------------------------------------------

template <class F, bool kWeighted, class Levels>
ScaleSumsOf<F> measure(const Levels& levels, const Groups<F, kWeighted>& g, F scale) {
  const F inverse = scale != F{} ? 1.0f / scale : F{};
  ScaleSumsOf<F> sums;
  for (int i = 0; i < g.n; ++i) {
    const F l = levels.nearest(g.x[i] * inverse);
    const F r = g.x[i] - scale * l, wr = g.weigh(i, r);
    sums.rr += wr * r;
    sums.rl += wr * l;
    sums.ll += g.weigh(i, l) * l;
  }
  return sums;
}

template <class F>
struct ScaleFitOf {
  F scale{}, error{}, curvature{};
};

// What the weight of largest magnitude is tried at: where no weight lies half a level outside of the levels, where none lies below them,
// and where one may lie on either side. An even number of each.
struct Targets {
  Span<const float> within, above, outside;
};

// The least-squares scale for the levels that the best of the starting points leads to: see fit_scale.
template <class F, bool kWeighted, class Levels>
F start_scale(const Levels& levels, const Groups<F, kWeighted>& g, const Targets& targets) {
  F extreme{}, heavy{}, cost{}, weighted[kWeighted ? 32 : 1];
  const F* wx = kWeighted ? weighted : g.x;
  for (int i = 0; i < g.n; ++i) {
    extreme = magnitude(g.x[i]) > magnitude(extreme) ? g.x[i] : extreme;
    if constexpr (kWeighted) {
      weighted[i] = g.weigh(i, g.x[i]);
      const F own = weighted[i] * g.x[i];
      heavy = own > cost ? g.x[i] : heavy;
      cost = most(cost, own);
    }
  }
  F start{}, gain{};
  const auto consider = [&](F value, Span<const float> levels_of_value, auto nearest) {
    const F per_level = magnitude(value) >= F{} + 0x1p-30f ? 1.0f / value : F{};
    constexpr std::size_t kTogether = 2;  // sums that do not wait for each other; there are always that many
    for (std::size_t at = 0; at < levels_of_value.size(); at += kTogether) {
      F inverse[kTogether], xl[kTogether] = {}, ll[kTogether] = {};
      for (std::size_t j = 0; j < kTogether; ++j) inverse[j] = per_level * levels_of_value[at + j];
      for (int i = 0; i < g.n; ++i)
        for (std::size_t j = 0; j < kTogether; ++j) {
          const F l = nearest(g.x[i] * inverse[j]);
          xl[j] += wx[i] * l;
          ll[j] += g.weigh(i, l) * l;
        }
      for (std::size_t j = 0; j < kTogether; ++j) {
        const F scale = ll[j] > F{} ? xl[j] / ll[j] : F{}, own = per_level != F{} ? scale * xl[j] : F{};
        start = own > gain ? scale : start;
        gain = most(gain, own);
      }
    }
  };
  const auto anywhere = [&](F v) { return levels.nearest(v); };
  consider(extreme, targets.within, [&](F v) { return levels.within(v); });
  consider(extreme, targets.above, [&](F v) { return levels.nearest_above(v); });
  consider(extreme, targets.outside, anywhere);
  if constexpr (!kWeighted) return start;  // the extreme is what matters most
  float other[kWidth<F>];
  store(magnitude(heavy - extreme), other);
  float any = 0;
  for (const float lane : other) any += lane;
  if (any > 0) consider(heavy != extreme ? heavy : F{}, kHeavyTargets, anywhere);
  return start;
}

template <class F, bool kWeighted, class Levels>
ScaleFitOf<F> no_scale(const Levels& levels, const Groups<F, kWeighted>& g) {
  const F l = levels.nearest(F{});
  ScaleFitOf<F> fit;
  for (int i = 0; i < g.n; ++i) {
    fit.error += g.weigh(i, g.x[i]) * g.x[i];
    fit.curvature += g.weigh(i, l) * l;
  }
  return fit;
}

// From `start` by turns: the nearest levels, the least-squares scale. stored: what becomes of a scale where it is kept.
template <class F, bool kWeighted, class Levels, class Stored>
ScaleFitOf<F> refine(const Levels& levels, const Groups<F, kWeighted>& g, F start, int turns, Stored stored) {
  ScaleFitOf<F> best = no_scale(levels, g);
  for (int turn = 0; turn < turns; ++turn) {
    start = stored(start);
    const ScaleSumsOf<F> sums = measure(levels, g, start);
    const auto better = sums.rr < best.error;
    best.scale = better ? start : best.scale;
    best.error = better ? sums.rr : best.error;
    best.curvature = better ? sums.ll : best.curvature;
    start = better ? start + sums.correction() : start;
  }
  return best;
}

// --- affine ----------------------------------------------------------------------------------------------------------

template <class F, bool kWeighted>
AffineSumsOf<F> measure_affine(float top, const Groups<F, kWeighted>& g, F scale, F offset) {
  const Uniform levels{0, top};
  const F inverse = scale != F{} ? 1.0f / scale : F{};
  AffineSumsOf<F> sums;
  for (int i = 0; i < g.n; ++i) {
    const F q = levels.nearest((g.x[i] - offset) * inverse);
    const F r = g.x[i] - (scale * q + offset);
    const F wr = g.weigh(i, r), wq = g.weigh(i, q);
    sums.rr += wr * r;
    sums.r += wr;
    sums.rq += wr * q;
    sums.q += wq;
    sums.qq += wq * q;
    sums.w += g.weigh(i, F{} + 1.0f);
  }
  return sums;
}

template <class M, class F>
void take(M better, const AffineSumsOf<F>& from, AffineSumsOf<F>& to) {
  to.rr = better ? from.rr : to.rr;
  to.r = better ? from.r : to.r;
  to.rq = better ? from.rq : to.rq;
  to.q = better ? from.q : to.q;
  to.qq = better ? from.qq : to.qq;
  to.w = better ? from.w : to.w;
}

template <class F>
struct AffineFitOf {
  F scale{}, offset{}, error{};
  AffineSumsOf<F> sums;
};

// As fit_affine, with starting points ranked over weights less the smallest, where nothing cancels.
template <class F, bool kWeighted>
AffineFitOf<F> fit_affine(float top, const Groups<F, kWeighted>& g, float max_offset) {
  constexpr int kCuts = 2;
  const int shares = top > 15 ? 16 : 8;  // the more levels, the finer
  F low = F{} + 0x1p127f, high = -low;
  for (int i = 0; i < g.n; ++i) low = least(low, g.x[i]), high = most(high, g.x[i]);
  const F bound = F{} + max_offset;
  low = least(low, bound), high = most(high, low);
  const F range = high - low;
  F y[32], sw{}, sy{};
  for (int i = 0; i < g.n; ++i) {
    y[i] = g.x[i] - low;
    sw += g.weigh(i, F{} + 1.0f);
    sy += g.weigh(i, y[i]);
  }
  const F room = bound - low;  // for the offset, from low
  AffineFitOf<F> best;
  best.offset = least(sw > F{} ? low + sy / sw : low, bound);  // one value for all: the weighted mean
  best.sums = measure_affine(top, g, F{}, best.offset);
  best.error = best.sums.rr;

  F start_scale{}, start_offset{}, gain = F{} - 1.0f;
  const Uniform levels{0, top};
  const F per_range = range >= F{} + 0x1p-30f ? top / range : F{};
  for (int step = 0; step < shares; ++step) {
    const float share = 1.06f - 0.48f * static_cast<float>(step) / static_cast<float>(shares);
    const F inverse = per_range * (1.0f / share);
    for (int cut = 0; cut <= kCuts; ++cut) {
      const F offset = least(range * ((1 - share) * static_cast<float>(cut) / kCuts), room);
      F sq{}, sqq{}, syq{};
      for (int i = 0; i < g.n; ++i) {
        const F q = levels.nearest((y[i] - offset) * inverse), wq = g.weigh(i, q);
        sq += wq;
        sqq += wq * q;
        syq += wq * y[i];
      }
      const F determinant = sqq * sw - sq * sq;
      const auto solvable = determinant > 1e-6f * sqq * sw;
      // Where all are on one level the offset stays; where it would pass its bound it stops there. Then the scale alone.
      const F wanted = solvable ? (sqq * sy - sq * syq) / determinant : offset;
      const F own = least(wanted, room), alone = sqq > F{} ? (syq - own * sq) / sqq : F{};
      const F scale = solvable ? (wanted <= room ? (syq * sw - sy * sq) / determinant : alone) : alone;
      const F won = 2.0f * (scale * syq + own * sy) - scale * scale * sqq - 2.0f * scale * own * sq - own * own * sw;
      const F ranked = scale > F{} ? won : F{} - 1.0f;
      const auto better = ranked > gain;
      start_scale = better ? scale : start_scale;
      start_offset = better ? low + own : start_offset;
      gain = most(gain, ranked);
    }
  }
  for (int turn = 0; turn < 4; ++turn) {
    const AffineSumsOf<F> sums = measure_affine(top, g, start_scale, start_offset);
    const auto better = sums.rr < best.error;
    take(better, sums, best.sums);
    best.scale = better ? start_scale : best.scale;
    best.offset = better ? start_offset : best.offset;
    best.error = better ? sums.rr : best.error;
    const AffineStepOf<F> next = refit_affine(sums, start_scale, start_offset, max_offset);
    const auto goes_on = better ? next.scale : F{};
    start_scale = goes_on > F{} ? next.scale : start_scale;
    start_offset = goes_on > F{} ? next.offset : start_offset;
  }
  return best;
}

}  // namespace
}  // namespace attar::search
