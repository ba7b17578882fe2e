// The only place that touches raw bytes and endianness: cursors over little-endian data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/error.h"
#include "base/span.h"

namespace attar {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "every format here is little-endian; so must the machine be");

using Bytes = std::vector<std::byte>;
using ByteView = Span<const std::byte>;

inline std::string_view as_text(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
inline ByteView as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

// Reads forward; every read checks what remains first and throws an Error that names `what` and the offset.
class ByteReader {
 public:
  ByteReader(ByteView bytes, std::string what) : bytes_(bytes), what_(std::move(what)) {}

  template <class T>
  T read(std::string_view field) {
    static_assert(std::is_trivially_copyable_v<T>);
    T value;
    std::memcpy(&value, take(sizeof(T), field).data(), sizeof(T));
    return value;
  }

  ByteView take(std::uint64_t size, std::string_view field) {
    if (size > remaining())
      fail(what_, ": ", field, " at byte ", offset_, " needs ", size, " bytes, ", remaining(),
           " remain; the file is truncated or its lengths lie");
    const ByteView view = bytes_.subspan(offset_, size);
    offset_ += size;
    return view;
  }

  std::uint64_t offset() const { return offset_; }
  std::uint64_t remaining() const { return bytes_.size() - offset_; }
  const std::string& what() const { return what_; }

 private:
  ByteView bytes_;
  std::string what_;
  std::uint64_t offset_ = 0;
};

// Appends little-endian values to a growing buffer.
class ByteWriter {
 public:
  template <class T>
  void write(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    const auto* begin = reinterpret_cast<const std::byte*>(&value);
    bytes_.insert(bytes_.end(), begin, begin + sizeof(T));
  }
  void append(ByteView bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }
  void pad_to(std::size_t alignment) { bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment); }
  const Bytes& bytes() const { return bytes_; }

 private:
  Bytes bytes_;
};

}  // namespace attar
