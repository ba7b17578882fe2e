// Symbols: e = t - q  error of a row; g = e H  (half the negative gradient of the loss L = e H e^T).
// Moving q by d changes the loss by  d H d^T - 2 g d^T  and g by  -d H.
//
// Columns come in chunks. What a row feels in a chunk is worked out when the chunk is reached, for all rows in one matrix product: H, which
// is larger than any cache, is then read once for all of them. What moves within the chunk is felt there at once.
#include "quantize/descent.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/vector_clones.h"
#include "quantize/scale_descent.h"

namespace attar {
namespace {

constexpr std::int64_t kChunk = 256;  // columns; a block that does not divide this, such as a whole row, is a chunk of its own

constexpr int kSweeps = 8;  // over the codes of a chunk, at most: where rounding makes two codes equal, they could take turns for ever

// y -= d x
ATTAR_VECTOR_CLONES void subtract(float d, const float* x, std::int64_t n, float* y) {
  for (std::int64_t i = 0; i < n; ++i) y[i] -= d * x[i];
}

// y = v M, M (rows, n) with lines `stride` apart; four of them at a time, so that y is loaded and stored less often.
ATTAR_VECTOR_CLONES void mix(const float* v, const float* M, std::int64_t rows, std::int64_t stride, std::int64_t n, float* y) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = 0;
  std::int64_t k = 0;
  for (; k + 4 <= rows; k += 4) {
    const float *a = M + k * stride, *b = a + stride, *c = b + stride, *d = c + stride;
    for (std::int64_t i = 0; i < n; ++i) y[i] += (v[k] * a[i] + v[k + 1] * b[i]) + (v[k + 2] * c[i] + v[k + 3] * d[i]);
  }
  for (; k < rows; ++k) subtract(-v[k], M + k * stride, n, y);
}

float* line(const at::Tensor& M, std::int64_t row) { return M.data_ptr<float>() + row * M.stride(0); }

// The least that two levels are apart.
float smallest_gap(const GridInfo& grid) {
  float gap = level(grid, 1) - level(grid, 0);
  for (int code = 2; code < grid.levels; ++code) gap = std::min(gap, level(grid, code) - level(grid, code - 1));
  return gap;
}

class Descent {
 public:
  Descent(std::span<PackedRow> rows, const at::Tensor& T, const at::Tensor& H, std::span<const std::int64_t> order, const at::Tensor& A)
      : rows_(rows), count_(static_cast<std::int64_t>(rows.size())), n_(H.size(0)),
        size_(kChunk % rows.front().block_weights() == 0 ? kChunk : n_), gap_(smallest_gap(rows.front().grid())), T_(T), H_(H), A_(A),
        E_(at::empty_like(T)), orders_(static_cast<std::size_t>((n_ + size_ - 1) / size_)) {
    for (const std::int64_t column : order) orders_[static_cast<std::size_t>(column / size_)].push_back(column);
    if (A.defined()) share_ = (A / A.diagonal().unsqueeze(1)).contiguous();
    look(0, n_);
  }

  // Returns what the loss has come down by.
  double pass(bool scales) {
    double gained = 0;
    for (std::int64_t begin = 0; begin < n_; begin += size_) gained += chunk(begin, std::min(size_, n_ - begin), scales);
    return gained;
  }
  at::Tensor error() && { return std::move(E_); }

 private:
  double chunk(std::int64_t begin, std::int64_t width, bool scales) {
    const at::Tensor lines = H_.narrow(0, begin, width), own = lines.narrow(1, begin, width).contiguous();
    const at::Tensor diagonal = own.diagonal().contiguous(), G = at::mm(E_, lines.t());
    const std::optional<ScaleDescent> forms = scales ? std::optional<ScaleDescent>(std::in_place, rows_, own, begin) : std::nullopt;
    if (!A_.defined()) {
      double gained = forms ? settle(*forms, own, begin, 0, G) : 0.0;
      for (std::int64_t r = 0; r < count_; ++r) gained += codes(r, begin, own, diagonal, line(G, r));
      look(begin, width);
      return gained;
    }
    // What a row feels is the mean of all rows' gradients by its row of weights.
    const at::Tensor felt = at::empty({1, width}), before = at::empty({1, width});
    double gained = 0;
    for (std::int64_t r = 0; r < count_; ++r) {
      float *f = line(felt, 0), *was = line(before, 0), *g = line(G, r);
      mix(line(share_, r), line(G, 0), count_, width, width, f);
      std::copy_n(f, width, was);
      double now = forms ? settle(*forms, own, begin, r, felt) : 0.0;
      now += codes(r, begin, own, diagonal, f);
      for (std::int64_t j = 0; j < width; ++j) g[j] += f[j] - was[j];
      gained += now * static_cast<double>(line(A_, r)[r]);
    }
    look(begin, width);
    return gained;
  }

  // E = T - Q in these columns.
  void look(std::int64_t begin, std::int64_t width) {
    for (std::int64_t r = 0; r < count_; ++r) {
      float* e = line(E_, r) + begin;
      const float* t = line(T_, r) + begin;
      rows_[static_cast<std::size_t>(r)].values(begin, {e, static_cast<std::size_t>(width)});
      for (std::int64_t j = 0; j < width; ++j) e[j] = t[j] - e[j];
    }
  }

  // The blocks' numbers in the rows from `first` on, one for each line of g.
  double settle(const ScaleDescent& forms, const at::Tensor& own, std::int64_t begin, std::int64_t first, const at::Tensor& g) {
    const std::int64_t block = rows_.front().block_weights(), count = g.size(0);
    const at::Tensor D = at::empty({count, block});
    std::vector<float> old(static_cast<std::size_t>(block));
    double gained = 0;
    for (std::int64_t from = 0; from < own.size(0); from += block) {
      double now = 0;
      for (std::int64_t r = 0; r < count; ++r) {
        const auto at = static_cast<std::size_t>(first + r);
        float* d = line(D, r);
        rows_[at].values(begin + from, old);
        now += forms.settle(at, from, rows_[at], line(g, r) + from);
        rows_[at].values(begin + from, {d, old.size()});
        for (std::size_t j = 0; j < old.size(); ++j) d[j] -= old[j];
      }
      if (now == 0) continue;
      gained += now;
      at::Tensor all = g;
      if (count > 1)
        all.addmm_(D, own.narrow(0, from, block), 1, -1);
      else
        for (std::int64_t j = 0; j < block; ++j)
          if (line(D, 0)[j] != 0) subtract(line(D, 0)[j], line(own, from + j), own.size(0), line(g, 0));
    }
    return gained;
  }

  // With all others fixed the best q_j is the grid's value nearest to q_j + g_j / H_jj: q_j itself, unless g_j is beyond its reach.
  double codes(std::int64_t r, std::int64_t begin, const at::Tensor& own, const at::Tensor& diagonal, float* g) {
    PackedRow& row = rows_[static_cast<std::size_t>(r)];
    const float* H = diagonal.data_ptr<float>();
    const std::int64_t width = own.size(0), group = row.group_weights();
    reach_.resize(static_cast<std::size_t>(width));
    for (std::int64_t from = 0; from < width; from += group) {
      const float half = 0.49999f * gap_ * std::abs(row.scale(begin + from));  // a little less: nearest() decides what rounding can
      for (std::int64_t j = from; j < from + group; ++j) reach_[static_cast<std::size_t>(j)] = half * H[j];
    }
    double gained = 0, before = -1;
    for (int sweep = 0; sweep < kSweeps && before < gained; ++sweep) {
      before = gained;
      for (const std::int64_t column : orders_[static_cast<std::size_t>(begin / size_)]) {
        const std::int64_t j = column - begin;
        if (std::abs(g[j]) <= reach_[static_cast<std::size_t>(j)]) continue;
        const float Hjj = H[j], q = row.value(column);
        const int code = row.nearest(column, q + g[j] / Hjj);
        if (code == row.code(column)) continue;
        const float d = row.value(column, code) - q, change = d * (d * Hjj - 2.0f * g[j]);
        if (!(change < 0.0f)) continue;
        gained -= static_cast<double>(change);
        row.set_code(column, code);
        subtract(d, line(own, j), width, g);
      }
    }
    return gained;
  }

  std::span<PackedRow> rows_;
  std::int64_t count_, n_, size_;
  float gap_;
  at::Tensor T_, H_, A_, share_, E_;
  std::vector<std::vector<std::int64_t>> orders_;  // by chunk
  std::vector<float> reach_;                       // of the columns of a chunk: see codes()
};

}  // namespace

at::Tensor descend(std::span<PackedRow> rows, const at::Tensor& T, const at::Tensor& H, std::span<const std::int64_t> order,
                   const DescentOptions& options, const at::Tensor& A) {
  if (rows.empty()) return at::zeros_like(T);
  Descent descent(rows, T, H, order, A);
  double gained = 0;
  for (int pass = 0; pass < options.passes; ++pass) {
    const double now = descent.pass(pass > 0);  // codes first: nothing else has had its chance yet
    gained += now;
    if (pass > 0 && now <= options.worthwhile * gained) break;
  }
  return std::move(descent).error();
}

}  // namespace attar
