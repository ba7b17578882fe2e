// Products of packed matrices with activations, as fast as this processor can.
//
// The integers are those of dot.h; only the order in which floats are added depends on the variant. Results do not depend on
// the number of threads.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kernels_ref/activations.h"

namespace attar {

struct Matrix {
  Type type;
  ByteView bytes;             // rows one after the other
  std::size_t rows, columns;  // out_features, in_features
};
// Throws Error if the bytes are not those of rows * columns weights.
void check_matrix(const Matrix& W);

// Y: (x.tokens(), W.rows). x: vectors of W.columns, rounded in a way that the type takes.
void multiply(const Matrix& W, const Activations& x, Span<float> Y);

struct Product {
  Matrix W;
  const Activations* x;
  Span<float> Y;
};
// Several at once, none of which reads another's Y. With few tokens the threads share them all out together: small matrices alone
// would have them wait for each other.
void multiply(Span<const Product> products);

// Rounds and multiplies a vector: y[r] = row r . x.
void matvec(Type type, ByteView weights, std::int64_t rows, Span<const float> x, Span<float> y);

// What the products above run on: the first of the table that this processor can, or the one that the environment names
// (ATTAR_KERNELS=reference, avx2, neon, ...). Throws Error for a name that does not exist or does not run here.
const char* kernel_variant();
void select_kernel_variant(std::string_view name);
std::vector<std::string> kernel_variants();  // those that run here, best first

}  // namespace attar
