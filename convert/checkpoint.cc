#include "convert/checkpoint.h"

#include <algorithm>
#include <unordered_map>

#include "base/data.h"
#include "base/checked.h"
#include "base/console.h"
#include "base/files.h"
#include "base/text.h"
#include "convert/checkpoint_parts.h"
#include "convert/safetensors.h"
#include "convert/slices.h"

namespace attar {
namespace {

bool ignorable(const std::string& name, const ModelConfig& config) {
  return name.ends_with("rotary_emb.inv_freq") || (config.tied_embeddings && name == "lm_head.weight") ||
         name.ends_with(".attn.masked_bias");
}

// "a, b, c and 5 more"
std::string list_names(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 5;
  std::string text;
  for (std::size_t i = 0; i < std::min(kShown, names.size()); ++i) text += (i == 0 ? "" : ", ") + names[i];
  return names.size() > kShown ? cat(text, " and ", names.size() - kShown, " more") : text;
}

}  // namespace

void set_tensors(Checkpoint& checkpoint, std::vector<Tensor> tensors) {
  const std::string file = checkpoint.path.string();
  std::unordered_map<std::string, Tensor*> by_name;
  for (Tensor& tensor : tensors)
    if (!by_name.emplace(tensor.name, &tensor).second) fail(file, ": tensor '", tensor.name, "' occurs twice");
  std::vector<std::string> missing;
  for (const ParameterSpec& spec : parameters(checkpoint.config)) {
    const auto found = by_name.find(spec.name);
    if (found == by_name.end()) {
      missing.push_back(spec.name);
      continue;
    }
    Tensor& tensor = *found->second;
    if (tensor.shape != spec.shape)
      fail(file, ": ", spec.name, " has shape ", shape_text(tensor.shape), ", the config asks for ",
           shape_text(spec.shape));
    if (!info(tensor.type).quantized && tensor.type != Type::kF32 && tensor.type != Type::kF16 &&
        tensor.type != Type::kBF16 && tensor.type != Type::kF64)
      fail(file, ": ", spec.name, " holds ", info(tensor.type).name, "; a weight must be floating point");
    checkpoint.tensors.push_back(std::move(tensor));
    by_name.erase(found);
  }
  if (!missing.empty())
    fail(file, ": ", missing.size(), " tensors that the config asks for are missing: ", list_names(missing));
  std::vector<std::string> left;
  for (const auto& [name, tensor] : by_name)
    if (!ignorable(name, checkpoint.config)) left.push_back(name);
  std::sort(left.begin(), left.end());
  if (!left.empty()) fail(file, ": ", left.size(), " tensors do not belong to this config: ", list_names(left));
}

void check_tokenizer(Checkpoint& checkpoint) {
  TokenizerData& data = checkpoint.tokenizer;
  const auto vocab = static_cast<std::size_t>(checkpoint.config.vocab_size);
  if (data.tokens.size() <= vocab) return;
  for (std::size_t id = vocab; id < data.tokens.size(); ++id) {
    const bool added = std::any_of(data.added.begin(), data.added.end(),
                                   [&](const AddedToken& token) { return token.id == static_cast<std::int64_t>(id); });
    if (!added && data.types[id] != TokenType::kUnused)
      fail(checkpoint.path.string(), ": the tokenizer does not match the vocabulary: it has ", data.tokens.size(),
           " tokens, the model ", vocab, "; the tokenizer files are of another model");
  }
  warn(cat(checkpoint.path.string(), ": ", data.tokens.size() - vocab, " added tokens lie past the vocabulary of ",
           vocab, " and are left out, the first is '", data.tokens[vocab], "'"));
  data.tokens.resize(vocab);
  data.types.resize(vocab);
  if (data.scores.size() > vocab) data.scores.resize(vocab);
  std::erase_if(data.added, [&](const AddedToken& token) { return token.id >= static_cast<std::int64_t>(vocab); });
}

const Tensor* Checkpoint::find(std::string_view name) const {
  for (const Tensor& tensor : tensors)
    if (tensor.name == name) return &tensor;
  return nullptr;
}

const Tensor& Checkpoint::at(std::string_view name) const {
  if (const Tensor* tensor = find(name)) return *tensor;
  std::vector<std::string> names;
  for (const Tensor& tensor : tensors) names.push_back(tensor.name);
  const std::string near = nearest(name, names);
  fail(path.string(), ": there is no tensor '", name, "'", near.empty() ? "" : "; did you mean '" + near + "'?");
}

std::uint64_t Checkpoint::parameter_count() const {
  std::uint64_t count = 0;
  for (const Tensor& tensor : tensors) count = checked_add(count, element_count(tensor.shape), "parameters");
  return count;
}

std::uint64_t Checkpoint::tensor_bytes() const {
  std::uint64_t bytes = 0;
  for (const Tensor& tensor : tensors) bytes = checked_add(bytes, tensor.bytes(), "tensor bytes");
  return bytes;
}

Checkpoint open_checkpoint(const fs::path& name) {
  const fs::path path = model_path(name.string());
  std::error_code error;
  if (!fs::exists(path, error)) fail("open model: ", path.string(), " does not exist");
  if (fs::is_directory(path)) return open_hf(path);
  const std::string extension = path.extension().string();
  if (extension == ".gguf") return open_gguf(path);
  if (extension == ".safetensors") return open_hf(path);
  if (extension == ".bin" || extension == ".pt" || extension == ".pth" || extension == ".ckpt")
    fail("open model: ", path.string(),
         " is a pickle, which can run code when it is loaded; convert it where you trust it, "
         "with transformers' save_pretrained(folder, safe_serialization=True), and give the folder");
  fail("open model: ", path.string(),
       " is neither a folder with config.json and *.safetensors nor a .gguf or .safetensors file");
}

std::string checkpoint_hash(const Checkpoint& checkpoint) {
  ContentHash hash;
  hash.add(config_json(checkpoint.config).dump());
  const TokenizerData& tokenizer = checkpoint.tokenizer;
  const auto add_text = [&](std::string_view text) {
    hash.add(std::to_string(text.size()) + ":");
    hash.add(text);
  };
  add_text(std::to_string(static_cast<int>(tokenizer.kind)));
  for (const std::string& token : tokenizer.tokens) add_text(token);
  for (const auto& [left, right] : tokenizer.merges) add_text(left), add_text(right);
  hash.add(as_bytes(std::string_view(reinterpret_cast<const char*>(tokenizer.scores.data()),
                                     tokenizer.scores.size() * sizeof(float))));
  Slices slices([&](ByteView bytes) { hash.add(bytes); });
  for (const Tensor& tensor : checkpoint.tensors) {
    add_text(cat(tensor.name, " ", info(tensor.type).name, " ", shape_text(tensor.shape)));
    slices.add(tensor, tensor.type);
    slices.finish();
  }
  return hash.hex();
}

}  // namespace attar
