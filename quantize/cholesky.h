// Cholesky factorisation of one large matrix, in place and on all cores.
#pragma once

#include <ATen/ATen.h>

namespace attar {

// A: (n, n) float64, contiguous, symmetric; only its lower triangle is read. On success that triangle holds L, A = L L^T; what is
// above it is left as it was. Returns false, with A in ruins, if A is not positive definite. The same result at any number of
// threads, as long as LibTorch uses one (OneTorchThread).
bool cholesky_in_place(at::Tensor& A);

// B: (rows, n), of the type of L. Returns B (L L^T)^-1.
at::Tensor cholesky_divide(const at::Tensor& B, const at::Tensor& L);

}  // namespace attar
