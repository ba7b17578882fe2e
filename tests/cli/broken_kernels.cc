// attar_kernels.h with one mistake, which the environment variable ATTAR_BREAK chooses. kernels_ref/attar_kernels.cc is
// compiled into the same library with these functions renamed.
#include <cstdlib>
#include <cstring>

#include "kernels_ref/attar_kernels.h"

extern "C" {

attar_status honest_decode_row(int type, const void* row, size_t row_bytes, float* weights, size_t count);
attar_status honest_dot(int type, const void* row, size_t row_bytes, attar_activations kind, const void* activations,
                        size_t activations_bytes, size_t count, float* result);
attar_status honest_gemm(int type, const void* W, size_t W_bytes, size_t rows, size_t columns, attar_activations kind,
                         const float* X, size_t tokens, float* Y);

static bool broken(const char* what) {
  const char* chosen = std::getenv("ATTAR_BREAK");
  return chosen != nullptr && std::strcmp(chosen, what) == 0;
}

// The sixth weight of every row of q4_0 is a little too large.
attar_status attar_decode_row(int type, const void* row, size_t row_bytes, float* weights, size_t count) {
  const attar_status status = honest_decode_row(type, row, row_bytes, weights, count);
  if (status == ATTAR_OK && broken("decode") && type == attar_type_by_name("q4_0")) weights[5] += 1;
  return status;
}

attar_status attar_dot(int type, const void* row, size_t row_bytes, attar_activations kind, const void* activations,
                       size_t activations_bytes, size_t count, float* result) {
  if (broken("refuse") && type == attar_type_by_name("q5_1")) return ATTAR_UNKNOWN_TYPE;
  return honest_dot(type, row, row_bytes, kind, activations, activations_bytes, count, result);
}

// The code of the first weight of the last row but one of q4_k is off by one.
attar_status attar_gemm(int type, const void* W, size_t W_bytes, size_t rows, size_t columns, attar_activations kind,
                        const float* X, size_t tokens, float* Y) {
  if (!broken("gemm") || type != attar_type_by_name("q4_k"))
    return honest_gemm(type, W, W_bytes, rows, columns, kind, X, tokens, Y);
  auto* const copy = static_cast<unsigned char*>(std::malloc(W_bytes));
  std::memcpy(copy, W, W_bytes);
  copy[(rows - 2) * (W_bytes / rows) + 16] ^= 1;
  const attar_status status = honest_gemm(type, copy, W_bytes, rows, columns, kind, X, tokens, Y);
  std::free(copy);
  return status;
}

}  // extern "C"
