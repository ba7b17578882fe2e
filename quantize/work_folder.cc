// A part on disk: XXH3-128 of all that follows (32 hex digits), u64 length of the JSON, the JSON, the packed tensors one after the
// other in the JSON's order.
#include "quantize/work_folder.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/text.h"

namespace attar {
namespace {

constexpr const char* kRunFile = "run.json";
constexpr int kVersion = 1;
constexpr std::size_t kHashDigits = 32;

template <class... Parts>
[[noreturn]] void refuse(const Parts&... parts) {
  throw ResumeError(cat("cannot resume: ", parts...));
}

void check_run(const fs::path& folder, const nlohmann::json& run) {
  const fs::path file = folder / kRunFile;
  if (!fs::exists(file))
    refuse(folder.string(), " exists, but not as what an interrupted run leaves; remove it, or name another output");
  const auto saved = nlohmann::json::parse(read_text_file(file), nullptr, false);
  if (!saved.is_object() || saved.value("version", 0) != kVersion || !saved.contains("run"))
    refuse(file.string(), " is damaged, or of another version; remove the folder to start again");
  for (const auto& [key, value] : run.items())
    if (const auto& before = saved["run"]; !before.contains(key) || before[key] != value)
      refuse(folder.string(), " is of another run: ", key, " was ",
           before.contains(key) ? before[key].dump() : "not given", ", now it is ", value.dump(),
           "; ask for the same, or remove the folder to start again");
}

}  // namespace

WorkFolder::WorkFolder(fs::path path, const nlohmann::json& run, bool resume) : path_(std::move(path)) {
  std::error_code error;
  if (fs::exists(path_, error)) {
    if (!resume)
      throw ResumeError(cat(path_.string(), " holds what an interrupted run has finished; add --resume to go on with it, or remove "
                            "the folder to start again"));
    check_run(path_, run);
    return;
  }
  if (!fs::create_directories(path_, error)) throw WriteError(cat("cannot make folder ", path_.string(), ": ", error.message()));
  write_text_file(path_ / kRunFile, nlohmann::json{{"version", kVersion}, {"run", run}}.dump(2) + "\n");
}

void WorkFolder::store(const std::string& name, const std::map<std::string, QuantizedTensor>& tensors,
                       const nlohmann::json& notes) const {
  nlohmann::json list = nlohmann::json::array();
  for (const auto& [tensor, data] : tensors)
    list.push_back({{"name", tensor}, {"type", info(data.type).name}, {"shape", data.shape}});
  const std::string text = nlohmann::json{{"tensors", std::move(list)}, {"notes", notes}}.dump();
  ByteWriter length;
  length.write(static_cast<std::uint64_t>(text.size()));
  ContentHash hash;
  hash.add(length.bytes());
  hash.add(text);
  for (const auto& [tensor, data] : tensors) hash.add(data.bytes);
  OutputFile out(file(name));
  out.write(hash.hex());
  out.write(length.bytes());
  out.write(text);
  for (const auto& [tensor, data] : tensors) out.write(data.bytes);
  out.commit();
}

std::optional<WorkFolder::Part> WorkFolder::find(const std::string& name) const {
  std::error_code error;
  if (!fs::exists(file(name), error)) return {};
  const auto damaged = [&] { refuse(file(name).string(), " is damaged; remove the folder to start again"); };
  const auto mapped = std::make_shared<const MappedFile>(file(name));
  if (mapped->bytes().size() < kHashDigits || as_text(mapped->bytes().first(kHashDigits)) != content_hash(mapped->bytes().subspan(kHashDigits)))
    damaged();
  ByteReader reader(mapped->bytes().subspan(kHashDigits), file(name).string());
  const auto size = reader.read<std::uint64_t>("length");
  const auto json = nlohmann::json::parse(as_text(reader.take(size, "list of tensors")), nullptr, false);
  Part part;
  try {
    part.notes = json.at("notes");
    for (const auto& entry : json.at("tensors")) {
      const auto type = type_from_name(entry.at("type").get<std::string>());
      if (!type) damaged();
      Tensor tensor{entry.at("name"), *type, entry.at("shape"), {}};
      const ByteView bytes = reader.take(tensor.bytes(), tensor.name);
      const std::size_t stride = row_bytes(*type, static_cast<std::uint64_t>(tensor.columns()));
      tensor.read_rows = RowReader(mapped, bytes, stride);
      part.tensors.push_back(std::move(tensor));
    }
  } catch (const nlohmann::json::exception&) {
    damaged();
  }
  mapped->release(mapped->bytes());
  return part;
}

QuantizedTensor kept_floats(Shape shape, std::span<const float> values) {
  const auto bytes = std::as_bytes(values);
  return {Type::kF32, std::move(shape), Bytes(bytes.begin(), bytes.end())};
}

std::string content_hash(const ScratchFile& file, std::uint64_t begin, std::uint64_t size) {
  constexpr std::uint64_t kPiece = std::uint64_t{1} << 20;
  ContentHash hash;
  Bytes piece;
  for (std::uint64_t done = 0; done < size; done += piece.size()) {
    piece.resize(std::min(kPiece, size - done));
    file.read(begin + done, piece);
    hash.add(piece);
  }
  return hash.hex();
}

int finished_parts(const fs::path& folder) {
  std::error_code error;
  int parts = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder, error)) parts += entry.path().extension() == ".part";
  return parts;
}

}  // namespace attar
