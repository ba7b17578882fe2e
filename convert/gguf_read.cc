#include <bit>
#include <cmath>
#include <unordered_set>

#include "base/checked.h"
#include "base/text.h"
#include "convert/gguf.h"

namespace attar {
namespace {

constexpr std::uint64_t kMaxKey = 65535, kMaxName = 63, kMaxDimensions = 4, kMaxAlignment = 1 << 16;

std::uint64_t number_size(GgufType type) {
  switch (type) {
    case GgufType::kU8:
    case GgufType::kI8:
    case GgufType::kBool:
      return 1;
    case GgufType::kU16:
    case GgufType::kI16:
      return 2;
    case GgufType::kU32:
    case GgufType::kI32:
    case GgufType::kF32:
      return 4;
    case GgufType::kU64:
    case GgufType::kI64:
    case GgufType::kF64:
      return 8;
    default:
      return 0;
  }
}

bool is_integer(GgufType type) {
  return number_size(type) > 0 && type != GgufType::kF32 && type != GgufType::kF64 && type != GgufType::kBool;
}

template <class T>
T load(ByteView bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

double load_number(GgufType type, ByteView bytes) {
  switch (type) {
    case GgufType::kU8:
    case GgufType::kBool:
      return load<std::uint8_t>(bytes);
    case GgufType::kI8:
      return load<std::int8_t>(bytes);
    case GgufType::kU16:
      return load<std::uint16_t>(bytes);
    case GgufType::kI16:
      return load<std::int16_t>(bytes);
    case GgufType::kU32:
      return load<std::uint32_t>(bytes);
    case GgufType::kI32:
      return load<std::int32_t>(bytes);
    case GgufType::kF32:
      return load<float>(bytes);
    case GgufType::kU64:
      return static_cast<double>(load<std::uint64_t>(bytes));
    case GgufType::kI64:
      return static_cast<double>(load<std::int64_t>(bytes));
    case GgufType::kF64:
      return load<double>(bytes);
    default:
      return 0.0;
  }
}

GgufType read_type(ByteReader& reader, const std::string& key) {
  const auto type = reader.read<std::uint32_t>("type of " + key);
  if (type > static_cast<std::uint32_t>(GgufType::kF64))
    fail(reader.what(), ": key '", key, "' has the unknown value type ", type);
  return static_cast<GgufType>(type);
}

std::string_view read_text(ByteReader& reader, std::uint64_t max, std::string_view field) {
  const auto size = reader.read<std::uint64_t>(field);
  if (size > max)
    fail(reader.what(), ": ", field, " at byte ", reader.offset(), " is said to be ", size, " bytes, at most ", max);
  return as_text(reader.take(size, field));
}

}  // namespace

GgufFile::GgufFile(const fs::path& path) : source_(path.string()), mapped_(std::make_shared<const MappedFile>(path)) {
  ByteReader reader(mapped_->bytes(), source_);
  if (as_text(reader.take(4, "magic")) != "GGUF")
    fail(source_, ": does not start with 'GGUF'; this is not a GGUF file");
  const auto version = reader.read<std::uint32_t>("version");
  if (version == __builtin_bswap32(2) || version == __builtin_bswap32(3))
    fail(source_, ": big-endian GGUF is not read here");
  if (version != 2 && version != 3) fail(source_, ": GGUF version ", version, "; expected 2 or 3");
  const auto tensors = reader.read<std::uint64_t>("tensor count");
  const auto values = reader.read<std::uint64_t>("key count");
  // The least that a key-value and a tensor info can take bounds how many there can be.
  constexpr std::uint64_t kLeastValue = 8 + 1 + 4 + 1, kLeastTensor = 8 + 1 + 4 + 8 + 4 + 8;
  if (values > reader.remaining() / kLeastValue || tensors > reader.remaining() / kLeastTensor)
    fail(source_, ": ", values, " keys and ", tensors, " tensors cannot be in ", reader.remaining(),
         " bytes; the file is ", "truncated or its counts lie");
  read_key_values(reader, values);
  read_tensors(reader, tensors);
  mapped_->release(mapped_->bytes());
}

void GgufFile::read_key_values(ByteReader& reader, std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) {
    std::string key(read_text(reader, kMaxKey, "key"));
    if (key.empty()) fail(source_, ": key ", i, " has no name");
    if (values_.count(key) > 0) fail(source_, ": the key '", key, "' occurs twice");
    const GgufValue value = read_value(reader, key);
    order_.push_back(key);
    values_.emplace(std::move(key), value);
  }
}

GgufValue GgufFile::read_value(ByteReader& reader, const std::string& key) const {
  GgufValue value;
  value.type = read_type(reader, key);
  if (value.type == GgufType::kString) {
    value.bytes = as_bytes(read_text(reader, UINT64_MAX, "text of " + key));
  } else if (value.type != GgufType::kArray) {
    value.bytes = reader.take(number_size(value.type), "value of " + key);
  } else {
    value.element = read_type(reader, key);
    value.count = reader.read<std::uint64_t>("array length of " + key);
    if (value.element == GgufType::kArray)
      fail(source_, ": key '", key, "' holds arrays in an array, which are not read");
    if (value.element != GgufType::kString) {
      value.bytes = reader.take(checked_mul(value.count, number_size(value.element), key), "array of " + key);
    } else {
      if (value.count > reader.remaining() / 8)
        fail(source_, ": key '", key, "' is said to hold ", value.count, " strings, ", reader.remaining(),
             " bytes remain");
      const std::uint64_t begin = reader.offset();
      for (std::uint64_t i = 0; i < value.count; ++i) read_text(reader, UINT64_MAX, "string in " + key);
      value.bytes = mapped_->bytes().subspan(begin, reader.offset() - begin);
    }
  }
  return value;
}

void GgufFile::read_tensors(ByteReader& reader, std::uint64_t count) {
  const auto alignment = static_cast<std::uint64_t>(integer("general.alignment", 1, kMaxAlignment, 32));
  if (!std::has_single_bit(alignment)) fail(source_, ": general.alignment is ", alignment, "; expected a power of two");
  std::unordered_set<std::string> names;
  std::vector<std::uint64_t> sizes;
  std::uint64_t expected_offset = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    GgufTensor tensor;
    tensor.name = std::string(read_text(reader, kMaxName, "tensor name"));
    const std::string what = cat(source_, ": tensor '", tensor.name, "'");
    if (!names.insert(tensor.name).second) fail(what, " occurs twice");
    const auto dimensions = reader.read<std::uint32_t>("dimension count");
    if (dimensions < 1 || dimensions > kMaxDimensions)
      fail(what, " has ", dimensions, " dimensions; expected 1 to ", kMaxDimensions);
    std::uint64_t rows = 1, columns = 0;
    for (std::uint32_t d = 0; d < dimensions; ++d) {
      const auto size = reader.read<std::uint64_t>("dimension");
      if (size < 1 || size > std::uint64_t{INT64_MAX}) fail(what, ": dimension ", d, " is ", size);
      (d == 0 ? columns : rows) = d == 0 ? size : checked_mul(rows, size, what);
      tensor.shape.insert(tensor.shape.begin(), static_cast<std::int64_t>(size));
    }
    if (checked_mul(rows, columns, what) > std::uint64_t{INT64_MAX}) fail(what, " has too many elements");
    const auto id = reader.read<std::uint32_t>("tensor type");
    const auto type = type_from_ggml_id(id);
    if (!type) fail(what, " has the type ", id, ", which is not known here");
    tensor.type = *type;
    const auto block = static_cast<std::uint64_t>(info(*type).block_weights);
    if (columns % block != 0)
      fail(what, ": rows of ", columns, " do not divide into ", info(*type).name, " blocks of ", block);
    const std::uint64_t bytes = checked_mul(
        rows, checked_mul(columns / block, static_cast<std::uint64_t>(info(*type).block_bytes), what), what);
    const auto offset = reader.read<std::uint64_t>("tensor offset");
    if (offset != expected_offset)
      fail(what, " starts at ", offset, ", expected ", expected_offset, "; tensors must follow each other in order");
    expected_offset = checked_align(checked_add(expected_offset, bytes, what), alignment, what);
    sizes.push_back(bytes);
    tensors_.push_back(std::move(tensor));
  }
  if (tensors_.empty()) return;
  std::uint64_t position = checked_align(reader.offset(), alignment, source_);
  const ByteView all = mapped_->bytes();
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    if (position > all.size() || sizes[i] > all.size() - position)
      fail(source_, ": tensor '", tensors_[i].name, "' needs ", sizes[i], " bytes at ", position, ", the file has ",
           all.size(), "; it is truncated");
    tensors_[i].bytes = all.subspan(position, sizes[i]);
    position = checked_align(position + sizes[i], alignment, source_);
  }
}

const GgufValue* GgufFile::find(const std::string& key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

const GgufValue& GgufFile::need(const std::string& key) const {
  if (const GgufValue* value = find(key)) return *value;
  fail(source_, ": the key '", key, "' is missing");
}

std::int64_t GgufFile::integer(const std::string& key, std::int64_t min, std::int64_t max,
                               std::optional<std::int64_t> otherwise) const {
  if (otherwise && !has(key)) return *otherwise;
  const GgufValue& value = need(key);
  if (!is_integer(value.type)) fail(source_, ": key '", key, "' must be a whole number");
  if (value.type == GgufType::kU64 && load<std::uint64_t>(value.bytes) > std::uint64_t{INT64_MAX})
    fail(source_, ": key '", key, "' is ", load<std::uint64_t>(value.bytes), "; expected ", min, " to ", max);
  const std::int64_t number = value.type == GgufType::kI64 || value.type == GgufType::kU64
                                  ? load<std::int64_t>(value.bytes)
                                  : static_cast<std::int64_t>(load_number(value.type, value.bytes));
  if (number < min || number > max) fail(source_, ": key '", key, "' is ", number, "; expected ", min, " to ", max);
  return number;
}

double GgufFile::number(const std::string& key, double min, double max, std::optional<double> otherwise) const {
  if (otherwise && !has(key)) return *otherwise;
  const GgufValue& value = need(key);
  if (number_size(value.type) == 0 || value.type == GgufType::kBool)
    fail(source_, ": key '", key, "' must be a number");
  const double number = load_number(value.type, value.bytes);
  if (!(number >= min && number <= max))
    fail(source_, ": key '", key, "' is ", number, "; expected ", min, " to ", max);
  return number;
}

bool GgufFile::boolean(const std::string& key, bool otherwise) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return otherwise;
  if (value->type != GgufType::kBool) fail(source_, ": key '", key, "' must be true or false");
  return load<std::uint8_t>(value->bytes) != 0;
}

std::string GgufFile::text(const std::string& key, std::optional<std::string> otherwise) const {
  if (otherwise && !has(key)) return *otherwise;
  const GgufValue& value = need(key);
  if (value.type != GgufType::kString) fail(source_, ": key '", key, "' must be a string");
  if (find_invalid_utf8(as_text(value.bytes))) fail(source_, ": the text of key '", key, "' is not UTF-8");
  return std::string(as_text(value.bytes));
}

std::vector<std::string> GgufFile::texts(const std::string& key) const {
  const GgufValue& value = need(key);
  if (value.type != GgufType::kArray || value.element != GgufType::kString)
    fail(source_, ": key '", key, "' must be a list of strings");
  ByteReader reader(value.bytes, source_);
  std::vector<std::string> texts;
  texts.reserve(value.count);
  for (std::uint64_t i = 0; i < value.count; ++i) {
    texts.emplace_back(read_text(reader, UINT64_MAX, key));
    if (find_invalid_utf8(texts.back())) fail(source_, ": string ", i, " of key '", key, "' is not UTF-8");
  }
  return texts;
}

std::string GgufFile::raw_bytes(const std::string& key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return "";
  if (value->type != GgufType::kArray || (value->element != GgufType::kU8 && value->element != GgufType::kI8))
    fail(source_, ": key '", key, "' must be a list of bytes");
  return std::string(as_text(value->bytes));
}

std::vector<double> GgufFile::numbers(const std::string& key) const {
  const GgufValue& value = need(key);
  if (value.type != GgufType::kArray || value.element == GgufType::kString)
    fail(source_, ": key '", key, "' must be a list of numbers");
  const std::uint64_t size = number_size(value.element);
  std::vector<double> numbers(value.count);
  for (std::uint64_t i = 0; i < value.count; ++i)
    numbers[i] = load_number(value.element, value.bytes.subspan(i * size, size));
  return numbers;
}

}  // namespace attar
