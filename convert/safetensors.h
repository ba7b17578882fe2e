// The safetensors format (https://github.com/huggingface/safetensors): u64 header length, a JSON header that gives
// every tensor's dtype, shape and byte range, then the data without holes. docs/formats/safetensors.md.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "convert/tensor.h"

namespace attar {

using Metadata = std::map<std::string, std::string>;

struct SafetensorsFile {
  std::vector<Tensor> tensors;  // in the order of their data; read lazily, they keep the file mapped
  Metadata metadata;
};

// Checks the whole header before it hands out anything. Throws Error naming the file and what is wrong.
SafetensorsFile read_safetensors(const std::filesystem::path& path);
// The tensors of all shards that an index (model.safetensors.index.json) names; shards lie beside the index.
SafetensorsFile read_sharded_safetensors(const std::filesystem::path& index);

// Writes plain tensors, streamed, in the order given; the same input gives the same bytes. stored_as: the type of all
// tensors of floats; nothing: as they are, quantized ones become F32. Atomic.
void write_safetensors(const std::filesystem::path& path, const std::vector<Tensor>& tensors,
                       const Metadata& metadata = {}, std::optional<Type> stored_as = {});

// The size write_safetensors would give that file.
std::uint64_t safetensors_bytes(const std::vector<Tensor>& tensors, const Metadata& metadata = {}, std::optional<Type> stored_as = {});

// The type in which `tensor` is written to safetensors when `stored_as` was asked for.
Type safetensors_type(const Tensor& tensor, std::optional<Type> stored_as);

}  // namespace attar
