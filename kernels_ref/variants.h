// The one table of implementations: the reference and what is faster on some processors. Internal to this folder.
//
// simd/*.cc are compiled for instructions that the machine may lack. So they must not bring out anything that the linker could
// give to the rest of the program, such as an inline function or a template of the standard library: all they use is their own
// or passed to them here.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels_ref/activations.h"
#include "kernels_ref/chunk.h"

namespace attar {

// y[r] = row r of the weights . x, for rows that lie `stride` bytes apart.
struct RowsTask {
  Type type;
  const std::byte* weights;
  std::size_t stride, rows, columns;
  RoundedVector x;  // readable for 256 values past its end
  float* y;
  Unpack unpack;
  std::byte* scratch;  // scratch_bytes(columns), aligned to 64
};
inline constexpr std::size_t scratch_bytes(std::size_t columns) { return 4 * columns + 2048; }

// y[t * y_stride + r] = row r of a panel . token t. The panel holds 16 rows repacked: the codes of four weights of each row
// side by side, and per group of `group` weights 16 scales, and 16 offsets if the type has them.
struct PanelTask {
  const std::uint8_t* codes;    // (columns / 4, 16, 4)
  const float *scale, *offset;  // (columns / group, 16); offset is nullptr where zero is a code, which `start` then makes up for
  int group;                    // 16 or 32
  bool wide;                    // there are codes above 127
  std::size_t columns, tokens;
  // Tokens in tiles of Variant::tile side by side, zeros after the last one.
  const std::int8_t* q;         // (tiles, columns / 4, tile, 4)
  const float* d;               // (tiles, columns / 32, tile)
  const float* sums;            // (tiles, columns / group, tile): sums of q, if there are offsets
  const std::int32_t* start;    // the same times minus the code of zero, if there are none: what sums of products start from
  float* y;
  std::size_t y_stride, rows;   // how many of the 16 rows are wanted
};
inline constexpr std::size_t kPanelRows = 16;

// Attention of queries whose heads share keys and values:
// out[i] = sum_k softmax_k(q[i] . key k) value k, over keys first[i] .. last[i] - 1.
inline constexpr std::size_t kAttentionQueries = 8, kAttentionKeys = 64;
struct AttentionTask {
  std::size_t queries;          // at most kAttentionQueries
  const float* q[kAttentionQueries];
  bool halves;                  // keys and values: std::uint16_t that are f16, or float
  const void* keys;             // (keys / kAttentionKeys, head_dim, kAttentionKeys): a dimension of many keys side by side; what pads
                                // the last of them is ignored
  const void* values;           // (keys, head_dim)
  std::size_t head_dim;
  std::size_t first[kAttentionQueries], last[kAttentionQueries];
  float softcap;                // scores become softcap * tanh(scores / softcap); 0: no cap
  float* scores;                // scratch: (queries, largest of last up to a multiple of kAttentionKeys)
  float* out[kAttentionQueries];
};
// Where dimension j of key k is among keys. width: dimensions of a key. With internal linkage: see above.
static inline std::size_t place_of_key(std::size_t k, std::size_t j, std::size_t width) {
  return (k / kAttentionKeys * width + j) * kAttentionKeys + k % kAttentionKeys;
}

struct Variant {
  const char* name;
  std::size_t tile;  // tokens that `panel` takes together
  void (*rows)(const RowsTask& task);
  void (*panel)(const PanelTask& task);
  Unpack (*unpack)(Type type);  // unpack_of, or something faster that gives the same
  // Codes of kPanelRows rows that lie `stride` bytes apart, to those of a panel. weights: a multiple of 32.
  void (*interleave)(const std::uint8_t* codes, std::size_t stride, std::size_t weights, std::uint8_t* out);
  float (*dot)(const float* w, const float* x, std::size_t n);
  void (*attention)(const AttentionTask& task);
  void (*widen)(const std::uint16_t* half, std::size_t n, float* out);  // f16 to float
};

extern const Variant kReference;
#if defined(__x86_64__)
extern const Variant kAvx2, kAvx512, kAvx512Vnni;
#elif defined(__aarch64__)
extern const Variant kNeon, kNeonDotprod, kNeonI8mm;
#elif defined(__wasm__)
extern const Variant kWasmSimd;
#endif

const Variant& active_variant();

}  // namespace attar
