// Right-looking and by tiles (Golub and Van Loan, Matrix Computations, section 4.2): factor a tile on the diagonal, divide the
// tiles under it by that factor, subtract their products from all that is to the right. LAPACK by way of LibTorch would do the
// same on copies, of which an 11008 x 11008 matrix makes 1 GB each.
#include "quantize/cholesky.h"

#include <algorithm>
#include <cstring>
#include <tuple>

#include "base/threads.h"

namespace attar {
namespace {
constexpr std::int64_t kTile = 256;
}

bool cholesky_in_place(at::Tensor& A) {
  const std::int64_t n = A.size(0), tiles = (n + kTile - 1) / kTile;
  const auto tile = [&](std::int64_t i, std::int64_t j) {
    return A.narrow(0, i * kTile, std::min(kTile, n - i * kTile)).narrow(1, j * kTile, std::min(kTile, n - j * kTile));
  };
  for (std::int64_t k = 0; k < tiles; ++k) {
    at::Tensor diagonal = tile(k, k);
    const auto [L, failed] = at::linalg_cholesky_ex(diagonal);
    if (failed.item<int>() != 0) return false;
    diagonal.copy_(L);
    const at::Tensor upper = L.t();
    parallel_for(tiles - k - 1, [&, k](std::int64_t step) {
      const at::NoGradGuard no_grad;
      at::Tensor under = tile(k + 1 + step, k);
      under.copy_(at::linalg_solve_triangular(upper, under, /*upper=*/true, /*left=*/false));
    });
    parallel_for(tiles - k - 1, [&, k](std::int64_t step) {
      const at::NoGradGuard no_grad;
      const std::int64_t i = tiles - 1 - step;  // the longest rows first
      const std::int64_t width = std::min((i + 1) * kTile, n) - (k + 1) * kTile;
      A.narrow(0, i * kTile, std::min(kTile, n - i * kTile)).narrow(1, (k + 1) * kTile, width)
          .addmm_(tile(i, k), A.narrow(0, (k + 1) * kTile, width).narrow(1, k * kTile, tile(k, k).size(1)).t(), 1, -1);
    });
  }
  return true;
}

// H reversed is L L^T, so H = V V^T with V_ij = L_(n-1-i)(n-1-j): the same numbers from the last to the first. U = V D^-1.
UnitUpper unit_upper(at::Tensor L) {
  const std::int64_t n = L.size(0);
  // A float lies at or before the double that it is made of, and by memcpy none is taken for the other.
  auto* bytes = static_cast<std::byte*>(L.data_ptr());
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < n; ++j) {
      double value = 0;
      if (j <= i) std::memcpy(&value, bytes + (i * n + j) * 8, 8);
      const auto rounded = static_cast<float>(value);
      std::memcpy(bytes + (i * n + j) * 4, &rounded, 4);
    }
  const at::Tensor U = L.view(at::kFloat).flatten().narrow(0, 0, n * n).view({n, n});
  float* u = U.data_ptr<float>();
  std::reverse(u, u + n * n);
  const at::Tensor D = U.diagonal().clone();
  const float* d = D.data_ptr<float>();
  parallel_for(n, [&](std::int64_t i) {
    for (std::int64_t j = i; j < n; ++j) u[i * n + j] /= d[j];
  });
  return {U, D};
}

at::Tensor divide(const at::Tensor& B, const UnitUpper& H) {
  const at::Tensor half = at::linalg_solve_triangular(H.U.t(), B, /*upper=*/false, /*left=*/false, /*unitriangular=*/true);
  return at::linalg_solve_triangular(H.U, half / H.D.square(), /*upper=*/true, /*left=*/false, /*unitriangular=*/true);
}

}  // namespace attar
