#include "kernels_ref/multiply.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/checked.h"
#include "base/threads.h"
#include "kernels_ref/spread.h"
#include "kernels_ref/variants.h"

namespace attar {
namespace {

constexpr std::size_t kFewTokens = 4;  // below, repacking a matrix costs more than it saves

void multiply_floats(const Matrix& W, const Activations& x, Span<float> Y) {
  const auto dot = active_variant().dot;
  const std::size_t stride = row_bytes(W.type, W.columns);
  constexpr std::size_t kRows = 16;
  spread((W.rows + kRows - 1) / kRows, W.rows * W.columns * x.tokens(), [&](std::size_t step) {
    std::vector<float> w(W.columns);
    for (std::size_t r = step * kRows; r < std::min(W.rows, (step + 1) * kRows); ++r) {
      decode_row(W.type, W.bytes.subspan(r * stride, stride), w);
      for (std::size_t t = 0; t < x.tokens(); ++t) Y[t * W.rows + r] = dot(w.data(), x.token(t).x, W.columns);
    }
  });
}

// Rows of a product that a thread takes at once.
struct Rows {
  const Product* product;
  std::size_t first, count;
};

// Long pieces first, as each begins with a wait for memory; then shorter ones, so that the threads end together.
std::vector<Rows> in_pieces(Span<const Product> products) {
  constexpr std::size_t kLeast = std::size_t{1} << 16;
  const auto threads = static_cast<std::size_t>(thread_count());
  std::size_t left = 0;  // bytes
  for (const Product& p : products) left += p.W.bytes.size();
  std::vector<Rows> pieces;
  for (const Product& p : products) {
    const std::size_t stride = p.W.bytes.size() / p.W.rows;
    for (std::size_t first = 0; first < p.W.rows;) {
      // A round of pieces, one for each thread, takes seven eighths of what is left.
      const std::size_t bytes = std::max(kLeast, threads == 1 ? left : left * 7 / (8 * threads));
      const std::size_t count = std::min(p.W.rows - first, (bytes / stride + 3) / 4 * 4);
      pieces.push_back({&p, first, count});
      first += count, left -= count * stride;
    }
  }
  return pieces;
}

void multiply_rows(Span<const Product> products) {
  const std::vector<Rows> parts = in_pieces(products);
  std::size_t operations = 0;
  for (const Product& p : products) operations += p.W.rows * p.W.columns;
  const Variant& variant = active_variant();
  spread(parts.size(), operations, [&](std::size_t i) {
    const auto& [W, x, Y] = *parts[i].product;
    const std::size_t first = parts[i].first, stride = row_bytes(W.type, W.columns);
    thread_local std::vector<std::byte> memory;
    memory.resize(scratch_bytes(W.columns) + 64);
    std::byte* const scratch = memory.data() + (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64);
    for (std::size_t t = 0; t < x->tokens(); ++t)
      variant.rows({W.type, W.bytes.data() + first * stride, stride, parts[i].count, W.columns, x->token(t),
                    Y.data() + t * W.rows + first, variant.unpack(W.type), scratch});
  });
}

// The rows of a panel side by side: see PanelTask.
struct Panel {
  Panel(std::size_t columns, std::size_t group)
      : codes(kPanelRows * columns), scale(kPanelRows * columns / group), offset(scale.size()), chunks(kPanelRows) {}

  void repack(const Matrix& W, std::size_t first, std::size_t count, std::size_t group, Unpack unpack) {
    const std::size_t stride = row_bytes(W.type, W.columns);
    // Asked for in the order of memory: the loop below goes from row to row, which no processor foresees.
    const std::byte* const bytes = W.bytes.data() + first * stride;
    for (std::size_t i = 0; i < count * stride; i += 64) __builtin_prefetch(bytes + i);
    for (std::size_t at = 0; at < W.columns; at += 256) {
      const std::size_t n = std::min<std::size_t>(256, W.columns - at);
      for (std::size_t r = 0; r < count; ++r) {
        unpack(bytes + r * stride, at, n, chunks[r]);
        for (std::size_t i = 0; i < n; i += group) {
          scale[(at + i) / group * kPanelRows + r] = chunks[r].scale[i / 16];
          offset[(at + i) / group * kPanelRows + r] = chunks[r].offset[i / 16];
        }
      }
      active_variant().interleave(chunks[0].codes, sizeof(Chunk), n, codes.data() + at * kPanelRows);
    }
  }

  std::vector<std::uint8_t> codes;
  std::vector<float> scale, offset;
  std::vector<Chunk> chunks;
};

// Activations in tiles: see PanelTask. zero: the code of zero, if the type has one.
struct Tiles {
  Tiles(const Activations& x, std::size_t tile, std::size_t group, std::optional<int> zero)
      : q(round_up(x.tokens(), tile) * x.width()), d(q.size() / 32), sums(zero ? 0 : q.size() / group), start(zero ? q.size() / group : 0) {
    const std::size_t width = x.width(), count = (x.tokens() + tile - 1) / tile;
    spread(count, q.size(), [&](std::size_t i) {
      for (std::size_t t = 0; t < tile && i * tile + t < x.tokens(); ++t) {
        const RoundedVector v = x.token(i * tile + t);
        const std::size_t first = i * tile * width;
        for (std::size_t c = 0; c < width; c += 4) std::memcpy(q.data() + first + c * tile + 4 * t, v.q + c, 4);
        for (std::size_t b = 0; b < width / 32; ++b) d[first / 32 + b * tile + t] = v.d[b];
        for (std::size_t g = 0; g < width / group; ++g) {
          const int sum = group == 16 ? v.sums[g] : v.sums[2 * g] + v.sums[2 * g + 1];
          const std::size_t at = first / group + g * tile + t;
          if (zero) start[at] = -*zero * sum;
          else sums[at] = static_cast<float>(sum);
        }
      }
    });
  }
  static std::size_t round_up(std::size_t n, std::size_t step) { return (n + step - 1) / step * step; }

  std::vector<std::int8_t> q;
  std::vector<float> d, sums;
  std::vector<std::int32_t> start;
};

// Of a Chunk's codes.
std::optional<int> code_of_zero(const GridInfo& grid) {
  if (grid.has_offset) return std::nullopt;
  return grid.codebook != nullptr ? 128 : -grid.level_min;
}

void multiply_panels(const Matrix& W, const Activations& x, Span<float> Y) {
  const Variant& variant = active_variant();
  const Unpack unpack = variant.unpack(W.type);
  const GridInfo& grid = info(W.type).grid;
  const std::size_t group = grid.group == 16 ? 16 : 32;
  const std::optional<int> zero = code_of_zero(grid);
  const Tiles tiles(x, variant.tile, group, zero);
  spread((W.rows + kPanelRows - 1) / kPanelRows, W.rows * W.columns * x.tokens(), [&](std::size_t p) {
    thread_local Panel panel(0, 32);
    if (panel.codes.size() != kPanelRows * W.columns || panel.scale.size() != kPanelRows * W.columns / group)
      panel = Panel(W.columns, group);
    const std::size_t first = p * kPanelRows, count = std::min(kPanelRows, W.rows - first);
    panel.repack(W, first, count, group, unpack);
    variant.panel({panel.codes.data(), panel.scale.data(), zero ? nullptr : panel.offset.data(), static_cast<int>(group),
                   grid.levels > 128 || grid.codebook != nullptr, W.columns, x.tokens(), tiles.q.data(), tiles.d.data(),
                   tiles.sums.data(), tiles.start.data(), Y.data() + first, W.rows, count});
  });
}

}  // namespace

void check_matrix(const Matrix& W) {
  if (const std::uint64_t wanted = checked_mul(row_bytes(W.type, W.columns), W.rows, "[multiply] size of the matrix");
      W.bytes.size() != wanted)
    fail("[multiply] ", W.rows, " rows of ", W.columns, " weights in ", info(W.type).name, " are ", wanted, " bytes, not ",
         W.bytes.size());
}

namespace {

void check(const Product& p) {
  const auto& [W, x_pointer, Y] = p;
  const Activations& x = *x_pointer;
  check_matrix(W);
  check_rounding(W.type, x.rounding());
  if (x.width() != W.columns || Y.size() != x.tokens() * W.rows)
    fail("[multiply] ", x.tokens(), " vectors of ", x.width(), " and ", Y.size(), " results do not go with ", W.rows,
         " rows of ", W.columns);
}

}  // namespace

void multiply(Span<const Product> products) {
  std::vector<Product> few;
  for (const Product& p : products) {
    check(p);
    if (p.Y.empty()) continue;
    if (p.x->rounding() == Rounding::kNone) {
      multiply_floats(p.W, *p.x, p.Y);
    } else if (p.x->tokens() < kFewTokens) {
      few.push_back(p);
    } else {
      multiply_panels(p.W, *p.x, p.Y);
    }
  }
  if (!few.empty()) multiply_rows(few);
}

void multiply(const Matrix& W, const Activations& x, Span<float> Y) {
  const Product product{W, &x, Y};
  multiply(Span<const Product>(&product, 1));
}

void matvec(Type type, ByteView weights, std::int64_t rows, Span<const float> x, Span<float> y) {
  Activations rounded;
  rounded.round(default_rounding(type), x, 1);
  multiply({type, weights, static_cast<std::size_t>(rows), x.size()}, rounded, y);
}

}  // namespace attar
