// Which type each tensor of a model gets: llama.cpp's presets and mixes, plain groups, overrides, and what a shape does to them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <regex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "convert/checkpoint.h"
#include "convert/tensor.h"

namespace attar {

struct Preset {
  const char* name;         // llama.cpp's, lower case: "q4_k_m"; or that of a plain group
  Type type;                // what a tensor gets unless the mix says otherwise
  std::uint32_t file_type;  // general.file_type; 0 for plain groups, which GGUF does not know
};

std::span<const Preset> all_presets();
// Case does not matter; q3_k, q4_k and q5_k mean their _m mixes, as in llama.cpp. Throws Error with the nearest name.
const Preset& preset_from_name(std::string_view name);

// "REGEX=TYPE": ECMAScript, found anywhere in the tensor's canonical or GGUF name.
struct TypeOverride {
  std::string text;
  std::regex pattern;
  Type type;
};
TypeOverride parse_override(const std::string& text);  // throws Error: no '=', bad regex, unknown type

// What a matrix does in the model; the mixes depend on it.
enum class Role {
  kEmbedding, kHead, kQuery, kKey, kValue, kQkv, kAttentionOutput, kGate, kUp, kGateUp, kDown, kOther,
};

// Linears of one layer that see the same input have the same number.
int input_of(Role role);

struct TensorPlan {
  std::string name;       // canonical
  std::string gguf_name;
  Shape shape;
  Role role = Role::kOther;
  std::int64_t layer = -1;  // -1: outside the layers
  Type asked = Type::kF32;  // by the preset's mix or an override
  Type got = Type::kF32;
  std::string reason;       // why got differs from asked; empty if it does not
};

struct PlanOptions {
  const Preset* preset = nullptr;
  bool pure = false;                    // the preset's type everywhere, without its mix
  std::map<std::string, Type> assigned; // by canonical name; goes before the mix, but after overrides
  std::vector<TypeOverride> overrides;  // the first that matches wins; one that matches nothing is an Error
};

// What the overrides make of this matrix, blocks permitting; nothing: none of them matches.
std::optional<Type> overridden(const std::vector<TypeOverride>& overrides, const std::string& name, const Shape& shape);

// One entry for every matrix (tensor of two or more dimensions) among `parameters`, in their order.
std::vector<TensorPlan> plan_types(const ModelConfig& config, std::span<const ParameterSpec> parameters,
                                   const PlanOptions& options);

std::vector<TensorPlan> plan_types(const Checkpoint& model, const PlanOptions& options);

// What takes the place of `type` where its blocks do not divide a row of `columns` weights: llama.cpp's choice, or the largest
// plain group that does, else f16. `type` itself where they do.
Type fitting_type(Type type, std::int64_t columns);

}  // namespace attar
