// Cholesky factorisation of one large matrix, in place and on all cores.
#pragma once

#include <ATen/ATen.h>

namespace attar {

// A: (n, n) float64, contiguous, symmetric; only its lower triangle is read. On success that triangle holds L, A = L L^T; what is
// above it is left as it was. Returns false, with A in ruins, if A is not positive definite. The same result at any number of
// threads, as long as LibTorch uses one (OneTorchThread).
bool cholesky_in_place(at::Tensor& A);

// H = U D^2 U^T, U unit upper triangular, D diagonal.
struct UnitUpper {
  at::Tensor U;  // (n, n) float32
  at::Tensor D;  // (n) float32
};
// L: what cholesky_in_place makes of H with rows and columns in reverse. Consumed: U takes its memory.
UnitUpper unit_upper(at::Tensor L);

// B: (rows, n) float32. Returns B H^-1.
at::Tensor divide(const at::Tensor& B, const UnitUpper& H);

}  // namespace attar
