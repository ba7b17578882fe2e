// Cholesky factorisation of one large matrix, in place, on all cores and in half the memory of the matrix.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

namespace attar {

// The lower triangle of an (n, n) float64 matrix in strips of rows, each as wide as it has to be.
class Triangle {
 public:
  explicit Triangle(std::int64_t n);  // its numbers are not set
  explicit Triangle(const at::Tensor& A);  // (n, n), of any float type; above the diagonal it is not read
  std::int64_t size() const { return n_; }
  double* row(std::int64_t i);  // its i + 1 numbers

 private:
  friend bool cholesky_in_place(Triangle& A);
  friend struct UnitUpper unit_upper(Triangle L);
  at::Tensor tile(std::int64_t i, std::int64_t j) const;

  std::int64_t n_;
  std::vector<at::Tensor> strips_;
};

// A is symmetric. On success it becomes L, A = L L^T. Returns false, with A in ruins, if A is not positive definite. The same result
// at any number of threads, as long as LibTorch uses one (OneTorchThread).
bool cholesky_in_place(Triangle& A);

// H = U D^2 U^T, U unit upper triangular, D diagonal.
struct UnitUpper {
  at::Tensor U;  // (n, n) float32
  at::Tensor D;  // (n) float32
};
// L: what cholesky_in_place makes of H with rows and columns in reverse. Its memory is given back while U fills.
UnitUpper unit_upper(Triangle L);

// B: (rows, n) float32. Returns B H^-1.
at::Tensor divide(const at::Tensor& B, const UnitUpper& H);

}  // namespace attar
