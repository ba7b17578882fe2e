// The GGUF container, versions 2 and 3 (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): key-values, tensor
// infos, data. What the keys and tensors of a model mean is in gguf_config.h and gguf_tensors.h. docs/formats/gguf.md.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/bytes.h"
#include "base/files.h"
#include "convert/slices.h"
#include "kernels_ref/types.h"

namespace attar {

enum class GgufType : std::uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

// One value: a view into the file, decoded when asked for.
struct GgufValue {
  GgufType type = GgufType::kU8;
  GgufType element = GgufType::kU8;  // of an array
  std::uint64_t count = 1;           // elements of an array
  ByteView bytes;                    // a string's text; numbers; an array's elements
};

struct GgufTensor {
  std::string name;
  Type type = Type::kF32;
  std::vector<std::int64_t> shape;  // row-major: the reverse of GGUF's dims
  ByteView bytes;
};

class GgufFile {
 public:
  // Checks the whole header: counts, lengths, types, duplicate names, offsets. Throws Error naming the file and the
  // place.
  explicit GgufFile(const std::filesystem::path& path);

  const std::string& source() const { return source_; }
  const std::shared_ptr<const MappedFile>& mapped() const { return mapped_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  const std::vector<std::string>& keys() const { return order_; }

  const GgufValue* find(const std::string& key) const;  // nullptr if absent
  bool has(const std::string& key) const { return find(key) != nullptr; }
  // With a default, an absent key gives it; without, it is an Error. A wrong type or a value out of range always is.
  std::int64_t integer(const std::string& key, std::int64_t min, std::int64_t max,
                       std::optional<std::int64_t> otherwise = {}) const;
  double number(const std::string& key, double min, double max, std::optional<double> otherwise = {}) const;
  bool boolean(const std::string& key, bool otherwise) const;
  std::string text(const std::string& key, std::optional<std::string> otherwise = {}) const;
  std::vector<std::string> texts(const std::string& key) const;
  std::string raw_bytes(const std::string& key) const;        // an array of u8 or i8; empty if absent
  std::vector<double> numbers(const std::string& key) const;  // an array of any number type or of bools

 private:
  void read_key_values(ByteReader& reader, std::uint64_t count);
  void read_tensors(ByteReader& reader, std::uint64_t count);
  GgufValue read_value(ByteReader& reader, const std::string& key) const;
  const GgufValue& need(const std::string& key) const;

  std::string source_;
  std::shared_ptr<const MappedFile> mapped_;
  std::unordered_map<std::string, GgufValue> values_;
  std::vector<std::string> order_;
  std::vector<GgufTensor> tensors_;
};

// Collects key-values and tensors, then writes them in that order.
class GgufWriter {
 public:
  void add_u32(std::string_view key, std::uint64_t value);  // throws Error if it does not fit
  void add_f32(std::string_view key, double value);
  void add_bool(std::string_view key, bool value);
  void add_text(std::string_view key, std::string_view value);
  void add_texts(std::string_view key, const std::vector<std::string>& values);
  void add_f32s(std::string_view key, const std::vector<float>& values);
  void add_i32s(std::string_view key, const std::vector<std::int32_t>& values);
  void add_bytes(std::string_view key, std::string_view bytes);  // an array of u8
  void add_bools(std::string_view key, const std::vector<bool>& values);

  // shape: row-major. produce adds the tensor's bytes, row_bytes(type, columns) * rows of them.
  using Produce = std::function<void(Slices&)>;
  void add_tensor(std::string name, Type type, std::vector<std::int64_t> shape, Produce produce);
  std::uint64_t element_count() const { return elements_; }
  void take_tensors(GgufWriter&& other);

  void write(const std::filesystem::path& path) const;  // atomic
  std::uint64_t file_bytes() const;                      // what write() will write

 private:
  void key(std::string_view name, GgufType type);
  void text(std::string_view value);
  ByteWriter header() const;
  struct Pending {
    std::string name;
    Type type;
    std::vector<std::int64_t> shape;
    std::uint64_t bytes;
    Produce produce;
  };
  ByteWriter values_;
  std::uint64_t value_count_ = 0, elements_ = 0;
  std::vector<Pending> tensors_;
};

}  // namespace attar
