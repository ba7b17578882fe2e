#include "convert/slices.h"

#include <algorithm>

#include "base/console.h"
#include "base/error.h"

namespace attar {
namespace {
constexpr std::size_t kRead = std::size_t{8} << 20;     // bytes of a tensor at a time, here or there
constexpr std::size_t kHandOn = std::size_t{2} << 20;   // as soon as there are so many
}  // namespace

std::span<std::byte> Slices::grow(std::size_t bytes) {
  next_.resize(next_.size() + bytes);
  size_ += bytes;
  return std::span(next_).last(bytes);
}

void Slices::hand_on() {
  if (sinking_.valid()) sinking_.get();
  handed_on_.clear();
  next_.swap(handed_on_);
  if (!handed_on_.empty()) sinking_ = std::async(std::launch::async, [this] { sink_(handed_on_); });
}

void Slices::add(ByteView bytes) {
  std::copy(bytes.begin(), bytes.end(), grow(bytes.size()).begin());
  if (next_.size() >= kHandOn) hand_on();
}

void Slices::add(const Tensor& tensor, Type type) {
  const auto columns = static_cast<std::size_t>(tensor.columns());
  if (columns == 0) return;
  const std::size_t out_stride = row_bytes(type, columns), stride = std::max<std::size_t>(row_bytes(tensor.type, columns), out_stride);
  const auto step = static_cast<std::int64_t>(std::max<std::size_t>(1, kRead / stride));
  for (std::int64_t begin = 0; begin < tensor.rows(); begin += step) {
    check_interrupt();
    const std::int64_t end = std::min(begin + step, tensor.rows());
    const auto rows = static_cast<std::size_t>(end - begin);
    const std::span<std::byte> packed = grow(rows * out_stride);
    if (type == tensor.type) {
      tensor.read_rows(begin, end, packed.data());
    } else {
      const std::vector<float> values = read_floats(tensor, begin, end);
      for (std::size_t r = 0; r < rows; ++r) {
        try {
          encode_row(type, std::span(values).subspan(r * columns, columns), {}, packed.subspan(r * out_stride, out_stride));
        } catch (const Error& error) {
          fail("write ", tensor.name, " as ", info(type).name, ": row ", begin + static_cast<std::int64_t>(r), ": ", error.what());
        }
      }
    }
    if (next_.size() >= kHandOn) hand_on();
  }
}

void Slices::finish() {
  hand_on();
  if (sinking_.valid()) sinking_.get();
}

}  // namespace attar
