#include "base/checked.h"
#include "base/console.h"
#include "convert/gguf.h"

namespace attar {
namespace {

constexpr std::uint64_t kAlignment = 32;
constexpr std::uint64_t kShowProgressFrom = 256'000'000;  // bytes; less is written before a person looks

}  // namespace

void GgufWriter::text(std::string_view value) {
  values_.write(static_cast<std::uint64_t>(value.size()));
  values_.append(as_bytes(value));
}

void GgufWriter::key(std::string_view name, GgufType type) {
  text(name);
  values_.write(static_cast<std::uint32_t>(type));
  ++value_count_;
}

void GgufWriter::add_u32(std::string_view name, std::uint64_t value) {
  if (value > UINT32_MAX) fail("write GGUF: ", name, " is ", value, ", which does not fit 32 bits");
  key(name, GgufType::kU32);
  values_.write(static_cast<std::uint32_t>(value));
}

void GgufWriter::add_f32(std::string_view name, double value) {
  key(name, GgufType::kF32);
  values_.write(static_cast<float>(value));
}

void GgufWriter::add_bool(std::string_view name, bool value) {
  key(name, GgufType::kBool);
  values_.write(static_cast<std::uint8_t>(value));
}

void GgufWriter::add_text(std::string_view name, std::string_view value) {
  key(name, GgufType::kString);
  text(value);
}

void GgufWriter::add_texts(std::string_view name, const std::vector<std::string>& values) {
  key(name, GgufType::kArray);
  values_.write(static_cast<std::uint32_t>(GgufType::kString));
  values_.write(static_cast<std::uint64_t>(values.size()));
  for (const std::string& value : values) text(value);
}

void GgufWriter::add_f32s(std::string_view name, const std::vector<float>& values) {
  key(name, GgufType::kArray);
  values_.write(static_cast<std::uint32_t>(GgufType::kF32));
  values_.write(static_cast<std::uint64_t>(values.size()));
  for (const float value : values) values_.write(value);
}

void GgufWriter::add_i32s(std::string_view name, const std::vector<std::int32_t>& values) {
  key(name, GgufType::kArray);
  values_.write(static_cast<std::uint32_t>(GgufType::kI32));
  values_.write(static_cast<std::uint64_t>(values.size()));
  for (const std::int32_t value : values) values_.write(value);
}

void GgufWriter::add_bytes(std::string_view name, std::string_view bytes) {
  key(name, GgufType::kArray);
  values_.write(static_cast<std::uint32_t>(GgufType::kU8));
  text(bytes);  // the same layout: a count, then the bytes
}

void GgufWriter::add_bools(std::string_view name, const std::vector<bool>& values) {
  key(name, GgufType::kArray);
  values_.write(static_cast<std::uint32_t>(GgufType::kBool));
  values_.write(static_cast<std::uint64_t>(values.size()));
  for (const bool value : values) values_.write(static_cast<std::uint8_t>(value));
}

void GgufWriter::add_tensor(std::string name, Type type, std::vector<std::int64_t> shape, Produce produce) {
  if (!info(type).ggml_id)
    fail("write GGUF: ", name, " is ", info(type).name, ", which GGUF does not know; give f16, bf16 or f32 to have it decoded, ",
         "or write a folder");
  if (name.size() > 63) fail("write GGUF: the tensor name '", name, "' is longer than 63 bytes");
  std::uint64_t rows = 1;
  for (std::size_t i = 0; i + 1 < shape.size(); ++i)
    rows = checked_mul(rows, static_cast<std::uint64_t>(shape[i]), name);
  const auto columns = static_cast<std::uint64_t>(shape.empty() ? 1 : shape.back());
  elements_ = checked_add(elements_, checked_mul(rows, columns, name), name);
  const std::uint64_t bytes = checked_mul(rows, row_bytes(type, columns), name);
  tensors_.push_back({std::move(name), type, std::move(shape), bytes, std::move(produce)});
}

void GgufWriter::take_tensors(GgufWriter&& other) {
  elements_ = checked_add(elements_, other.elements_, "elements");
  for (Pending& tensor : other.tensors_) tensors_.push_back(std::move(tensor));
  other.tensors_.clear();
}

ByteWriter GgufWriter::header() const {
  ByteWriter header;
  header.append(as_bytes("GGUF"));
  header.write(std::uint32_t{3});
  header.write(static_cast<std::uint64_t>(tensors_.size()));
  header.write(value_count_);
  header.append(values_.bytes());
  std::uint64_t offset = 0;
  for (const Pending& tensor : tensors_) {
    header.write(static_cast<std::uint64_t>(tensor.name.size()));
    header.append(as_bytes(tensor.name));
    header.write(static_cast<std::uint32_t>(tensor.shape.size()));
    for (auto size = tensor.shape.rbegin(); size != tensor.shape.rend(); ++size)
      header.write(static_cast<std::uint64_t>(*size));
    header.write(info(tensor.type).ggml_id.value());
    header.write(offset);
    offset = checked_align(checked_add(offset, tensor.bytes, tensor.name), kAlignment, tensor.name);
  }
  header.pad_to(kAlignment);
  return header;
}

std::uint64_t GgufWriter::file_bytes() const {
  std::uint64_t total = header().bytes().size();
  for (const Pending& tensor : tensors_)
    total = checked_align(checked_add(total, tensor.bytes, tensor.name), kAlignment, tensor.name);
  return total;
}

void GgufWriter::write(const fs::path& path) const {
  std::uint64_t total = 0;
  for (const Pending& tensor : tensors_) total += tensor.bytes;
  OutputFile file(path);
  file.write(header().bytes());
  std::optional<Progress> progress;
  if (total >= kShowProgressFrom) progress.emplace("write " + path.filename().string(), total, "bytes");
  Slices slices([&](ByteView bytes) {
    file.write(bytes);
    if (progress) progress->advance(bytes.size());
  });
  const Bytes zeros(kAlignment);
  for (const Pending& tensor : tensors_) {
    const std::uint64_t begin = slices.size();
    tensor.produce(slices);
    const std::uint64_t written = slices.size() - begin;
    if (written != tensor.bytes)
      fail("write ", path.string(), ": ", tensor.name, " gave ", written, " bytes, expected ", tensor.bytes);
    slices.add(ByteView(zeros).first((kAlignment - written % kAlignment) % kAlignment));
  }
  slices.finish();
  file.commit();
}

}  // namespace attar
