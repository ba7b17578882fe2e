// The mixes are those of llama.cpp's llama-quantize (src/llama-quant.cpp, build 11669, MIT licence), for models without
// experts and without an importance file; the file types are those of its llama.h. Which layers get more bits was found
// there by trial on Llama models; the table of cases below is that knowledge, written down per role.
#include "quantize/presets.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "base/error.h"
#include "base/text.h"

namespace attar {
namespace {

constexpr std::array kLlamaPresets = {
    Preset{"f32", Type::kF32, 0},       Preset{"f16", Type::kF16, 1},       Preset{"bf16", Type::kBF16, 32},
    Preset{"q4_0", Type::kQ4_0, 2},     Preset{"q4_1", Type::kQ4_1, 3},     Preset{"q5_0", Type::kQ5_0, 8},
    Preset{"q5_1", Type::kQ5_1, 9},     Preset{"q8_0", Type::kQ8_0, 7},     Preset{"q2_k", Type::kQ2_K, 10},
    Preset{"q3_k_s", Type::kQ3_K, 11},  Preset{"q3_k_m", Type::kQ3_K, 12},  Preset{"q3_k_l", Type::kQ3_K, 13},
    Preset{"q4_k_s", Type::kQ4_K, 14},  Preset{"q4_k_m", Type::kQ4_K, 15},  Preset{"q5_k_s", Type::kQ5_K, 16},
    Preset{"q5_k_m", Type::kQ5_K, 17},  Preset{"q6_k", Type::kQ6_K, 18},    Preset{"iq4_nl", Type::kIQ4_NL, 25},
    Preset{"iq4_xs", Type::kIQ4_XS, 30},
};

const std::vector<Preset> kPresets = [] {
  std::vector<Preset> presets(kLlamaPresets.begin(), kLlamaPresets.end());
  for (const TypeInfo& entry : all_types())
    if (group_format(entry.type)) presets.push_back({entry.name, entry.type, 0});
  return presets;
}();

struct RoleName {
  Role role;
  const char* canonical;  // how the canonical name ends
  const char* gguf;       // what follows "blk.N." in a GGUF
};
constexpr std::array kRoles = {
    RoleName{Role::kQuery, "self_attn.q_proj.weight", "attn_q.weight"},
    RoleName{Role::kKey, "self_attn.k_proj.weight", "attn_k.weight"},
    RoleName{Role::kValue, "self_attn.v_proj.weight", "attn_v.weight"},
    RoleName{Role::kQkv, "self_attn.qkv_proj.weight", "attn_qkv.weight"},
    RoleName{Role::kAttentionOutput, "self_attn.o_proj.weight", "attn_output.weight"},
    RoleName{Role::kGate, "mlp.gate_proj.weight", "ffn_gate.weight"},
    RoleName{Role::kUp, "mlp.up_proj.weight", "ffn_up.weight"},
    RoleName{Role::kGateUp, "mlp.gate_up_proj.weight", "ffn_up.weight"},
    RoleName{Role::kDown, "mlp.down_proj.weight", "ffn_down.weight"},
};

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(), [](unsigned char c) { return std::tolower(c); });
  return result;
}

// Fills role, layer and gguf_name from the canonical name.
void identify(TensorPlan& tensor) {
  tensor.gguf_name = tensor.name;
  if (tensor.name == "model.embed_tokens.weight") {
    tensor.role = Role::kEmbedding;
    tensor.gguf_name = "token_embd.weight";
  } else if (tensor.name == "lm_head.weight") {
    tensor.role = Role::kHead;
    tensor.gguf_name = "output.weight";
  }
  constexpr std::string_view kPrefix = "model.layers.";
  if (!tensor.name.starts_with(kPrefix)) return;
  const std::size_t dot = tensor.name.find('.', kPrefix.size());
  if (dot == std::string::npos) return;
  const std::string number = tensor.name.substr(kPrefix.size(), dot - kPrefix.size());
  tensor.layer = std::stoll(number);
  const std::string rest = tensor.name.substr(dot + 1);
  for (const RoleName& entry : kRoles)
    if (rest == entry.canonical) {
      tensor.role = entry.role;
      tensor.gguf_name = cat("blk.", number, ".", entry.gguf);
    }
}

// What the mixes look at.
struct Mix {
  std::string_view preset;
  Type type;
  std::int64_t layers, heads_per_kv;
  bool tied, many_layers_gqa;
};

Type head_type(const Mix& mix, std::int64_t columns) {
  if (const auto format = group_format(mix.type)) return *group_type({format->affine, 8, format->group});
  if (columns % info(mix.type).block_weights != 0 || mix.type == Type::kQ8_0) return Type::kQ8_0;
  return Type::kQ6_K;
}

bool more_bits(std::int64_t layer, std::int64_t layers) {
  return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

Type value_type(const Mix& mix, std::int64_t layer) {
  Type type = mix.type;
  const bool grouped = mix.heads_per_kv >= 4;
  if (mix.preset == "q2_k") type = grouped ? Type::kQ4_K : Type::kQ3_K;
  if (mix.preset == "q3_k_m") type = layer < 2 ? Type::kQ5_K : Type::kQ4_K;
  if (mix.preset == "q3_k_l") type = Type::kQ5_K;
  if (mix.preset == "q4_k_s" && layer < 4) type = Type::kQ5_K;
  if ((mix.preset == "q4_k_m" || mix.preset == "q5_k_m") && more_bits(layer, mix.layers)) type = Type::kQ6_K;
  if ((mix.preset == "iq4_nl" || mix.preset == "iq4_xs") && grouped) type = Type::kQ5_K;
  if (mix.many_layers_gqa && (type == Type::kQ3_K || type == Type::kQ4_K)) type = Type::kQ5_K;
  return type;
}

Type attention_output_type(const Mix& mix) {
  if (mix.preset == "q2_k") return Type::kQ3_K;
  if (mix.preset == "q3_k_m") return Type::kQ4_K;
  if (mix.preset == "q3_k_l") return Type::kQ5_K;
  return mix.type;
}

Type down_type(const Mix& mix, std::int64_t layer) {
  const bool early = layer < mix.layers / 8;
  if (mix.preset == "q2_k") return Type::kQ3_K;
  if (mix.preset == "q3_k_m") return layer < mix.layers / 16 ? Type::kQ5_K : Type::kQ4_K;
  if (mix.preset == "q3_k_l") return Type::kQ5_K;
  if (mix.preset == "q4_k_s" && early) return Type::kQ5_K;
  if ((mix.preset == "q4_k_m" || mix.preset == "q5_k_m") && more_bits(layer, mix.layers)) return Type::kQ6_K;
  if ((mix.preset == "iq4_nl" || mix.preset == "iq4_xs") && early) return Type::kQ5_K;
  return mix.type;
}

Type mixed_type(const Mix& mix, const TensorPlan& tensor) {
  switch (tensor.role) {
    case Role::kHead: return head_type(mix, tensor.shape.back());
    case Role::kEmbedding: return mix.tied ? head_type(mix, tensor.shape.back()) : mix.type;
    case Role::kValue:
    case Role::kQkv: return value_type(mix, tensor.layer);
    case Role::kAttentionOutput: return attention_output_type(mix);
    case Role::kDown: return down_type(mix, tensor.layer);
    default: return mix.type;
  }
}

std::vector<TypeOverride>::const_iterator first_match(const std::vector<TypeOverride>& overrides, const TensorPlan& tensor) {
  return std::find_if(overrides.begin(), overrides.end(), [&](const TypeOverride& wish) {
    return std::regex_search(tensor.name, wish.pattern) || std::regex_search(tensor.gguf_name, wish.pattern);
  });
}

}  // namespace

int input_of(Role role) {
  switch (role) {
    case Role::kQuery:
    case Role::kKey:
    case Role::kValue:
    case Role::kQkv: return 0;
    case Role::kAttentionOutput: return 1;
    case Role::kGate:
    case Role::kUp:
    case Role::kGateUp: return 2;
    default: return 3;
  }
}

std::span<const Preset> all_presets() { return kPresets; }

const Preset& preset_from_name(std::string_view name) {
  std::string wanted = lower(name);
  if (wanted == "q3_k" || wanted == "q4_k" || wanted == "q5_k") wanted += "_m";
  std::vector<std::string> names;
  for (const Preset& preset : kPresets) {
    if (wanted == preset.name) return preset;
    names.emplace_back(preset.name);
  }
  fail("unknown quantization type '", name, "'", suggest(wanted, names));
}

TypeOverride parse_override(const std::string& text) {
  const std::size_t equals = text.rfind('=');
  if (equals == std::string::npos || equals == 0)
    fail("--override ", text, ": expected REGEX=TYPE, such as 'ffn_down=q6_k'");
  const std::string name = lower(text.substr(equals + 1));
  std::vector<std::string> names = quantizable_type_names();
  names.insert(names.end(), {"f32", "f16", "bf16"});
  if (std::find(names.begin(), names.end(), name) == names.end())
    fail("--override ", text, ": unknown type '", name, "'", suggest(name, names));
  try {
    return {text, std::regex(text.substr(0, equals), std::regex::ECMAScript), *type_from_name(name)};
  } catch (const std::regex_error& error) {
    fail("--override ", text, ": not a regular expression: ", error.what());
  }
}

Type fitting_type(Type type, std::int64_t columns) {
  const auto fits = [&](Type candidate) { return columns % info(candidate).block_weights == 0; };
  if (fits(type)) return type;
  if (const auto format = group_format(type)) {
    for (int group = format->group / 2; group >= 32; group /= 2)
      if (const Type smaller = *group_type({format->affine, format->bits, group}); fits(smaller)) return smaller;
    return Type::kF16;
  }
  Type smaller = Type::kF16;  // also where not even blocks of 32 fit
  switch (type) {
    case Type::kQ2_K:
    case Type::kQ3_K: smaller = Type::kQ4_0; break;
    case Type::kQ4_K: smaller = Type::kQ5_0; break;
    case Type::kQ5_K: smaller = Type::kQ5_1; break;
    case Type::kQ6_K: smaller = Type::kQ8_0; break;
    case Type::kIQ4_XS: smaller = Type::kIQ4_NL; break;
    default: break;
  }
  return fits(smaller) ? smaller : Type::kF16;
}

std::optional<Type> overridden(const std::vector<TypeOverride>& overrides, const std::string& name, const Shape& shape) {
  TensorPlan tensor;
  tensor.name = name;
  identify(tensor);
  const auto wish = first_match(overrides, tensor);
  if (wish == overrides.end()) return {};
  return fitting_type(wish->type, shape.back());
}

std::vector<TensorPlan> plan_types(const ModelConfig& config, std::span<const ParameterSpec> parameters,
                                   const PlanOptions& options) {
  // llama.cpp calls a model of 80 layers with shared key-value heads "70B" and spends more on its small value matrices.
  const bool seventy = config.layers == 80 && (config.family == Family::kQwen2 || (config.family == Family::kLlama &&
                                                                                   config.heads != config.kv_heads));
  const Mix mix{options.preset->name, options.preset->type, config.layers,
                config.kv_heads > 0 ? config.heads / config.kv_heads : 1, config.tied_embeddings, seventy};
  std::vector<bool> used(options.overrides.size(), false);
  std::vector<TensorPlan> plan;
  for (const ParameterSpec& parameter : parameters) {
    if (parameter.shape.size() < 2) continue;
    TensorPlan tensor;
    tensor.name = parameter.name;
    tensor.shape = parameter.shape;
    identify(tensor);
    tensor.asked = info(mix.type).quantized && !options.pure ? mixed_type(mix, tensor) : mix.type;
    if (const auto found = options.assigned.find(tensor.name); found != options.assigned.end()) tensor.asked = found->second;
    if (const auto wish = first_match(options.overrides, tensor); wish != options.overrides.end()) {
      tensor.asked = wish->type;
      used[static_cast<std::size_t>(wish - options.overrides.begin())] = true;
    }
    tensor.got = fitting_type(tensor.asked, tensor.shape.back());
    if (tensor.got != tensor.asked)
      tensor.reason = cat(tensor.shape.back(), " columns do not divide into blocks of ", info(tensor.asked).block_weights);
    plan.push_back(std::move(tensor));
  }
  for (std::size_t i = 0; i < used.size(); ++i)
    if (!used[i])
      fail("--override ", options.overrides[i].text, ": matches no matrix of the model, or an earlier override takes all ",
           "it matches; names look like model.layers.0.mlp.down_proj.weight or blk.0.ffn_down.weight");
  return plan;
}

std::vector<TensorPlan> plan_types(const Checkpoint& model, const PlanOptions& options) {
  std::vector<ParameterSpec> parameters;
  for (const Tensor& tensor : model.tensors) parameters.push_back({tensor.name, tensor.shape});
  return plan_types(model.config, parameters, options);
}

}  // namespace attar
