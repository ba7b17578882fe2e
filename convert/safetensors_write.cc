#include <nlohmann/json.hpp>
#include <unordered_set>

#include "base/checked.h"
#include "base/console.h"
#include "base/files.h"
#include "convert/safetensors.h"
#include "convert/slices.h"

namespace attar {
namespace {

constexpr std::uint64_t kShowProgressFrom = 256'000'000;

const char* dtype_name(Type type) {
  switch (type) {
    case Type::kF32:
      return "F32";
    case Type::kF16:
      return "F16";
    case Type::kBF16:
      return "BF16";
    case Type::kF64:
      return "F64";
    case Type::kI8:
      return "I8";
    case Type::kI16:
      return "I16";
    case Type::kI32:
      return "I32";
    case Type::kI64:
      return "I64";
    case Type::kU32:
      return "U32";
    default:
      fail("safetensors has no dtype for ", info(type).name);
  }
}

bool is_float(Type type) {
  return type == Type::kF32 || type == Type::kF16 || type == Type::kBF16 || type == Type::kF64;
}

}  // namespace

Type safetensors_type(const Tensor& tensor, std::optional<Type> stored_as) {
  const bool quantized = info(tensor.type).quantized;
  if (stored_as && (quantized || is_float(tensor.type))) return *stored_as;
  return quantized ? Type::kF32 : tensor.type;
}

namespace {

struct Layout {
  std::string header;           // with its length before it
  std::uint64_t data_bytes = 0;
};

// what: for errors.
Layout lay_out(const std::string& what, const std::vector<Tensor>& tensors, const Metadata& metadata, std::optional<Type> stored_as) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::unordered_set<std::string> names{"__metadata__"};
  std::uint64_t offset = 0;
  for (const Tensor& tensor : tensors) {
    if (!names.insert(tensor.name).second) fail("write ", what, ": two tensors are named '", tensor.name, "'");
    const Type type = safetensors_type(tensor, stored_as);
    const std::uint64_t size =
        checked_mul(element_count(tensor.shape), static_cast<std::uint64_t>(info(type).block_bytes), tensor.name);
    header[tensor.name] = {
        {"dtype", dtype_name(type)}, {"shape", tensor.shape}, {"data_offsets", {offset, offset + size}}};
    offset = checked_add(offset, size, what);
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  ByteWriter length;
  length.write(static_cast<std::uint64_t>(text.size()));
  const auto* first = reinterpret_cast<const char*>(length.bytes().data());
  return {std::string(first, length.bytes().size()) + text, offset};
}

}  // namespace

std::uint64_t safetensors_bytes(const std::vector<Tensor>& tensors, const Metadata& metadata, std::optional<Type> stored_as) {
  const Layout layout = lay_out("safetensors", tensors, metadata, stored_as);
  return checked_add(layout.header.size(), layout.data_bytes, "safetensors");
}

void write_safetensors(const fs::path& path, const std::vector<Tensor>& tensors, const Metadata& metadata,
                       std::optional<Type> stored_as) {
  const Layout layout = lay_out(path.string(), tensors, metadata, stored_as);
  OutputFile file(path);
  file.write(layout.header);
  std::optional<Progress> progress;
  if (layout.data_bytes >= kShowProgressFrom) progress.emplace("write " + path.filename().string(), layout.data_bytes, "bytes");
  Slices slices([&](ByteView bytes) {
    file.write(bytes);
    if (progress) progress->advance(bytes.size());
  });
  for (const Tensor& tensor : tensors) slices.add(tensor, safetensors_type(tensor, stored_as));
  slices.finish();
  file.commit();
}

}  // namespace attar
