// Hugging Face folders: config.json, *.safetensors, tokenizer files.
#include <algorithm>
#include <iomanip>

#include "base/checked.h"
#include "base/console.h"
#include "base/files.h"
#include "convert/checkpoint_parts.h"
#include "convert/json.h"
#include "convert/mlx.h"
#include "convert/safetensors.h"

namespace attar {
namespace {

std::string list_folder(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  std::string text;
  for (std::size_t i = 0; i < std::min<std::size_t>(names.size(), 12); ++i) text += (i == 0 ? "" : ", ") + names[i];
  if (names.size() > 12) text += ", ...";
  return names.empty() ? "nothing" : text;
}

void refuse_pickles(const fs::path& folder) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string extension = entry.path().extension().string();
    if (extension == ".bin" || extension == ".pt" || extension == ".pth" || extension == ".ckpt")
      fail("open model: ", entry.path().string(),
           " is a pickle, which can run code when it is loaded; convert it where you "
           "trust it, with transformers' save_pretrained(folder, safe_serialization=True), and give that folder");
  }
}

SafetensorsFile read_folder_tensors(const fs::path& folder) {
  if (const fs::path index = folder / "model.safetensors.index.json"; fs::exists(index))
    return read_sharded_safetensors(index);
  if (const fs::path whole = folder / "model.safetensors"; fs::exists(whole)) return read_safetensors(whole);
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".safetensors") found.push_back(entry.path());
  if (found.size() == 1) return read_safetensors(found[0]);
  if (found.empty()) refuse_pickles(folder);
  fail("open model: ", folder.string(), " has neither model.safetensors nor model.safetensors.index.json; found ",
       list_folder(folder));
}

// Names as a text-only checkpoint has them. Gemma 3's larger models wrap the decoder beside a vision tower.
std::vector<Tensor> canonical_names(std::vector<Tensor> tensors) {
  std::vector<Tensor> kept;
  std::size_t vision = 0;
  for (Tensor& tensor : tensors) {
    std::string& name = tensor.name;
    if (name.starts_with("language_model.")) name.erase(0, std::string_view("language_model.").size());
    if (name.starts_with("model.language_model.")) name.erase(6, std::string_view("language_model.").size());
    const std::string bare = name.starts_with("model.") ? name.substr(6) : name;
    if (bare.starts_with("vision_tower.") || bare.starts_with("multi_modal_projector.")) {
      ++vision;
      continue;
    }
    kept.push_back(std::move(tensor));
  }
  if (vision > 0) note(cat("left out ", vision, " tensors of the vision part; only the language model is used"));
  return kept;
}

// Takes MLX's settings out of a config.json: the checkpoint that is made of it may be written in other types. Null: none.
nlohmann::json take_quantization(nlohmann::json& config) {
  nlohmann::json settings;
  if (!config.is_object() || !config.contains("quantization")) return settings;
  settings = std::move(config["quantization"]);
  config.erase("quantization");
  config.erase("quantization_config");  // the same once more
  return settings;
}

// generation_config.json often knows more end tokens than config.json.
void add_generation_eos(const fs::path& folder, ModelConfig& config) {
  const fs::path path = folder / "generation_config.json";
  if (!fs::exists(path)) return;
  const nlohmann::json file = parse_json(read_text_file(path), path.string());
  if (!file.is_object() || !file.contains("eos_token_id")) return;
  const nlohmann::json& value = file["eos_token_id"];
  for (const auto& id : value.is_array() ? value : nlohmann::json::array({value}))
    if (id.is_number_unsigned() && id.get<std::int64_t>() < config.vocab_size &&
        std::find(config.eos_ids.begin(), config.eos_ids.end(), id.get<std::int64_t>()) == config.eos_ids.end())
      config.eos_ids.push_back(id.get<std::int64_t>());
}

std::string shard_name(std::size_t index, std::size_t count) {
  std::ostringstream name;
  name << "model-" << std::setfill('0') << std::setw(5) << index + 1 << "-of-" << std::setw(5) << count
       << ".safetensors";
  return name.str();
}

}  // namespace

Checkpoint open_hf(const fs::path& path) {
  const bool is_folder = fs::is_directory(path);
  const fs::path folder = is_folder ? path : path.has_parent_path() ? path.parent_path() : fs::path(".");
  const fs::path config = folder / "config.json";
  if (!fs::exists(config)) {
    if (is_folder) refuse_pickles(folder);
    fail("open model: ", folder.string(), " has no config.json; found ", list_folder(folder));
  }
  Checkpoint checkpoint;
  checkpoint.path = path;
  checkpoint.format = "hf";
  nlohmann::json json = parse_json(read_text_file(config), config.string());
  const nlohmann::json quantization = take_quantization(json);
  checkpoint.config = parse_config(json, config.string());
  add_generation_eos(folder, checkpoint.config);
  SafetensorsFile file = is_folder ? read_folder_tensors(folder) : read_safetensors(path);
  checkpoint.metadata = file.metadata;
  set_tensors(checkpoint, canonical_names(from_mlx(std::move(file.tensors), quantization, path.string())));
  checkpoint.tokenizer = read_tokenizer_data(folder);
  TokenizerData& tokenizer = checkpoint.tokenizer;
  const auto size = static_cast<std::int64_t>(tokenizer.size());
  if (tokenizer.bos_id < 0 && checkpoint.config.bos_id < size) tokenizer.bos_id = checkpoint.config.bos_id;
  if (tokenizer.eos_id < 0 && !checkpoint.config.eos_ids.empty() && checkpoint.config.eos_ids[0] < size)
    tokenizer.eos_id = checkpoint.config.eos_ids[0];
  check_tokenizer(checkpoint);
  return checkpoint;
}

namespace {

// A folder before it is written: weights by file, and the files of text.
struct HfLayout {
  std::vector<std::vector<Tensor>> shards;
  std::vector<std::string> shard_names;
  Metadata metadata;
  std::vector<TextFile> texts;
};

HfLayout lay_out(const Checkpoint& checkpoint, const HfOptions& options) {
  const bool packed = !options.type && std::any_of(checkpoint.tensors.begin(), checkpoint.tensors.end(),
                                                   [](const Tensor& tensor) { return group_format(tensor.type).has_value(); });
  HfLayout layout;
  layout.shards.resize(1);
  layout.metadata = {{"format", packed ? "mlx" : "pt"}};
  std::uint64_t size = 0, total = 0;
  for (const Tensor& tensor : packed ? to_mlx(checkpoint.tensors) : checkpoint.tensors) {
    const auto width = static_cast<std::uint64_t>(info(safetensors_type(tensor, options.type)).block_bytes);
    const std::uint64_t bytes = checked_mul(element_count(tensor.shape), width, tensor.name);
    if (size > 0 && size + bytes > options.max_shard_bytes) {
      layout.shards.emplace_back();
      size = 0;
    }
    layout.shards.back().push_back(tensor);
    size += bytes;
    total += bytes;
  }
  ModelConfig config = checkpoint.config;
  if (options.type)
    config.dtype = *options.type == Type::kF16 ? "float16" : *options.type == Type::kBF16 ? "bfloat16" : "float32";
  if (packed) config.dtype = "float16";
  nlohmann::json config_file = config_json(config);
  if (packed) config_file["quantization"] = config_file["quantization_config"] = mlx_quantization(checkpoint.tensors);

  nlohmann::json weight_map = nlohmann::json::object();
  for (std::size_t i = 0; i < layout.shards.size(); ++i) {
    layout.shard_names.push_back(layout.shards.size() == 1 ? "model.safetensors" : shard_name(i, layout.shards.size()));
    for (const Tensor& tensor : layout.shards[i]) weight_map[tensor.name] = layout.shard_names.back();
  }
  if (layout.shards.size() > 1)
    layout.texts.push_back({"model.safetensors.index.json",
                            nlohmann::json({{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}}).dump(2) + "\n"});
  layout.texts.push_back({"config.json", config_file.dump(2) + "\n"});
  for (TextFile& file : tokenizer_files(checkpoint.tokenizer)) layout.texts.push_back(std::move(file));
  return layout;
}

}  // namespace

void write_hf(const Checkpoint& checkpoint, const fs::path& folder, const HfOptions& options) {
  const HfLayout layout = lay_out(checkpoint, options);
  OutputFolder out(folder);
  for (std::size_t i = 0; i < layout.shards.size(); ++i)
    write_safetensors(out.folder() / layout.shard_names[i], layout.shards[i], layout.metadata, options.type);
  for (const TextFile& file : layout.texts) write_text_file(out.folder() / file.name, file.text);
  out.commit();
}

std::uint64_t hf_bytes(const Checkpoint& checkpoint, const HfOptions& options) {
  const HfLayout layout = lay_out(checkpoint, options);
  std::uint64_t bytes = 0;
  for (const auto& shard : layout.shards)
    bytes = checked_add(bytes, safetensors_bytes(shard, layout.metadata, options.type), "hf_bytes");
  for (const TextFile& file : layout.texts) bytes = checked_add(bytes, file.text.size(), "hf_bytes");
  return bytes;
}

}  // namespace attar
