// Golden vectors: what a runtime's own tests compare with. A folder of safetensors files and an index (golden.json),
// which docs/kernels.md describes.
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "convert/checkpoint.h"
#include "convert/safetensors.h"
#include "kernels_ref/attar_kernels.h"

namespace attar::cli {

// The tensors of one file, and what the index says about them.
struct GoldenPart {
  std::vector<Tensor> tensors;
  nlohmann::json index;
};

// Names of attar_activations in tensors' names and in the index.
inline constexpr const char* kActivationNames[] = {"f32", "q8_0", "q8_k", "int8_row"};

// Packed blocks of every type with their floats, activations in every rounding, and the products of the two.
GoldenPart golden_kernels(const Checkpoint& checkpoint, std::uint64_t seed);
// Rotation tables and attention as the model's config asks for them, computed in double. tokens: of the attention.
GoldenPart golden_attention(const ModelConfig& config, std::int64_t tokens, std::uint64_t seed);
// The embedding, every layer's output and the logits for ids, in float32 on the decoded weights.
GoldenPart golden_layers(const Checkpoint& checkpoint, const std::vector<std::int64_t>& ids);

// --- checking --------------------------------------------------------------------------------------------------------

// Functions of attar_kernels.h, those of this program or of a library; null where a library does not have one.
struct KernelFunctions {
  decltype(&attar_type_by_name) type_by_name = nullptr;  // never null
  decltype(&attar_decode_row) decode_row = nullptr;
  decltype(&attar_encode_activations) encode_activations = nullptr;
  decltype(&attar_dot) dot = nullptr;
  decltype(&attar_gemv) gemv = nullptr;
  decltype(&attar_gemm) gemm = nullptr;
  decltype(&attar_kernels_last_error) last_error = nullptr;
};
KernelFunctions own_kernels();
// The library stays open. Throws Error for a file that cannot be loaded or has none of the functions.
KernelFunctions load_kernels(const std::string& library);

struct Difference {
  std::string function, tensor, type, activations;
  std::int64_t row = 0, column = 0;  // in the tensor
  double expected = 0, got = 0, tolerance = 0;
  std::string error;  // instead of the numbers: what the function answered
};
struct KernelCheck {
  std::uint64_t values = 0;              // compared
  std::vector<Difference> differences;   // the first of each function and tensor
  std::vector<std::string> not_checked;  // types and functions that the library lacks
};
KernelCheck check_kernels(const KernelFunctions& kernels, const SafetensorsFile& file, const nlohmann::json& index);

}  // namespace attar::cli
