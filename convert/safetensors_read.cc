#include <algorithm>
#include <array>
#include <cstring>
#include <set>
#include <unordered_map>

#include "base/checked.h"
#include "base/files.h"
#include "base/text.h"
#include "convert/json.h"
#include "convert/safetensors.h"

namespace attar {
namespace {

constexpr std::uint64_t kMaxHeader = 100'000'000;
constexpr std::size_t kMaxDimensions = 8;

struct Dtype {
  const char* name;
  std::optional<Type> type;  // nothing: known to the format, but not read here
};
constexpr std::array<Dtype, 15> kDtypes{{{"F32", Type::kF32},
                                         {"F16", Type::kF16},
                                         {"BF16", Type::kBF16},
                                         {"F64", Type::kF64},
                                         {"I8", Type::kI8},
                                         {"I16", Type::kI16},
                                         {"I32", Type::kI32},
                                         {"I64", Type::kI64},
                                         {"U8", {}},
                                         {"U16", {}},
                                         {"U32", Type::kU32},
                                         {"U64", {}},
                                         {"BOOL", {}},
                                         {"F8_E4M3", {}},
                                         {"F8_E5M2", {}}}};

Type dtype_type(const std::string& name, const std::string& what) {
  for (const Dtype& dtype : kDtypes) {
    if (name != dtype.name) continue;
    if (!dtype.type)
      fail(what, ": dtype ", name,
           " is not read here; such files hold weights packed by another quantizer, start from "
           "the F32, F16 or BF16 checkpoint");
    return *dtype.type;
  }
  fail(what, ": unknown dtype '", name.substr(0, 40), "'; expected F32, F16 or BF16");
}

struct Entry {
  Tensor tensor;
  std::uint64_t begin, end;
};

std::uint64_t unsigned_number(const nlohmann::json& value, const std::string& what) {
  if (!value.is_number_unsigned()) fail(what, " must hold non-negative whole numbers, found ", value.type_name());
  return value.get<std::uint64_t>();
}

Entry parse_entry(const std::string& name, const nlohmann::json& value, const std::string& file) {
  const JsonReader reader(value, cat(file, ": tensor '", name.substr(0, 200), "'"));
  Entry entry{{name, dtype_type(reader.text("dtype"), reader.source()), {}, {}}, 0, 0};
  const nlohmann::json* shape = reader.find("shape");
  if (shape == nullptr || !shape->is_array() || shape->size() > kMaxDimensions)
    fail(reader.source(), ": 'shape' must be a list of at most ", kMaxDimensions, " numbers");
  for (const auto& size : *shape) {
    const std::uint64_t number = unsigned_number(size, reader.source() + ": 'shape'");
    if (number > std::uint64_t{INT64_MAX}) fail(reader.source(), ": dimension ", number, " is too large");
    entry.tensor.shape.push_back(static_cast<std::int64_t>(number));
  }
  const nlohmann::json* offsets = reader.find("data_offsets");
  if (offsets == nullptr || !offsets->is_array() || offsets->size() != 2)
    fail(reader.source(), ": 'data_offsets' must be a list of two numbers");
  entry.begin = unsigned_number((*offsets)[0], reader.source() + ": 'data_offsets'");
  entry.end = unsigned_number((*offsets)[1], reader.source() + ": 'data_offsets'");
  const std::uint64_t elements = element_count(entry.tensor.shape);
  const std::uint64_t expected =
      checked_mul(elements, static_cast<std::uint64_t>(info(entry.tensor.type).block_bytes), reader.source());
  if (entry.begin > entry.end || entry.end - entry.begin != expected)
    fail(reader.source(), ": ", shape_text(entry.tensor.shape), " ", info(entry.tensor.type).name, " takes ", expected,
         " bytes, but data_offsets are ", entry.begin, " to ", entry.end);
  return entry;
}

Metadata parse_metadata(const nlohmann::json& value, const std::string& file) {
  if (!value.is_object()) fail(file, ": __metadata__ must be an object of strings, found ", value.type_name());
  Metadata metadata;
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) fail(file, ": __metadata__ '", key, "' must be a string, found ", text.type_name());
    metadata[key] = text.get<std::string>();
  }
  return metadata;
}

// A shard's name in an index: a plain file name beside it, so that an index cannot reach other files.
fs::path shard_path(const fs::path& index, const std::string& name) {
  const fs::path folder = index.has_parent_path() ? index.parent_path() : fs::path(".");
  const bool plain = !name.empty() && name.find('/') == std::string::npos && name.find('\\') == std::string::npos &&
                     name.find('\0') == std::string::npos && name != "." && name != "..";
  if (!plain) fail(index.string(), ": shard '", name.substr(0, 200), "' is not a plain file name beside the index");
  const fs::path path = folder / name;
  std::error_code error;
  if (!fs::exists(path, error))
    fail(index.string(), ": shard ", path.string(), " is missing; the download is incomplete");
  // A link may lead anywhere inside the model's own folder tree, as the cache of huggingface_hub does
  // (snapshots/REVISION links into blobs two folders up), but not out of it.
  if (fs::is_symlink(path, error)) {
    const fs::path target = fs::canonical(path, error), home = fs::canonical(folder, error);
    const auto inside = [&](const fs::path& root) {
      const fs::path relative = target.lexically_relative(root);
      return !relative.empty() && *relative.begin() != "..";
    };
    const bool cache =
        home.parent_path().filename() == "snapshots" && inside(home.parent_path().parent_path() / "blobs");
    if (error || (!inside(home) && !cache))
      fail(index.string(), ": shard '", name, "' is a link out of the folder, to ", target.string());
  }
  return path;
}

}  // namespace

SafetensorsFile read_safetensors(const fs::path& path) {
  const auto mapped = std::make_shared<const MappedFile>(path);
  const std::string file = path.string();
  ByteReader reader(mapped->bytes(), file);
  const auto header_size = reader.read<std::uint64_t>("header length");
  if (header_size > kMaxHeader || header_size > reader.remaining())
    fail(file, ": the header is said to be ", header_size, " bytes, ", reader.remaining(),
         " bytes follow; the file is truncated or not safetensors");
  const std::string_view header_text = as_text(reader.take(header_size, "header"));
  if (!header_text.starts_with('{')) fail(file, ": the header does not start with '{'; this is not safetensors");
  const nlohmann::json header = parse_json(header_text, file + ": header");
  const ByteView data = mapped->bytes().subspan(reader.offset());

  SafetensorsFile result;
  std::vector<Entry> entries;
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__")
      result.metadata = parse_metadata(value, file);
    else
      entries.push_back(parse_entry(name, value, file));
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end != b.end ? a.end < b.end : a.tensor.name < b.tensor.name;
  });
  std::uint64_t offset = 0;
  for (const Entry& entry : entries) {
    if (entry.begin != offset)
      fail(file, ": tensor '", entry.tensor.name, "' starts at ", entry.begin, ", expected ", offset,
           "; the data must follow each other without holes or overlap");
    offset = entry.end;
  }
  if (offset != data.size())
    fail(file, ": the tensors take ", offset, " bytes, the file holds ", data.size(),
         offset > data.size() ? "; it is truncated" : "; something else follows the last tensor");

  for (Entry& entry : entries) {
    const ByteView bytes = data.subspan(entry.begin, entry.end - entry.begin);
    const std::size_t stride = static_cast<std::size_t>(entry.tensor.columns()) *
                               static_cast<std::size_t>(info(entry.tensor.type).block_bytes);
    entry.tensor.read_rows = RowReader(mapped, bytes, stride);
    result.tensors.push_back(std::move(entry.tensor));
  }
  mapped->release(mapped->bytes());
  return result;
}

SafetensorsFile read_sharded_safetensors(const fs::path& index) {
  const nlohmann::json json = parse_json(read_text_file(index), index.string());
  const JsonReader map = JsonReader(json, index.string()).object("weight_map");
  std::unordered_map<std::string, std::string> wanted;  // tensor -> shard
  std::set<std::string> shards;
  for (const auto& [name, shard] : map.json().items()) {
    if (!shard.is_string()) fail(map.source(), ": '", name, "' must name a shard, found ", shard.type_name());
    wanted[name] = shard.get<std::string>();
    shards.insert(shard.get<std::string>());
  }
  if (shards.empty()) fail(map.source(), " names no tensor");
  SafetensorsFile result;
  for (const std::string& shard : shards) {
    SafetensorsFile part = read_safetensors(shard_path(index, shard));
    result.metadata.merge(part.metadata);
    for (Tensor& tensor : part.tensors) {
      const auto entry = wanted.find(tensor.name);
      if (entry == wanted.end())
        fail(index.string(), ": ", shard, " holds tensor '", tensor.name, "', which the index lacks");
      if (entry->second != shard)
        fail(index.string(), ": tensor '", tensor.name, "' is in ", shard, ", the index says ", entry->second);
      wanted.erase(entry);
      result.tensors.push_back(std::move(tensor));
    }
  }
  for (const auto& [name, shard] : wanted) fail(index.string(), ": tensor '", name, "' is not in ", shard);
  return result;
}

}  // namespace attar
