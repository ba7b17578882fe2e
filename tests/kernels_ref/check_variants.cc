// check_variants [VARIANT...]: by the C interface alone, every variant named (and the reference) over all types, odd
// shapes, any address and random bits, against sums in double; the same at any number of threads. For processors that
// are emulated, where there is no test framework. The last line is a hash of what must be the same everywhere: decoded,
// encoded, and multiplied by the reference.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "attar_kernels.h"

namespace {

// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled", 2016).
std::uint64_t g_state = 88172645463325252u;
std::uint32_t draw() {
  g_state ^= g_state >> 12, g_state ^= g_state << 25, g_state ^= g_state >> 27;
  return static_cast<std::uint32_t>((g_state * 2685821657736338717u) >> 32);
}
float draw_float() { return static_cast<float>(static_cast<std::int32_t>(draw())) * 0x1p-31f; }

std::uint64_t g_hash = 14695981039346656037u;  // FNV-1a
void hash(const void* data, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i)
    g_hash = (g_hash ^ static_cast<const unsigned char*>(data)[i]) * 1099511628211u;
}

[[noreturn]] void stop(const char* what, const attar_type_info& info) {
  std::printf("%s: %s: %s\n", info.name, what, attar_kernels_last_error());
  std::exit(1);
}

using Bytes = std::vector<unsigned char>;

// Rows of any bits; blocks whose scales are not finite, or too large to be multiplied, are drawn again.
Bytes draw_rows(int type, const attar_type_info& info, std::size_t rows, std::size_t columns) {
  std::size_t stride = 0, unit = 0;
  const bool whole_row = std::strstr(info.name, "_row") != nullptr;
  const std::size_t block = whole_row ? columns : info.block_weights == 1 ? 32 : info.block_weights;
  if (attar_row_bytes(type, columns, &stride) != ATTAR_OK || attar_row_bytes(type, block, &unit) != ATTAR_OK)
    stop("row bytes", info);
  Bytes bytes(rows * stride);
  std::vector<float> w(block);
  for (std::size_t at = 0; at < bytes.size(); at += unit) {
    do {
      for (std::size_t i = 0; i < unit; ++i) bytes[at + i] = static_cast<unsigned char>(draw());
      if (info.block_weights == 1)  // numbers: bits would hardly ever be 32 of moderate size
        for (float& v : w) v = draw_float();
      if (info.block_weights == 1 &&
          attar_encode_row(type, w.data(), nullptr, block, bytes.data() + at, unit) != ATTAR_OK)
        stop("encode", info);
      if (attar_decode_row(type, bytes.data() + at, unit, w.data(), block) != ATTAR_OK) stop("decode", info);
    } while (!std::all_of(w.begin(), w.end(), [](float v) { return std::fabs(v) <= 1000.0f; }));
  }
  return bytes;
}

// What one vector stands for after rounding.
std::vector<float> rounded(attar_activations kind, const float* x, std::size_t columns, const attar_type_info& info) {
  std::vector<float> values(x, x + columns);
  if (kind == ATTAR_ACTIVATIONS_F32) return values;
  std::size_t size = 0;
  attar_activations_bytes(kind, columns, &size);
  Bytes bytes(size);
  if (attar_encode_activations(kind, x, columns, bytes.data(), size) != ATTAR_OK) stop("activations", info);
  hash(bytes.data(), size);
  if (kind == ATTAR_ACTIVATIONS_INT8_ROW) {
    float d;
    std::memcpy(&d, bytes.data(), 4);
    for (std::size_t i = 0; i < columns; ++i)
      values[i] = d * static_cast<float>(static_cast<std::int8_t>(bytes[4 + i]));
    return values;
  }
  const int type = attar_type_by_name(kind == ATTAR_ACTIVATIONS_Q8_0 ? "q8_0" : "q8_k");
  if (attar_decode_row(type, bytes.data(), size, values.data(), columns) != ATTAR_OK) stop("decode activations", info);
  return values;
}

struct Truth {
  double sum = 0, terms = 0;
};
// terms: magnitudes, with the largest of 16 neighbours for what kernels with unsigned codes add and take away again.
Truth exact(const float* w, const std::vector<float>& a) {
  Truth truth;
  for (std::size_t i = 0; i < a.size(); i += 16) {
    double largest = 0;
    for (std::size_t k = i; k < i + 16; ++k) largest = std::max(largest, std::fabs(static_cast<double>(w[k])));
    for (std::size_t k = i; k < i + 16; ++k) {
      truth.sum += static_cast<double>(w[k]) * a[k];
      truth.terms += 4 * largest * std::fabs(static_cast<double>(a[k]));
    }
  }
  return truth;
}

std::size_t g_checked = 0;

void check_type(int type, const attar_type_info& info, const std::vector<const char*>& variants) {
  const std::size_t unit = std::max<std::size_t>(32, info.block_weights);
  for (const std::size_t blocks : {1, 3, 13}) {
    const std::size_t columns = unit * blocks;
    for (const std::size_t rows : {1, 19}) {
      const Bytes packed = draw_rows(type, info, rows, columns);
      const std::size_t stride = packed.size() / rows, shift = draw() % 64;
      Bytes memory(shift + packed.size());  // not where an allocator would put it, and nothing readable behind it
      std::copy(packed.begin(), packed.end(), memory.begin() + static_cast<std::ptrdiff_t>(shift));
      std::vector<float> w(rows * columns);
      for (std::size_t r = 0; r < rows; ++r)
        if (attar_decode_row(type, packed.data() + r * stride, stride, &w[r * columns], columns) != ATTAR_OK)
          stop("decode", info);
      hash(w.data(), w.size() * sizeof(float));
      for (int k = ATTAR_ACTIVATIONS_F32; k <= ATTAR_ACTIVATIONS_INT8_ROW; ++k) {
        const auto kind = static_cast<attar_activations>(k);
        if (kind != ATTAR_ACTIVATIONS_F32 && kind != info.activations &&
            (kind != ATTAR_ACTIVATIONS_INT8_ROW || info.activations == ATTAR_ACTIVATIONS_F32))
          continue;
        for (const std::size_t tokens : {1, 3, 11}) {
          std::vector<float> X(tokens * columns);
          for (float& v : X) v = draw_float();
          std::vector<Truth> truth(tokens * rows);
          for (std::size_t t = 0; t < tokens; ++t) {
            const std::vector<float> a = rounded(kind, &X[t * columns], columns, info);
            for (std::size_t r = 0; r < rows; ++r) truth[t * rows + r] = exact(&w[r * columns], a);
          }
          for (const char* variant : variants) {
            if (attar_kernels_select(variant) != ATTAR_OK) stop(variant, info);
            std::vector<float> Y(tokens * rows, std::nanf(""));
            if (attar_gemm(type, memory.data() + shift, packed.size(), rows, columns, kind, X.data(), tokens,
                           Y.data()) != ATTAR_OK)
              stop("gemm", info);
            if (std::strcmp(variant, "reference") == 0) hash(Y.data(), Y.size() * sizeof(float));
            for (std::size_t i = 0; i < Y.size(); ++i, ++g_checked) {
              if (std::fabs(Y[i] - truth[i].sum) <= 1e-6 * truth[i].terms) continue;
              std::printf(
                  "%s, %s: %zu columns, row %zu of %zu, token %zu of %zu, activations %d: got %.9g, expected %.9g\n",
                  variant, info.name, columns, i % rows, rows, i / rows, tokens, k, static_cast<double>(Y[i]),
                  truth[i].sum);
              std::exit(1);
            }
          }
        }
      }
    }
  }
}

void check_threads(int type, const attar_type_info& info, const char* variant) {
  constexpr std::size_t kRows = 77, kColumns = 512, kTokens = 11;
  if (attar_kernels_select(variant) != ATTAR_OK) stop(variant, info);
  const Bytes W = draw_rows(type, info, kRows, kColumns);
  std::vector<float> X(kTokens * kColumns), one(kTokens * kRows), more(one);
  for (float& v : X) v = draw_float();
  for (const std::size_t tokens : {std::size_t{1}, kTokens}) {
    for (const int threads : {1, 2, 5}) {
      attar_kernels_set_threads(threads);
      std::vector<float>& Y = threads == 1 ? one : more;
      if (attar_gemm(type, W.data(), W.size(), kRows, kColumns, info.activations, X.data(), tokens, Y.data()) !=
          ATTAR_OK)
        stop("gemm", info);
      if (threads == 1 || std::memcmp(one.data(), more.data(), tokens * kRows * sizeof(float)) == 0) continue;
      std::printf("%s, %s: %d threads give other results than one\n", variant, info.name, threads);
      std::exit(1);
    }
  }
  attar_kernels_set_threads(0);
}

void check_encoding(int type, const attar_type_info& info) {
  constexpr std::size_t kColumns = 512;
  std::size_t stride = 0;
  std::vector<float> w(kColumns);
  for (float& v : w) v = draw_float() + draw_float();
  if (attar_row_bytes(type, kColumns, &stride) != ATTAR_OK) stop("row bytes", info);
  Bytes row(stride);
  if (attar_encode_row(type, w.data(), nullptr, kColumns, row.data(), stride) != ATTAR_OK) stop("encode", info);
  hash(row.data(), stride);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<const char*> variants(argv + 1, argv + argc);
  variants.push_back("reference");
  const char* best = nullptr;
  if (attar_kernels_variant(&best) != ATTAR_OK) return 1;
  std::printf("runs on %s\n", best);
  std::vector<attar_type_info> types(static_cast<std::size_t>(attar_type_count()));
  for (int type = 0; type < attar_type_count(); ++type) {
    attar_type_info& info = types[static_cast<std::size_t>(type)];
    if (attar_type_describe(type, &info) != ATTAR_OK) return 1;
    if (!info.quantized && !info.encodable) continue;  // integers and f64
    check_type(type, info, variants);
    if (info.encodable) check_encoding(type, info);
  }
  for (int type = 0; type < attar_type_count(); ++type)
    if (const attar_type_info& info = types[static_cast<std::size_t>(type)]; info.activations != ATTAR_ACTIVATIONS_F32)
      for (const char* variant : variants) check_threads(type, info, variant);
  for (const char* variant : variants) std::printf("%s ", variant);
  std::printf("agree: %zu products\nhash %016llx\n", g_checked, static_cast<unsigned long long>(g_hash));
  return 0;
}
