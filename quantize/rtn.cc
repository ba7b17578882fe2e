#include "quantize/rtn.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/checked.h"
#include "base/console.h"
#include "base/error.h"
#include "base/threads.h"

namespace attar {
namespace {

constexpr std::int64_t kRowsAtOnce = 16;                 // per parallel step: rows are short, threads cost something
constexpr std::int64_t kSliceWeights = std::int64_t{1} << 23;  // between two looks for an interrupt

struct Squares {
  double error, energy;  // |q - w|^2, |w|^2
};
Squares squares(const float* q, const float* w, std::size_t n) {
  constexpr std::size_t kLanes = 8;  // of fixed order, so that the loop vectorises
  float error[kLanes] = {}, energy[kLanes] = {};
  const auto add = [&](std::size_t i, std::size_t k) {
    const float d = q[i] - w[i];
    error[k] += d * d;
    energy[k] += w[i] * w[i];
  };
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (std::size_t k = 0; k < kLanes; ++k) add(i + k, k);
  for (; i < n; ++i) add(i, i % kLanes);
  return {std::accumulate(error, error + kLanes, 0.0), std::accumulate(energy, energy + kLanes, 0.0)};
}

QuantizedTensor empty_like(Type type, std::int64_t rows, std::int64_t columns) {
  QuantizedTensor result{type, {rows, columns}, {}};
  result.bytes.resize(checked_mul(row_bytes(type, static_cast<std::uint64_t>(columns)),
                                  static_cast<std::uint64_t>(rows), "quantized matrix"));
  return result;
}

}  // namespace

void check_finite(std::span<const float> W, std::int64_t columns, std::string_view name, std::int64_t first_row) {
  bool finite = true;
  for (const float w : W) finite = finite & (std::fabs(w) <= std::numeric_limits<float>::max());  // without branches: it vectorises
  if (finite) return;
  const auto bad = std::find_if(W.begin(), W.end(), [](float w) { return !std::isfinite(w); });
  const std::int64_t at = bad - W.begin();
  fail("quantize: ", name, " holds ", std::isnan(*bad) ? "NaN" : "Inf", " at row ", first_row + at / columns, ", column ",
       at % columns, "; the checkpoint is damaged or overflowed its type");
}

void rtn_rows(Type type, std::span<const float> W, std::int64_t columns, std::span<const float> importance,
              std::string_view name, std::int64_t first_row, std::span<std::byte> bytes) {
  check_finite(W, columns, name, first_row);
  const auto stride = row_bytes(type, static_cast<std::uint64_t>(columns));
  const std::int64_t rows = static_cast<std::int64_t>(W.size()) / columns;
  parallel_for((rows + kRowsAtOnce - 1) / kRowsAtOnce, [&](std::int64_t step) {
    for (std::int64_t r = step * kRowsAtOnce; r < std::min(rows, (step + 1) * kRowsAtOnce); ++r)
      encode_row(type, W.subspan(static_cast<std::size_t>(r * columns), static_cast<std::size_t>(columns)), importance,
                 bytes.subspan(static_cast<std::size_t>(first_row + r) * stride, stride));
  });
}

QuantizedTensor rtn(Type type, std::span<const float> W, std::int64_t rows, std::int64_t columns,
                    std::span<const float> importance, std::string_view name) {
  QuantizedTensor result = empty_like(type, rows, columns);
  rtn_rows(type, W, columns, importance, name, 0, result.bytes);
  return result;
}

RtnResult rtn(Type type, const Tensor& W, std::span<const float> importance) {
  RtnResult result{empty_like(type, W.rows(), W.columns())};
  result.Q.shape = W.shape;
  const auto columns = static_cast<std::size_t>(W.columns());
  const auto stride = row_bytes(type, columns);
  std::vector<double> error(static_cast<std::size_t>(W.rows())), energy(error);
  const std::int64_t step = std::max<std::int64_t>(kRowsAtOnce, kSliceWeights / std::max<std::int64_t>(1, W.columns()));
  for (std::int64_t begin = 0; begin < W.rows(); begin += step) {
    check_interrupt();
    const std::int64_t end = std::min(W.rows(), begin + step);
    // Read, encoded and compared in parts that caches hold.
    parallel_for((end - begin + kRowsAtOnce - 1) / kRowsAtOnce, [&](std::int64_t part) {
      const std::int64_t first = begin + part * kRowsAtOnce, last = std::min(end, first + kRowsAtOnce);
      thread_local std::vector<float> values, q;
      values.resize(static_cast<std::size_t>(last - first) * columns), q.resize(columns);
      read_floats(W, first, last, values);
      check_finite(values, W.columns(), W.name, first);
      for (std::int64_t r = first; r < last; ++r) {
        const auto row = static_cast<std::size_t>(r);
        const auto w = std::span(values).subspan(static_cast<std::size_t>(r - first) * columns, columns);
        const auto packed = std::span(result.Q.bytes).subspan(row * stride, stride);
        encode_row(type, w, importance, packed);
        decode_row(type, packed, q);
        const Squares sums = squares(q.data(), w.data(), columns);
        error[row] = sums.error, energy[row] = sums.energy;
      }
    });
  }
  const double energies = std::accumulate(energy.begin(), energy.end(), 0.0);
  if (energies > 0) result.weight_error = std::accumulate(error.begin(), error.end(), 0.0) / energies;
  return result;
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
