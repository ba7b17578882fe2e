// Symbols, after the paper where it has one:
//   V  (rows, columns)  in (-1/2, 1/2), in steps of the grid: q = nearest(w + step V)
//   a  (rows, blocks)   relative change of each stored scale: d = d_0 (1 + a), rounded to 16 bits; the same of dmin
// Gradients pass through the rounding as if it were not there (straight through), and only their signs count.
#include "quantize/autoround.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/half.h"
#include "base/random.h"
#include "base/threads.h"
#include "quantize/packed_row.h"
#include "quantize/tensors.h"

namespace attar {
namespace {

constexpr float kScaleRate = 0.2f;  // of the rate of V

float sign(float x) { return x > 0 ? 1.0f : x < 0 ? -1.0f : 0.0f; }

class Rounding {
 public:
  Rounding(const QuantizedTensor& Q, const at::Tensor& W) : Q_(Q), base_(W.clone()), V_(at::zeros_like(W)), values_(at::empty_like(W)) {
    const std::int64_t columns = Q_.columns();
    rows_.reserve(static_cast<std::size_t>(Q_.rows()));
    for (std::int64_t r = 0; r < Q_.rows(); ++r) {
      rows_.emplace_back(Q_.type, bytes(r), columns);
      start_.emplace_back(rows_.back().blocks().begin(), rows_.back().blocks().end());
      change_.emplace_back(start_.back().size());
    }
  }

  // (rows, columns): what scales and codes give as they are now.
  const at::Tensor& decode() {
    each_row([&](std::size_t r, const float* w, const float* V, float* q) {
      PackedRow& row = rows_[r];
      for (std::size_t b = 0; b < start_[r].size(); ++b) {
        BlockScales scales = start_[r][b];
        scales.d = round_to_f16(scales.d * (1 + change_[r][b].d));
        scales.dmin = round_to_f16(scales.dmin * (1 + change_[r][b].dmin));
        row.set_block(static_cast<std::int64_t>(b), scales);
      }
      for (std::int64_t j = 0; j < row.columns(); ++j) {
        row.set_code(j, row.nearest(j, w[j] + V[j] * step(row, j)));
        q[j] = row.value(j);
      }
    });
    return values_;
  }

  // G (rows, columns): gradient with respect to what decode() gave.
  void move(const at::Tensor& G, double rate) {
    const float *gradient = G.data_ptr<float>(), by = static_cast<float>(rate);
    each_row([&](std::size_t r, const float*, float* V, const float* q) {
      const PackedRow& row = rows_[r];
      const float* g = gradient + static_cast<std::int64_t>(r) * row.columns();
      for (std::size_t b = 0; b < change_[r].size(); ++b) {
        const std::int64_t begin = static_cast<std::int64_t>(b) * row.block_weights(), end = begin + row.block_weights();
        double d = 0, dmin = 0;
        for (std::int64_t j = begin; j < end; ++j) {
          d += static_cast<double>(g[j]) * (q[j] - row.offset(j));
          dmin += static_cast<double>(g[j]) * row.offset(j);
        }
        change_[r][b].d -= kScaleRate * by * sign(static_cast<float>(d));
        change_[r][b].dmin -= kScaleRate * by * sign(static_cast<float>(dmin));
      }
      for (std::int64_t j = 0; j < row.columns(); ++j) V[j] = std::clamp(V[j] - by * sign(g[j]), -0.5f, 0.5f);
    });
  }

  QuantizedTensor result() {
    QuantizedTensor Q = Q_;
    const std::size_t stride = row_bytes(Q.type, static_cast<std::uint64_t>(Q.columns()));
    for (std::size_t r = 0; r < rows_.size(); ++r) rows_[r].write(std::span(Q.bytes).subspan(r * stride, stride));
    return Q;
  }

 private:
  struct Change {
    float d = 0, dmin = 0;
  };
  ByteView bytes(std::int64_t row) const {
    const std::size_t stride = row_bytes(Q_.type, static_cast<std::uint64_t>(Q_.columns()));
    return ByteView(Q_.bytes).subspan(static_cast<std::size_t>(row) * stride, stride);
  }
  static float step(const PackedRow& row, std::int64_t column) {
    const GridInfo& grid = row.grid();
    return std::abs(row.scale(column)) * (level(grid, grid.levels - 1) - level(grid, 0)) / static_cast<float>(grid.levels - 1);
  }
  template <class Work>
  void each_row(const Work& work) {
    const std::int64_t columns = Q_.columns();
    parallel_for(Q_.rows(), [&](std::int64_t r) {
      work(static_cast<std::size_t>(r), base_.data_ptr<float>() + r * columns, V_.data_ptr<float>() + r * columns,
           values_.data_ptr<float>() + r * columns);
    });
  }

  const QuantizedTensor& Q_;
  at::Tensor base_, V_, values_;
  std::vector<PackedRow> rows_;
  std::vector<std::vector<BlockScales>> start_;
  std::vector<std::vector<Change>> change_;
};

}  // namespace

AutoRoundResult autoround(Streams& streams, const std::map<std::string, at::Tensor>& W, std::map<std::string, QuantizedTensor>& Q,
                          const at::Tensor& A, const AutoRoundOptions& options, std::uint64_t seed) {
  std::vector<std::size_t> all(streams.chunk_count());
  std::iota(all.begin(), all.end(), 0);
  std::map<std::string, at::Tensor> none, gradients, before;
  AutoRoundResult result;
  result.before = streams.error(all, A, none);
  std::map<std::string, Rounding> roundings;
  for (const auto& [name, q] : Q) {
    roundings.emplace(std::piecewise_construct, std::forward_as_tuple(name), std::forward_as_tuple(q, W.at(name)));
    gradients.emplace(name, at::empty_like(W.at(name)));
    before.emplace(name, decoded(q));
  }
  Random random(seed);
  for (int step = 0; step <= options.steps; ++step) {
    for (auto& [name, rounding] : roundings) streams.replace(name, rounding.decode());
    if (step == options.steps) break;
    std::vector<std::size_t> batch;
    for (std::int64_t i = 0; i < options.batch; ++i) batch.push_back(random.below(all.size()));
    for (auto& [name, G] : gradients) G.zero_();
    streams.error(batch, A, gradients);
    const double rate = options.rate * (1 - static_cast<double>(step) / options.steps);
    for (auto& [name, rounding] : roundings) rounding.move(gradients.at(name), rate);
  }
  result.after = streams.error(all, A, none);
  if (result.after < result.before) {
    for (auto& [name, rounding] : roundings) Q.at(name) = rounding.result();
  } else {
    result.after = result.before;
    for (auto& [name, values] : before) streams.replace(name, values);
  }
  return result;
}

}  // namespace attar
