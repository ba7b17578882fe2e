#include <cmath>
#include <cstring>
#include <iomanip>
#include <unordered_map>

#include "base/console.h"
#include "convert/checkpoint_parts.h"
#include "convert/gguf.h"
#include "convert/gguf_model.h"
#include "convert/safetensors.h"

namespace attar {
namespace {

Tensor lazy_tensor(const GgufFile& file, const GgufTensor& entry, std::string name) {
  Tensor tensor{std::move(name), entry.type, entry.shape, {}};
  const std::size_t stride = row_bytes(entry.type, static_cast<std::uint64_t>(tensor.columns()));
  tensor.read_rows = RowReader(file.mapped(), entry.bytes, stride);
  return tensor;
}

nlohmann::json read_metadata(const GgufFile& file) {
  nlohmann::json metadata = nlohmann::json::object();
  for (const std::string& key : file.keys()) {
    if (!key.starts_with("general.") ||
        find_if(key.begin(), key.end(), [](unsigned char c) { return c >= 0x80; }) != key.end())
      continue;
    const GgufValue& value = *file.find(key);
    if (value.type == GgufType::kString)
      metadata[key] = file.text(key);
    else if (value.type == GgufType::kBool)
      metadata[key] = file.boolean(key, false);
    else if (value.type == GgufType::kU32)
      metadata[key] = file.integer(key, 0, UINT32_MAX);
  }
  return metadata;
}

// "15M", as the naming convention of GGUF files has it: two digits at least.
std::string size_label(std::uint64_t parameters) {
  const auto count = static_cast<double>(parameters);
  const auto [scale, suffix] = count > 1e12  ? std::pair(1e-12, "T")
                               : count > 1e9 ? std::pair(1e-9, "B")
                               : count > 1e6 ? std::pair(1e-6, "M")
                                             : std::pair(1e-3, "K");
  std::ostringstream text;
  text << std::fixed << std::setprecision(std::nearbyint(count * scale) < 10 ? 1 : 0) << count * scale << suffix;
  return text.str();
}

// general.file_type of a file of plain floats; llama.cpp's numbers (llama_ftype).
std::uint32_t plain_file_type(const Checkpoint& checkpoint, std::optional<Type> asked) {
  std::uint64_t f16 = 0, bf16 = 0, f32 = 0;
  for (const Tensor& tensor : checkpoint.tensors) {
    if (tensor.shape.size() < 2) continue;
    const Type type = asked.value_or(tensor.type);
    (type == Type::kF16 ? f16 : type == Type::kBF16 ? bf16 : f32) += tensor.bytes();
  }
  return f16 > bf16 && f16 > f32 ? 1 : bf16 > f32 ? 32 : 0;
}

Type stored_type(const Tensor& tensor, std::optional<Type> asked) {
  if (tensor.shape.size() < 2) return Type::kF32;
  if (asked) return *asked;
  return tensor.type == Type::kF64 ? Type::kF32 : tensor.type;
}

void add_factors(GgufWriter& writer, const char* name, const std::vector<float>& factors) {
  const Tensor tensor = make_tensor(name, {static_cast<std::int64_t>(factors.size())}, factors);
  writer.add_tensor(name, Type::kF32, tensor.shape,
                    [tensor](Slices& slices) { slices.add(tensor, Type::kF32); });
}

void add_rope_tensors(const ModelConfig& config, GgufWriter& writer) {
  const Rope& rope = config.rope;
  const bool phi3 = config.family == Family::kPhi3;
  const bool plain_factors = rope.type == RopeType::kLongrope && rope.short_factor == rope.long_factor &&
                             rope.attention_factor == 1.0 && !phi3;
  if (rope.type == RopeType::kLlama3 || plain_factors) {
    add_factors(writer, "rope_freqs.weight", rope_frequency_factors(config));
  } else if (rope.type == RopeType::kLongrope) {
    add_factors(writer, "rope_factors_long.weight", {rope.long_factor.begin(), rope.long_factor.end()});
    add_factors(writer, "rope_factors_short.weight", {rope.short_factor.begin(), rope.short_factor.end()});
  }
}

bool is_rope_tensor(std::string_view name) {
  return name == "rope_freqs.weight" || name == "rope_factors_long.weight" || name == "rope_factors_short.weight";
}

}  // namespace

Checkpoint open_gguf(const fs::path& path) {
  const GgufFile file(path);
  if (file.integer("split.count", 0, UINT16_MAX, 0) > 1)
    fail(path.string(), ": one part of a split GGUF; join the parts first with llama-gguf-split --merge");
  Checkpoint checkpoint;
  checkpoint.path = path;
  checkpoint.format = "gguf";
  checkpoint.config = read_gguf_config(file);
  std::unordered_map<std::string, std::string> canonical;
  for (const ParameterSpec& spec : parameters(checkpoint.config))
    canonical[gguf_tensor_name(spec.name, checkpoint.config)] = spec.name;
  std::vector<Tensor> tensors;
  for (const GgufTensor& entry : file.tensors()) {
    if (is_rope_tensor(entry.name)) continue;
    const auto known = canonical.find(entry.name);
    tensors.push_back(lazy_tensor(file, entry, known == canonical.end() ? entry.name : known->second));
  }
  set_tensors(checkpoint, std::move(tensors));
  for (Tensor& tensor : checkpoint.tensors) tensor = from_gguf(std::move(tensor), checkpoint.config);
  checkpoint.tokenizer = read_gguf_tokenizer(file);
  checkpoint.metadata = read_metadata(file);
  check_tokenizer(checkpoint);
  return checkpoint;
}

namespace {

GgufWriter gguf_writer(const Checkpoint& checkpoint, const fs::path& path, const GgufOptions& options) {
  const ModelConfig& config = checkpoint.config;
  GgufWriter tensors;
  add_rope_tensors(config, tensors);
  for (const Tensor& source : checkpoint.tensors) {
    const Type type = stored_type(source, options.type);
    const Tensor tensor = to_gguf(source, config);
    tensors.add_tensor(gguf_tensor_name(source.name, config), type, source.shape,
                       [tensor, type](Slices& slices) { slices.add(tensor, type); });
  }
  GgufWriter writer;
  const std::string stem = checkpoint.path.stem().string();
  writer.add_text("general.architecture", info(config.family).gguf);
  writer.add_text("general.type", "model");
  writer.add_text("general.name", !options.name.empty() ? options.name : !stem.empty() ? stem : path.stem().string());
  writer.add_text("general.size_label", size_label(tensors.element_count()));
  write_gguf_config(config, writer);
  writer.add_u32("general.file_type",
                 options.file_type != 0 ? options.file_type : plain_file_type(checkpoint, options.type));
  writer.add_u32("general.quantization_version", 2);
  write_gguf_tokenizer(checkpoint.tokenizer, config, writer);
  writer.take_tensors(std::move(tensors));
  return writer;
}

}  // namespace

void write_gguf(const Checkpoint& checkpoint, const fs::path& path, const GgufOptions& options) {
  gguf_writer(checkpoint, path, options).write(path);
}

std::uint64_t gguf_bytes(const Checkpoint& checkpoint, const fs::path& path, const GgufOptions& options) {
  return gguf_writer(checkpoint, path, options).file_bytes();
}

}  // namespace attar
