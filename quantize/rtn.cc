#include "quantize/rtn.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/checked.h"
#include "base/console.h"
#include "base/error.h"
#include "base/threads.h"

namespace attar {
namespace {

constexpr std::int64_t kRowsAtOnce = 16;                 // per parallel step: rows are short, threads cost something
constexpr std::int64_t kSliceWeights = std::int64_t{1} << 23;  // held as floats at a time when read from a file

QuantizedTensor empty_like(Type type, std::int64_t rows, std::int64_t columns) {
  QuantizedTensor result{type, {rows, columns}, {}};
  result.bytes.resize(checked_mul(row_bytes(type, static_cast<std::uint64_t>(columns)),
                                  static_cast<std::uint64_t>(rows), "quantized matrix"));
  return result;
}

}  // namespace

void check_finite(std::span<const float> W, std::int64_t columns, std::string_view name, std::int64_t first_row) {
  const auto bad = std::find_if(W.begin(), W.end(), [](float w) { return !std::isfinite(w); });
  if (bad == W.end()) return;
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
    const std::vector<float> slice = read_floats(W, begin, end);
    rtn_rows(type, slice, W.columns(), importance, W.name, begin, result.Q.bytes);
    parallel_for(end - begin, [&](std::int64_t r) {
      std::vector<float> q(columns);
      const auto row = static_cast<std::size_t>(begin + r);
      decode_row(type, ByteView(result.Q.bytes).subspan(row * stride, stride), q);
      const float* w = slice.data() + static_cast<std::size_t>(r) * columns;
      for (std::size_t j = 0; j < columns; ++j) {
        error[row] += (static_cast<double>(q[j]) - w[j]) * (static_cast<double>(q[j]) - w[j]);
        energy[row] += static_cast<double>(w[j]) * w[j];
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
