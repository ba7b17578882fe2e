// Right-looking and by tiles (Golub and Van Loan, Matrix Computations, section 4.2): factor a tile on the diagonal, divide the
// tiles under it by that factor, subtract their products from all that is to the right. LAPACK by way of LibTorch would do the
// same on copies, of which an 11008 x 11008 matrix makes 1 GB each.
#include "quantize/cholesky.h"

#include <algorithm>
#include <tuple>

#include "base/threads.h"

namespace attar {
namespace {
constexpr std::int64_t kTile = 256;
}

Triangle::Triangle(std::int64_t n) : n_(n) {
  for (std::int64_t begin = 0; begin < n; begin += kTile) {
    const std::int64_t end = std::min(begin + kTile, n);
    strips_.push_back(at::empty({end - begin, end}, at::kDouble));
  }
}

Triangle::Triangle(const at::Tensor& A) : Triangle(A.size(0)) {
  for (std::size_t s = 0; s < strips_.size(); ++s)
    strips_[s].copy_(A.narrow(0, static_cast<std::int64_t>(s) * kTile, strips_[s].size(0)).narrow(1, 0, strips_[s].size(1)));
}

double* Triangle::row(std::int64_t i) {
  const at::Tensor& strip = strips_[static_cast<std::size_t>(i / kTile)];
  return strip.data_ptr<double>() + i % kTile * strip.size(1);
}

at::Tensor Triangle::tile(std::int64_t i, std::int64_t j) const {
  return strips_[static_cast<std::size_t>(i)].narrow(1, j * kTile, std::min(kTile, n_ - j * kTile));
}

bool cholesky_in_place(Triangle& A) {
  const auto tiles = static_cast<std::int64_t>(A.strips_.size());
  for (std::int64_t k = 0; k < tiles; ++k) {
    at::Tensor diagonal = A.tile(k, k);
    const auto [L, failed] = at::linalg_cholesky_ex(diagonal);
    if (failed.item<int>() != 0) return false;
    diagonal.copy_(L);
    const at::Tensor upper = L.t();
    parallel_for(tiles - k - 1, [&, k](std::int64_t step) {
      const at::NoGradGuard no_grad;
      at::Tensor under = A.tile(k + 1 + step, k);
      under.copy_(at::linalg_solve_triangular(upper, under, /*upper=*/true, /*left=*/false));
    });
    parallel_for(tiles - k - 1, [&, k](std::int64_t step) {
      const at::NoGradGuard no_grad;
      const std::int64_t i = tiles - 1 - step;  // the longest rows first
      for (std::int64_t j = k + 1; j <= i; ++j) A.tile(i, j).addmm_(A.tile(i, k), A.tile(j, k).t(), 1, -1);
    });
  }
  return true;
}

// H reversed is L L^T, so H = V V^T with V_ij = L_(n-1-i)(n-1-j): the same numbers from the last to the first. U = V D^-1.
UnitUpper unit_upper(Triangle L) {
  const std::int64_t n = L.size();
  const at::Tensor U = at::empty({n, n}, at::kFloat), D = at::empty({n}, at::kFloat);
  float *u = U.data_ptr<float>(), *d = D.data_ptr<float>();
  for (std::int64_t j = 0; j < n; ++j) d[j] = static_cast<float>(L.row(n - 1 - j)[n - 1 - j]);
  for (; !L.strips_.empty(); L.strips_.pop_back()) {  // the longest rows first
    const std::int64_t begin = static_cast<std::int64_t>(L.strips_.size() - 1) * kTile, end = begin + L.strips_.back().size(0);
    parallel_for(end - begin, [&](std::int64_t step) {
      const std::int64_t row = begin + step, i = n - 1 - row;
      const double* from = L.row(row);
      std::fill(u + i * n, u + i * n + i, 0.0f);
      for (std::int64_t j = i; j < n; ++j) u[i * n + j] = static_cast<float>(from[n - 1 - j]) / d[j];
    });
  }
  return {U, D};
}

at::Tensor divide(const at::Tensor& B, const UnitUpper& H) {
  const at::Tensor half = at::linalg_solve_triangular(H.U.t(), B, /*upper=*/false, /*left=*/false, /*unitriangular=*/true);
  return at::linalg_solve_triangular(H.U, half / H.D.square(), /*upper=*/true, /*left=*/false, /*unitriangular=*/true);
}

}  // namespace attar
