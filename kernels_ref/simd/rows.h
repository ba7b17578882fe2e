// Rows of any type with a grid times one vector: unpacked to a Chunk, then multiplied. Isa: the instructions, see simd/*.cc.
#pragma once

namespace attar {
namespace {

// d * sums: what the offset of 16 weights is multiplied by. out: columns / 16 rounded up to 16.
inline void scale_sums(const RowsTask& task, float* out) {
  const std::size_t groups = task.columns / 16;
  for (std::size_t g = 0; g < groups; ++g) out[g] = task.x.d[g / 2] * static_cast<float>(task.x.sums[g]);
  for (std::size_t g = groups; g % 16 != 0; ++g) out[g] = 0;
}

template <class Isa>
struct ChunkSum {
  typename Isa::F products = Isa::zero_f(), offsets = Isa::zero_f();

  // n weights of the chunk, the first of which meets q[0]. scaled_sums: of the same place.
  template <bool kWide>
  void add(const Chunk& chunk, std::size_t n, const std::int8_t* q, const float* d, const float* scaled_sums) {
    for (std::size_t i = 0; i < n; i += Isa::kBytes) {
      const auto p = Isa::template dot<kWide>(Isa::zero_i(), Isa::load(chunk.codes + i), Isa::load(q + i));
      const auto s = Isa::mul(Isa::spread4(chunk.scale + i / 16), Isa::spread8(d + i / 32));
      products = Isa::fma(Isa::to_float(p), s, products);
    }
    for (std::size_t g = 0; g < 16 && 16 * g < n; g += Isa::kLanes)
      offsets = Isa::fma(Isa::load_f(chunk.offset + g), Isa::load_f(scaled_sums + g), offsets);
  }
  float total() const { return Isa::sum(Isa::add(products, offsets)); }
};

template <class Isa, bool kWide>
void chunk_rows(const RowsTask& task) {
  auto* const scaled_sums = reinterpret_cast<float*>(task.scratch);
  scale_sums(task, scaled_sums);
  Chunk chunk;
  for (std::size_t r = 0; r < task.rows; ++r) {
    ChunkSum<Isa> sum;
    for (std::size_t at = 0; at < task.columns; at += 256) {
      const std::size_t n = task.columns - at < 256 ? task.columns - at : 256;
      task.unpack(task.weights + r * task.stride, at, n, chunk);
      sum.template add<kWide>(chunk, n, task.x.q + at, task.x.d + at / 32, scaled_sums + at / 16);
    }
    task.y[r] = sum.total();
  }
}

inline bool has_wide_codes(Type type) { return type == Type::kQ8_0 || type == Type::kIQ4_NL || type == Type::kIQ4_XS; }

template <class Isa>
float dot_floats(const float* w, const float* x, std::size_t n) {
  typename Isa::F sums[4] = {Isa::zero_f(), Isa::zero_f(), Isa::zero_f(), Isa::zero_f()};
  std::size_t i = 0;
  for (; i + 4 * Isa::kLanes <= n; i += 4 * Isa::kLanes)
    for (std::size_t k = 0; k < 4; ++k)
      sums[k] = Isa::fma(Isa::load_f(w + i + k * Isa::kLanes), Isa::load_f(x + i + k * Isa::kLanes), sums[k]);
  float rest = 0;
  for (; i < n; ++i) rest += w[i] * x[i];
  return Isa::sum(Isa::add(Isa::add(sums[0], sums[1]), Isa::add(sums[2], sums[3]))) + rest;
}

}  // namespace
}  // namespace attar
