#include "quantize/products.h"

#include <algorithm>
#include <functional>

#include "base/threads.h"
#include "quantize/tensors.h"

namespace attar {
namespace {

// Rows of a product per parallel step: few enough for all threads, many enough for BLAS, and the same at any number of threads.
std::int64_t tile_of(std::int64_t rows) { return std::clamp<std::int64_t>(rows / 8, 128, 512); }

void for_each_tile(std::int64_t rows, const std::function<void(std::int64_t begin, std::int64_t width)>& work) {
  const std::int64_t step = tile_of(rows);
  parallel_for((rows + step - 1) / step, [&](std::int64_t tile) {
    const at::NoGradGuard no_grad;
    work(tile * step, std::min(step, rows - tile * step));
  });
}

}  // namespace

at::Tensor product(const at::Tensor& A, const at::Tensor& B) {
  at::Tensor C = at::empty({A.size(0), B.size(1)}, A.options());
  for_each_tile(A.size(0), [&](std::int64_t begin, std::int64_t width) {
    at::Tensor part = C.narrow(0, begin, width);
    at::mm_out(part, A.narrow(0, begin, width), B);
  });
  return C;
}

void add_products(const at::Tensor& A, const at::Tensor& B, bool symmetric, at::Tensor& sum) {
  for_each_tile(A.size(1), [&](std::int64_t begin, std::int64_t width) {
    const std::int64_t columns = B.size(1), from = symmetric ? begin : 0;
    at::Tensor part = sum.narrow(0, begin, width).narrow(1, from, columns - from);
    part.addmm_(A.narrow(1, begin, width).t(), B.narrow(1, from, columns - from));
  });
}

void subtract_product(const at::Tensor& A, const at::Tensor& B, at::Tensor& sum) {
  for_each_tile(A.size(0), [&](std::int64_t begin, std::int64_t width) {
    at::Tensor part = sum.narrow(0, begin, width);
    part.addmm_(A.narrow(0, begin, width), B, 1, -1);
  });
}

double quadratic_form(const at::Tensor& E, const at::Tensor& H) {
  constexpr std::int64_t kStep = 512;
  const std::int64_t n = H.size(0);
  double sum = 0;
  for (std::int64_t begin = 0; begin < n; begin += kStep) {
    // The tile on the diagonal counts once, what is to its right twice.
    const std::int64_t width = std::min(kStep, n - begin), rest = n - begin - width;
    const at::Tensor part = at::mm(E.narrow(1, begin, width), H.narrow(0, begin, width).narrow(1, begin, n - begin)).mul_(E.narrow(1, begin, n - begin));
    sum += total(part.narrow(1, 0, width));
    if (rest > 0) sum += 2.0 * total(part.narrow(1, width, rest));
  }
  return sum;
}

void mirror(at::Tensor& sum) {
  const std::int64_t n = sum.size(0);
  float* values = sum.data_ptr<float>();
  parallel_for(n, [&](std::int64_t i) {
    for (std::int64_t j = 0; j < i; ++j) values[i * n + j] = values[j * n + i];
  });
}

}  // namespace attar
