#include "quantize/rtn.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/checked.h"
#include "base/console.h"
#include "base/error.h"
#include "base/threads.h"
#include "base/vector_clones.h"

namespace attar {
namespace {

constexpr std::int64_t kRowsAtOnce = 16;                 // per parallel step: rows are short, threads cost something
constexpr std::int64_t kSliceWeights = std::int64_t{1} << 23;  // between two looks for an interrupt

struct Squares {
  double error, energy;  // |q - w|^2, |w|^2
};
// Sums of fixed order, in two vectors of eight: wider ones are taken apart by way of memory.
constexpr std::size_t kLanes = 8;
using Lanes = float __attribute__((vector_size(kLanes * sizeof(float))));

ATTAR_VECTOR_CLONES Squares squares(const float* q, const float* w, std::size_t n) {
  Lanes error0{}, error1{}, energy0{}, energy1{};
  const auto add = [&](std::size_t i, std::size_t count, Lanes& error, Lanes& energy) __attribute__((always_inline)) {
    Lanes a{}, b{};
    std::memcpy(&a, q + i, count * sizeof(float)), std::memcpy(&b, w + i, count * sizeof(float));
    error += (a - b) * (a - b);
    energy += b * b;
  };
  std::size_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) add(i, kLanes, error0, energy0), add(i + kLanes, kLanes, error1, energy1);
  for (; i < n; i += kLanes) add(i, std::min(kLanes, n - i), error0, energy0);
  Squares sums{};
  for (std::size_t k = 0; k < kLanes; ++k) sums.error += error0[k] + error1[k], sums.energy += energy0[k] + energy1[k];
  return sums;
}

// Weights beyond `first` and `last`, in steps of their groups' grid.
ATTAR_VECTOR_CLONES std::int64_t outside(const float* w, std::size_t group, const RowGrid& grid, float first, float last) {
  using Counts = std::int32_t __attribute__((vector_size(sizeof(Lanes))));
  Counts counts{};
  std::int64_t all = 0;
  for (std::size_t g = 0; g < grid.scale.size(); ++g, w += group) {
    const float a = grid.offset[g] + grid.scale[g] * first, b = grid.offset[g] + grid.scale[g] * last;
    if (grid.scale[g] == 0) continue;
    const float low = a < b ? a : b, high = a < b ? b : a;
    std::size_t i = 0;
    for (; i + kLanes <= group; i += kLanes) {
      Lanes v;
      std::memcpy(&v, w + i, sizeof v);
      counts -= (v < low) | (v > high);
    }
    for (; i < group; ++i) all += (w[i] < low) | (w[i] > high);
  }
  for (std::size_t k = 0; k < kLanes; ++k) all += counts[k];
  return all;
}

QuantizedTensor empty_like(Type type, Shape shape) {
  QuantizedTensor result{type, std::move(shape), {}};
  result.bytes.resize(checked_mul(row_bytes(type, static_cast<std::uint64_t>(result.columns())),
                                  static_cast<std::uint64_t>(result.rows()), "quantized matrix"));
  return result;
}

// Most rows say so at once.
bool all_zero(std::span<const float> w) {
  return std::all_of(w.begin(), w.end(), [](float value) { return value == 0; });
}

// encode_row looks at every weight itself, but does not know whose they are.
void encode_named_row(Type type, std::span<const float> w, std::span<const float> importance, std::span<std::byte> packed, std::string_view name,
                      std::int64_t row) {
  try {
    encode_row(type, w, importance, packed);
  } catch (const Error& error) {
    check_finite(w, static_cast<std::int64_t>(w.size()), name, row);
    fail("quantize: ", name, ", row ", row, ": ", error.what());
  }
}

}  // namespace

void check_finite(std::span<const float> W, std::int64_t columns, std::string_view name, std::int64_t first_row) {
  const auto bad = std::find_if(W.begin(), W.end(), [](float w) { return !std::isfinite(w); });
  if (bad == W.end()) return;
  const std::int64_t at = bad - W.begin();
  fail("quantize: ", name, " holds ", std::isnan(*bad) ? "NaN" : "Inf", " at row ", first_row + at / columns, ", column ",
       at % columns, "; the checkpoint is damaged or overflowed its type");
}

std::int64_t count_clipped(Type type, ByteView packed, std::span<const float> w) {
  const GridInfo& grid = info(type).grid;
  const int end = grid.levels - 1;
  const float first = level(grid, 0) - (level(grid, 1) - level(grid, 0)) / 2, last = level(grid, end) + (level(grid, end) - level(grid, end - 1)) / 2;
  return outside(w.data(), group_weights(type, w.size()), read_grid(type, packed, w.size()), first, last);
}

QuantizedTensor rtn(Type type, std::span<const float> W, std::int64_t rows, std::int64_t columns,
                    std::span<const float> importance, std::string_view name) {
  QuantizedTensor result = empty_like(type, {rows, columns});
  const auto stride = row_bytes(type, static_cast<std::uint64_t>(columns)), n = static_cast<std::size_t>(columns);
  parallel_for((rows + kRowsAtOnce - 1) / kRowsAtOnce, [&](std::int64_t step) {
    for (std::int64_t r = step * kRowsAtOnce; r < std::min(rows, (step + 1) * kRowsAtOnce); ++r)
      encode_named_row(type, W.subspan(static_cast<std::size_t>(r) * n, n), importance,
                       std::span(result.bytes).subspan(static_cast<std::size_t>(r) * stride, stride), name, r);
  });
  return result;
}

double RtnLoss::weight_error() const {
  const double energies = std::accumulate(energy.begin(), energy.end(), 0.0);
  return energies > 0 ? std::accumulate(error.begin(), error.end(), 0.0) / energies : 0.0;
}

double RtnLoss::clipped_share() const {
  if (clipped.empty()) return -1;
  return std::accumulate(clipped.begin(), clipped.end(), 0.0) / (static_cast<double>(columns) * static_cast<double>(clipped.size()));
}

bool RtnLoss::vanished() const {
  return std::find(rows.begin(), rows.end(), Row::kVanished) != rows.end() && std::find(rows.begin(), rows.end(), Row::kKept) == rows.end();
}

RoundedWhenRead rtn_when_read(Type type, const Tensor& W, std::vector<float> importance) {
  const auto loss = std::make_shared<RtnLoss>();
  loss->error.resize(static_cast<std::size_t>(W.rows())), loss->energy.resize(loss->error.size()), loss->rows.resize(loss->error.size());
  if (info(type).quantized) loss->columns = W.columns(), loss->clipped.resize(loss->error.size());
  Tensor Q{W.name, type, W.shape, {}};
  Q.read_rows = [type, W, importance = std::move(importance), loss](std::int64_t begin, std::int64_t end, std::byte* out) {
    const auto start = std::chrono::steady_clock::now();
    const auto columns = static_cast<std::size_t>(W.columns()), stride = row_bytes(type, columns);
    // Read, encoded and compared in parts that caches hold.
    parallel_for((end - begin + kRowsAtOnce - 1) / kRowsAtOnce, [&](std::int64_t part) {
      const std::int64_t first = begin + part * kRowsAtOnce, last = std::min(end, first + kRowsAtOnce);
      thread_local std::vector<float> values, q;
      values.resize(static_cast<std::size_t>(last - first) * columns), q.resize(columns);
      read_floats(W, first, last, values);
      for (std::int64_t r = first; r < last; ++r) {
        const auto row = static_cast<std::size_t>(r);
        const auto w = std::span(values).subspan(static_cast<std::size_t>(r - first) * columns, columns);
        const std::span packed(out + static_cast<std::size_t>(r - begin) * stride, stride);
        encode_named_row(type, w, importance, packed, W.name, r);
        decode_row(type, packed, q);
        const Squares sums = squares(q.data(), w.data(), columns);
        loss->error[row] = sums.error, loss->energy[row] = sums.energy;
        if (!loss->clipped.empty()) loss->clipped[row] = count_clipped(type, packed, w);
        loss->rows[row] = !all_zero(q) ? RtnLoss::Row::kKept : all_zero(w) ? RtnLoss::Row::kZero : RtnLoss::Row::kVanished;
      }
    });
    loss->seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  return {std::move(Q), loss};
}

RtnResult rtn(Type type, const Tensor& W, std::vector<float> importance) {
  const RoundedWhenRead rounded = rtn_when_read(type, W, std::move(importance));
  RtnResult result{empty_like(type, W.shape)};
  const auto stride = row_bytes(type, static_cast<std::uint64_t>(W.columns()));
  const std::int64_t step = std::max<std::int64_t>(kRowsAtOnce, kSliceWeights / std::max<std::int64_t>(1, W.columns()));
  for (std::int64_t begin = 0; begin < W.rows(); begin += step) {
    check_interrupt();
    rounded.Q.read_rows(begin, std::min(W.rows(), begin + step), result.Q.bytes.data() + static_cast<std::size_t>(begin) * stride);
  }
  result.weight_error = rounded.loss->weight_error();
  result.clipped = rounded.loss->clipped_share();
  return result;
}

bool vanished(const QuantizedTensor& Q, const Tensor& W) {
  const auto columns = static_cast<std::size_t>(Q.columns()), stride = row_bytes(Q.type, columns);
  std::vector<float> q(columns);
  for (std::size_t r = 0; r < static_cast<std::size_t>(Q.rows()); ++r) {
    decode_row(Q.type, ByteView(Q.bytes).subspan(r * stride, stride), q);
    if (!all_zero(q)) return false;
  }
  for (std::int64_t r = 0; r < W.rows(); ++r)
    if (!all_zero(read_floats(W, r, r + 1))) return true;
  return false;
}

std::vector<float> decode(const QuantizedTensor& tensor) {
  const std::int64_t rows = tensor.rows(), columns = tensor.columns();
  const auto stride = row_bytes(tensor.type, static_cast<std::uint64_t>(columns));
  std::vector<float> values(static_cast<std::size_t>(rows * columns));
  parallel_for((rows + kRowsAtOnce - 1) / kRowsAtOnce, [&](std::int64_t step) {
    for (std::int64_t r = step * kRowsAtOnce; r < std::min(rows, (step + 1) * kRowsAtOnce); ++r)
      decode_row(tensor.type, ByteView(tensor.bytes).subspan(static_cast<std::size_t>(r) * stride, stride),
                 std::span(values).subspan(static_cast<std::size_t>(r * columns), static_cast<std::size_t>(columns)));
  });
  return values;
}

}  // namespace attar
