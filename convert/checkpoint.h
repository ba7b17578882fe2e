// What every reader makes and every writer takes: a model's config, tokenizer and tensors.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "convert/model_config.h"
#include "convert/tensor.h"
#include "convert/tokenizer_data.h"

namespace attar {

struct Checkpoint {
  std::filesystem::path path;
  std::string format;               // "hf" or "gguf"
  ModelConfig config;
  TokenizerData tokenizer;
  nlohmann::json metadata;          // safetensors __metadata__, or GGUF keys that the config does not hold
  std::vector<Tensor> tensors;      // canonical names; order of parameters(config)

  const Tensor* find(std::string_view name) const;   // nullptr if absent
  const Tensor& at(std::string_view name) const;     // throws Error with the nearest name
  std::uint64_t parameter_count() const;
  std::uint64_t tensor_bytes() const;
};

// path: a Hugging Face folder, a .gguf, a .safetensors beside its config.json, or "builtin:teacher". Checks that every tensor of the config is
// there with the right shape and that nothing is left over. Reads no tensor data.
Checkpoint open_checkpoint(const std::filesystem::path& path);

struct HfOptions {
  // F32, F16 or BF16; nothing: as stored. Then plain groups stay packed, as MLX packs them, and make vectors F16; ggml's
  // quantized types become F32.
  std::optional<Type> type;
  std::uint64_t max_shard_bytes = 5'000'000'000;
};
void write_hf(const Checkpoint& checkpoint, const std::filesystem::path& folder, const HfOptions& options = {});
// The size of all files that write_hf would write.
std::uint64_t hf_bytes(const Checkpoint& checkpoint, const HfOptions& options = {});

struct GgufOptions {
  std::optional<Type> type;   // for 2-D tensors: F32, F16 or BF16; nothing: as stored. 1-D tensors become F32.
  std::uint32_t file_type = 0;                    // general.file_type (llama_ftype); 0: by the plain types of the matrices
  std::string name;                               // general.name; empty: the path's stem
};
void write_gguf(const Checkpoint& checkpoint, const std::filesystem::path& file, const GgufOptions& options = {});
// The size write_gguf would give that file.
std::uint64_t gguf_bytes(const Checkpoint& checkpoint, const std::filesystem::path& file, const GgufOptions& options = {});

// Hash over config, tokenizer and all tensor bytes: two checkpoints of equal hash are the same model.
std::string checkpoint_hash(const Checkpoint& checkpoint);

}  // namespace attar
