#include "convert/tensor.h"

#include <algorithm>
#include <cstring>

#include "base/checked.h"

namespace attar {
namespace {

constexpr std::size_t kDecodedAtOnce = std::size_t{1} << 16;  // bytes

std::int64_t last_dimension(const Shape& shape) { return shape.empty() ? 1 : shape.back(); }

std::int64_t product_but_last(const Shape& shape) {
  std::int64_t rows = 1;
  for (std::size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
  return rows;
}

void check_rows(const Tensor& tensor, std::int64_t begin, std::int64_t end) {
  if (begin < 0 || begin > end || end > tensor.rows())
    fail("read ", tensor.name, ": rows ", begin, " to ", end, " are not within its ", tensor.rows(), " rows");
}

}  // namespace

std::uint64_t element_count(const Shape& shape) {
  std::uint64_t count = 1;
  for (const std::int64_t size : shape) {
    if (size < 0) fail("shape ", shape_text(shape), " has a negative dimension");
    count = checked_mul(count, static_cast<std::uint64_t>(size), "elements of " + shape_text(shape));
  }
  return count;
}

std::string shape_text(const Shape& shape) {
  std::string text = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + ")";
}

std::int64_t QuantizedTensor::rows() const { return product_but_last(shape); }
std::int64_t QuantizedTensor::columns() const { return last_dimension(shape); }

std::int64_t Tensor::rows() const { return product_but_last(shape); }
std::int64_t Tensor::columns() const { return last_dimension(shape); }
std::uint64_t Tensor::bytes() const {
  return checked_mul(static_cast<std::uint64_t>(rows()), row_bytes(type, static_cast<std::uint64_t>(columns())), name);
}

RowReader::RowReader(std::shared_ptr<const MappedFile> file, ByteView bytes, std::size_t stride)
    : file_(std::move(file)), in_place_(bytes), stride_(stride) {}

void RowReader::operator()(std::int64_t begin, std::int64_t end, std::byte* out) const {
  if (copy_) return copy_(begin, end, out);
  const auto offset = static_cast<std::size_t>(in_place_.data() - file_->bytes().data());
  file_->read(offset + static_cast<std::size_t>(begin) * stride_, static_cast<std::size_t>(end - begin) * stride_, out);
}

QuantizedTensor read_packed(const Tensor& tensor) {
  QuantizedTensor packed{tensor.type, tensor.shape, Bytes(tensor.bytes())};
  if (!packed.bytes.empty()) tensor.read_rows(0, tensor.rows(), packed.bytes.data());
  return packed;
}

void read_floats(const Tensor& tensor, std::int64_t begin, std::int64_t end, std::span<float> out) {
  check_rows(tensor, begin, end);
  const auto columns = static_cast<std::size_t>(tensor.columns());
  const auto rows = static_cast<std::size_t>(end - begin);
  if (out.size() != rows * columns) fail("read ", tensor.name, ": ", rows * columns, " values do not go into ", out.size());
  if (out.empty()) return;
  if (tensor.type == Type::kF32) return tensor.read_rows(begin, end, reinterpret_cast<std::byte*>(out.data()));
  // In parts that caches hold.
  const std::size_t stride = row_bytes(tensor.type, columns), step = std::max<std::size_t>(1, kDecodedAtOnce / stride);
  const auto packed = std::make_unique_for_overwrite<std::byte[]>(std::min(rows, step) * stride);
  for (std::size_t first = 0; first < rows; first += step) {
    const std::size_t last = std::min(rows, first + step);
    tensor.read_rows(begin + static_cast<std::int64_t>(first), begin + static_cast<std::int64_t>(last), packed.get());
    for (std::size_t r = first; r < last; ++r)
      decode_row(tensor.type, ByteView(packed.get() + (r - first) * stride, stride), out.subspan(r * columns, columns));
  }
}

std::vector<float> read_floats(const Tensor& tensor, std::int64_t begin, std::int64_t end) {
  check_rows(tensor, begin, end);
  std::vector<float> values(static_cast<std::size_t>(end - begin) * static_cast<std::size_t>(tensor.columns()));
  read_floats(tensor, begin, end, values);
  return values;
}

std::vector<float> read_floats(const Tensor& tensor) { return read_floats(tensor, 0, tensor.rows()); }

Tensor make_tensor(std::string name, QuantizedTensor data) {
  Tensor tensor{std::move(name), data.type, data.shape, {}};
  if (data.bytes.size() != tensor.bytes())
    fail("make tensor ", tensor.name, ": ", data.bytes.size(), " bytes, but ", shape_text(tensor.shape), " ",
         info(tensor.type).name, " takes ", tensor.bytes());
  const std::size_t stride = row_bytes(tensor.type, static_cast<std::uint64_t>(tensor.columns()));
  auto shared = std::make_shared<const Bytes>(std::move(data.bytes));
  tensor.read_rows = [shared, stride](std::int64_t begin, std::int64_t end, std::byte* out) {
    const auto size = static_cast<std::size_t>(end - begin) * stride;
    if (size > 0) std::memcpy(out, shared->data() + static_cast<std::size_t>(begin) * stride, size);
  };
  return tensor;
}

Tensor make_tensor(std::string name, Shape shape, std::vector<float> values, Type stored_as) {
  if (values.size() != element_count(shape))
    fail("make tensor ", name, ": ", values.size(), " values for shape ", shape_text(shape));
  QuantizedTensor data{stored_as, std::move(shape), {}};
  const auto columns = static_cast<std::size_t>(data.columns());
  const std::size_t stride = row_bytes(stored_as, columns);
  const std::size_t rows = columns == 0 ? 0 : values.size() / columns;
  data.bytes.resize(rows * stride);
  for (std::size_t r = 0; r < rows; ++r)
    encode_row(stored_as, std::span<const float>(values).subspan(r * columns, columns), {},
               std::span(data.bytes).subspan(r * stride, stride));
  return make_tensor(std::move(name), std::move(data));
}

}  // namespace attar
