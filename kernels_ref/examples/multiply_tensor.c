/* multiply_tensor FILE.gguf TENSOR: the first products of a tensor with a vector of ones, by attar_kernels.h alone. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attar_kernels.h"

static FILE* file;

static uint64_t number(int bytes) { /* little-endian, as GGUF is */
  uint64_t value = 0;
  if (fread(&value, 1, (size_t)bytes, file) != (size_t)bytes) exit((fprintf(stderr, "the file is cut short\n"), 2));
  return value;
}
static void skip(uint64_t bytes) { fseek(file, (long)bytes, SEEK_CUR); }
static void skip_value(uint64_t type) { /* of the key-value pairs; 8: string, 9: array */
  static const int kBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  if (type == 8) skip(number(8));
  else if (type == 9) for (uint64_t of = number(4), n = number(8); n > 0; --n) skip_value(of);
  else skip(type < 13 ? (uint64_t)kBytes[type] : 0);
}

int main(int argc, char** argv) {
  if (argc != 3 || (file = fopen(argv[1], "rb")) == NULL) return fprintf(stderr, "usage: multiply_tensor FILE.gguf TENSOR\n"), 2;
  if (number(4) != 0x46554747 || number(4) != 3) return fprintf(stderr, "%s is not GGUF 3\n", argv[1]), 2;
  uint64_t tensors = number(8), pairs = number(8), columns = 0, rows = 0, offset = 0;
  int type = -1;
  for (; pairs > 0; --pairs) skip(number(8)), skip_value(number(4));
  for (; tensors > 0; --tensors) {
    char name[64] = {0};
    const uint64_t length = number(8);
    if (length >= sizeof name || fread(name, 1, length, file) != length) return fprintf(stderr, "a name is too long\n"), 2;
    uint64_t size[4] = {1, 1, 1, 1};
    for (uint64_t dims = number(4), i = 0; i < dims && i < 4; ++i) size[i] = number(8);
    const uint64_t ggml = number(4), at = number(8);
    if (strcmp(name, argv[2]) == 0)
      columns = size[0], rows = size[1] * size[2] * size[3], offset = at, type = attar_type_by_ggml_id((uint32_t)ggml);
  }
  attar_type_info info;
  size_t row_bytes;
  if (attar_type_describe(type, &info) != ATTAR_OK || attar_row_bytes(type, columns, &row_bytes) != ATTAR_OK)
    return fprintf(stderr, "%s: %s\n", argv[2], attar_kernels_last_error()), 2;
  skip((uint64_t)(-ftell(file) & 31) + offset); /* the data begins at the next multiple of general.alignment, here its default */
  void* W = malloc(row_bytes * rows);
  float *x = malloc(columns * sizeof *x), *y = malloc(rows * sizeof *y);
  if (!W || !x || !y || fread(W, 1, row_bytes * rows, file) != row_bytes * rows) return fprintf(stderr, "cannot read the tensor\n"), 2;
  for (uint64_t i = 0; i < columns; ++i) x[i] = 1.0f;
  const attar_status status = attar_gemv(type, W, row_bytes * rows, rows, columns, info.activations, x, y);
  if (status != ATTAR_OK) return fprintf(stderr, "%s: %s\n", attar_kernels_strerror(status), attar_kernels_last_error()), 2;
  printf("%s: %s, %llu x %llu\n", argv[2], info.name, (unsigned long long)rows, (unsigned long long)columns);
  for (uint64_t r = 0; r < rows && r < 4; ++r) printf("y[%d] = %.6g\n", (int)r, (double)y[r]);
  free(W), free(x), free(y), fclose(file);
  return 0;
}
