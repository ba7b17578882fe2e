// Products of large matrices on all threads: tiles that do not depend on the threads, so that results do not either, as long as LibTorch uses
// one for each (OneTorchThread).
#pragma once

#include <ATen/ATen.h>

namespace attar {

// A B: (rows, k) times (k, columns), of one type.
at::Tensor product(const at::Tensor& A, const at::Tensor& B);
// sum_i A_i^T B_i over rows i of A and B, added to `sum`. symmetric: A is B, and only the upper blocks are computed; see mirror().
void add_products(const at::Tensor& A, const at::Tensor& B, bool symmetric, at::Tensor& sum);
// sum -= A B
void subtract_product(const at::Tensor& A, const at::Tensor& B, at::Tensor& sum);
// sum of e H e^T over the rows e of E. E: (rows, n), H: (n, n) symmetric, both float32, contiguous. Half the work of E H; on one thread.
double quadratic_form(const at::Tensor& E, const at::Tensor& H);
// What is above the diagonal also below it; sum (n, n) float32, contiguous.
void mirror(at::Tensor& sum);

}  // namespace attar
