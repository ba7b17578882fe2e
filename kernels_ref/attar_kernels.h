/* Attar's block formats and kernels for C: what the bytes of quantized weights mean, and products with them.
 *
 * Weights lie in rows, a row is a sequence of blocks, and a matrix its rows one after the other; docs/formats describes every
 * byte. Functions return ATTAR_OK or one of the codes below and never throw. They may be called from several threads at once;
 * attar_gemv and attar_gemm spread over threads themselves, and their results do not depend on how many there are. */
#ifndef ATTAR_KERNELS_H
#define ATTAR_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum attar_status {
  ATTAR_OK = 0,
  ATTAR_NULL_POINTER,   /* a pointer that must not be null is */
  ATTAR_UNKNOWN_TYPE,   /* not a type of the table */
  ATTAR_NOT_WHOLE_BLOCKS, /* weights do not divide into blocks of the type */
  ATTAR_WRONG_SIZE,     /* a buffer is not as long as its contents */
  ATTAR_BAD_VALUE,      /* NaN, infinity, or too large for the type's scale */
  ATTAR_DECODE_ONLY,    /* the type cannot be encoded */
  ATTAR_BAD_ACTIVATIONS, /* the type does not take activations of this kind */
  ATTAR_UNKNOWN_VARIANT, /* no such variant, or this processor cannot run it */
  ATTAR_OUT_OF_MEMORY
} attar_status;

const char* attar_kernels_strerror(attar_status status); /* never null */
/* What the last call of this thread that failed found and expected, in words; "" if none failed. */
const char* attar_kernels_last_error(void);

/* --- types --------------------------------------------------------------------------------------------------------- */

/* How activations are rounded: q = x / d to the nearest integer in -127 .. 127, d = max |x| / 127 of the values that share it. */
typedef enum attar_activations {
  ATTAR_ACTIVATIONS_F32 = 0, /* not at all */
  ATTAR_ACTIVATIONS_Q8_0,    /* 32 values share d, an f16: ggml's block_q8_0 */
  ATTAR_ACTIVATIONS_Q8_K,    /* 256 values share d, a float: ggml's block_q8_K, with sums of 16 */
  ATTAR_ACTIVATIONS_INT8_ROW /* all share d: a float, then the int8 values */
} attar_activations;

typedef struct attar_type_info {
  const char* name;       /* "q4_k" */
  int32_t ggml_id;        /* enum ggml_type; -1: ggml does not have it */
  uint32_t block_weights; /* a row's length must be a multiple of this */
  uint32_t block_bytes;
  int quantized;          /* 0: a plain number type, such as "f16" */
  int encodable;          /* 0: attar_encode_row answers ATTAR_DECODE_ONLY */
  attar_activations activations; /* what ggml's CPU kernels round activations to for it; F32 is always possible */
} attar_type_info;

/* Types are numbered from 0 to attar_type_count() - 1. Numbers may change between versions, names do not. */
int attar_type_count(void);
attar_status attar_type_describe(int type, attar_type_info* info);
int attar_type_by_name(const char* name);      /* -1: none; case does not matter */
int attar_type_by_ggml_id(uint32_t ggml_id);   /* -1: none */
attar_status attar_row_bytes(int type, size_t weights, size_t* bytes);

/* --- rows ---------------------------------------------------------------------------------------------------------- */

/* importance: null, or one non-negative number per weight, such as the mean square of the activation it meets. */
attar_status attar_encode_row(int type, const float* weights, const float* importance, size_t count, void* row, size_t row_bytes);
attar_status attar_decode_row(int type, const void* row, size_t row_bytes, float* weights, size_t count);

attar_status attar_activations_bytes(attar_activations kind, size_t count, size_t* bytes);
attar_status attar_encode_activations(attar_activations kind, const float* x, size_t count, void* out, size_t out_bytes);
/* The product by the reference: integers exact within a block, blocks added in order in float. */
attar_status attar_dot(int type, const void* row, size_t row_bytes, attar_activations kind, const void* activations,
                       size_t activations_bytes, size_t count, float* result);

/* --- matrices ------------------------------------------------------------------------------------------------------ */

/* y[r] = row r . x. W: rows x columns weights, W_bytes long. x: columns floats, rounded as `kind` says before they are multiplied. */
attar_status attar_gemv(int type, const void* W, size_t W_bytes, size_t rows, size_t columns, attar_activations kind,
                        const float* x, float* y);
/* The same for `tokens` vectors: X (tokens, columns), Y (tokens, rows), row-major. */
attar_status attar_gemm(int type, const void* W, size_t W_bytes, size_t rows, size_t columns, attar_activations kind,
                        const float* X, size_t tokens, float* Y);

/* The variant that products run on: the fastest of the processor, or what the environment variable ATTAR_KERNELS names. */
attar_status attar_kernels_variant(const char** name);
attar_status attar_kernels_select(const char* name); /* "reference", "avx2", "neon", ...: docs/kernels.md lists them */
void attar_kernels_set_threads(int threads);         /* 0: as many as the machine has */

#ifdef __cplusplus
}
#endif
#endif
