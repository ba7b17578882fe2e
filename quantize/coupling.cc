// Symbols: row i of E is e_i. While all other rows stay, the loss in row i is
//   A_ii e_i H e_i^T + 2 sum_{k != i} A_ik e_k H e_i^T,   A_ii = 1 + |v_i|^2,   sum_k A_ik e_k H = (G + V V^T G)_i
// up to a constant, which is A_ii times the loss that descent.h knows, with (G + V (V^T G))_i / A_ii in place of its gradient. Rows that move
// at the same time would overshoot together; with D_i = sum_k |A_ik| over these rows in place of A_ii each of them lowers an upper bound of the
// loss that touches it where they stand (A <= D on them, Gershgorin), so the loss falls whatever they do.
#include "quantize/coupling.h"

#include <algorithm>

#include "base/console.h"
#include "base/threads.h"
#include "quantize/descent.h"

namespace attar {
namespace {

constexpr std::int64_t kTogether = 16;  // rows that move at the same time, far from each other; fixed, as is
constexpr std::int64_t kRows = 4;       // how many of them one thread takes at a time, so that sums do not depend on the threads
constexpr int kPasses = 3;              // of descent in a row before the others are looked at again
constexpr double kWorthwhile = 1e-3;

}  // namespace

void descend_coupled(QuantizedTensor& Q, at::Tensor& E, at::Tensor& G, const at::Tensor& V, const Curvature& curvature, int sweeps) {
  const at::NoGradGuard no_grad;
  const std::int64_t rows = Q.rows(), columns = Q.columns(), stride = (rows + kTogether - 1) / kTogether;
  const auto row_size = static_cast<std::size_t>(row_bytes(Q.type, static_cast<std::uint64_t>(columns)));
  at::Tensor S = at::mm(V.t(), G);  // (rank, columns)
  const auto loss = [&] { return (E * (G + at::mm(V, S))).sum(at::kDouble).item<double>(); };
  double before = loss();
  for (int sweep = 0; sweep < sweeps; ++sweep) {
    for (std::int64_t first = 0; first < stride; ++first) {
      check_interrupt();
      std::vector<std::int64_t> together;
      for (std::int64_t r = first; r < rows; r += stride) together.push_back(r);
      const auto count = static_cast<std::int64_t>(together.size());
      const at::Tensor at_rows = torch::tensor(together);
      const at::Tensor own = V.index_select(0, at_rows), inverse = 1.0 / (1.0 + at::mm(own, own.t()).abs().sum(1));  // 1 / D_i
      at::Tensor moved = at::empty({count, columns});  // (what the rows change by) H
      parallel_for((count + kRows - 1) / kRows, [&](std::int64_t step) {
        const at::NoGradGuard no_grad_here;
        const std::int64_t begin = step * kRows, width = std::min(kRows, count - begin);
        const at::Tensor I = at_rows.narrow(0, begin, width);
        at::Tensor g = (G.index_select(0, I) + at::mm(own.narrow(0, begin, width), S)).mul_(inverse.narrow(0, begin, width).unsqueeze(1));
        moved.narrow(0, begin, width).copy_(g);
        std::vector<PackedRow> packed;
        const auto bytes = [&](std::int64_t k) {
          const auto r = static_cast<std::size_t>(together[static_cast<std::size_t>(begin + k)]);
          return std::span(Q.bytes).subspan(r * row_size, row_size);
        };
        for (std::int64_t k = 0; k < width; ++k) packed.emplace_back(Q.type, bytes(k), columns);
        at::Tensor change = at::empty({width, columns});
        float* d = change.data_ptr<float>();
        for (std::int64_t i = 0; i < width * columns; ++i) d[i] = packed[static_cast<std::size_t>(i / columns)].value(i % columns);
        descend(packed, curvature.H, g, curvature.order, kPasses);
        for (std::int64_t i = 0; i < width * columns; ++i) d[i] -= packed[static_cast<std::size_t>(i / columns)].value(i % columns);
        for (std::int64_t k = 0; k < width; ++k) {
          packed[static_cast<std::size_t>(k)].write(bytes(k));
          E[together[static_cast<std::size_t>(begin + k)]].add_(change[k]);
        }
        moved.narrow(0, begin, width).sub_(g);
      });
      G.index_add_(0, at_rows, moved, -1);
      S.sub_(at::mm(own.t(), moved));
    }
    const double after = loss();
    if (!(after < (1 - kWorthwhile) * before)) break;
    before = after;
  }
}

}  // namespace attar
