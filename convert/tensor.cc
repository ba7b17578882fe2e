#include "convert/tensor.h"

#include <algorithm>
#include <cstring>

#include "base/checked.h"

namespace attar {
namespace {

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

RowReader::RowReader(std::shared_ptr<const MappedFile> file, ByteView bytes, std::size_t stride) : in_place_(bytes) {
  constexpr std::size_t kReleaseFrom = std::size_t{64} << 10;
  copy_ = [file = std::move(file), bytes, stride](std::int64_t begin, std::int64_t end, std::byte* out) {
    const ByteView part = bytes.subspan(static_cast<std::size_t>(begin) * stride, static_cast<std::size_t>(end - begin) * stride);
    if (part.empty()) return;
    std::memcpy(out, part.data(), part.size());
    if (part.size() >= kReleaseFrom) file->release(part);
  };
}

QuantizedTensor read_packed(const Tensor& tensor) {
  QuantizedTensor packed{tensor.type, tensor.shape, Bytes(tensor.bytes())};
  if (!packed.bytes.empty()) tensor.read_rows(0, tensor.rows(), packed.bytes.data());
  return packed;
}

std::vector<float> read_floats(const Tensor& tensor, std::int64_t begin, std::int64_t end) {
  check_rows(tensor, begin, end);
  const auto columns = static_cast<std::size_t>(tensor.columns());
  const auto rows = static_cast<std::size_t>(end - begin);
  std::vector<float> values(rows * columns);
  if (values.empty()) return values;
  const std::size_t stride = row_bytes(tensor.type, columns);
  if (tensor.type == Type::kF32) {
    tensor.read_rows(begin, end, reinterpret_cast<std::byte*>(values.data()));
    return values;
  }
  Bytes packed(rows * stride);
  tensor.read_rows(begin, end, packed.data());
  for (std::size_t r = 0; r < rows; ++r)
    decode_row(tensor.type, ByteView(packed).subspan(r * stride, stride),
               std::span(values).subspan(r * columns, columns));
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
