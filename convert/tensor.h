// A named tensor that is read lazily from a mapped file.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "base/bytes.h"
#include "base/files.h"
#include "kernels_ref/types.h"

namespace attar {

using Shape = std::vector<std::int64_t>;  // row-major as in PyTorch: (out_features, in_features)

std::uint64_t element_count(const Shape& shape);
std::string shape_text(const Shape& shape);  // "(4096, 11008)"

// Packed bytes in exactly the layout the device reads; decode_row of each row gives floats.
struct QuantizedTensor {
  Type type = Type::kF32;
  Shape shape;
  Bytes bytes;  // rows one after the other
  std::int64_t rows() const;
  std::int64_t columns() const;  // the last dimension
};

// Copies rows of a tensor to where they are wanted; of one that lies in a mapped file as it is, it also says where.
class RowReader {
 public:
  RowReader() = default;
  template <class Copy, class = std::enable_if_t<!std::is_same_v<std::decay_t<Copy>, RowReader>>>
  RowReader(Copy copy) : copy_(std::move(copy)) {}  // copy(begin, end, out)
  RowReader(std::shared_ptr<const MappedFile> file, ByteView bytes, std::size_t stride);

  void operator()(std::int64_t begin, std::int64_t end, std::byte* out) const;
  ByteView in_place() const { return in_place_; }  // for as long as this or a copy of it lives; empty: rows must be copied

 private:
  std::function<void(std::int64_t begin, std::int64_t end, std::byte* out)> copy_;
  std::shared_ptr<const MappedFile> file_;
  ByteView in_place_;
  std::size_t stride_ = 0;
};

// One tensor of a checkpoint under its canonical (Hugging Face) name. Its rows (all dimensions but the last) can be read
// in any slice, so a walk over a large model needs memory for one slice only.
struct Tensor {
  std::string name;
  Type type = Type::kF32;  // as stored
  Shape shape;
  // Copies rows [begin, end) in canonical order into out, as stored bytes of `type`. A reader that has to undo something
  // (llama.cpp's row permutation, Gemma's norm + 1) does it here.
  RowReader read_rows;

  std::int64_t rows() const;
  std::int64_t columns() const;
  std::uint64_t bytes() const;  // of the whole tensor
};

QuantizedTensor read_packed(const Tensor& tensor);                                        // whole, as stored
std::vector<float> read_floats(const Tensor& tensor, std::int64_t begin, std::int64_t end);  // rows, decoded
std::vector<float> read_floats(const Tensor& tensor);
void read_floats(const Tensor& tensor, std::int64_t begin, std::int64_t end, std::span<float> out);

// A tensor over bytes in memory, shared by the tensor.
Tensor make_tensor(std::string name, QuantizedTensor data);
Tensor make_tensor(std::string name, Shape shape, std::vector<float> values, Type stored_as = Type::kF32);

}  // namespace attar
