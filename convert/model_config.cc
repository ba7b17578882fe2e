// config.json of transformers 4 and 5, with the defaults that transformers' own configuration classes have
// (https://github.com/huggingface/transformers, src/transformers/models/*/configuration_*.py).
#include "convert/model_config.h"

#include <cmath>

#include "base/error.h"
#include "base/text.h"
#include "convert/json.h"
#include "convert/rope_config.h"

namespace attar {
namespace {

// Far above every known model; a config that asks for more lies.
constexpr std::int64_t kMaxHidden = 1 << 17, kMaxIntermediate = 1 << 20, kMaxLayers = 1024, kMaxHeads = 1024,
                       kMaxHeadDim = 8192, kMaxVocab = 1 << 22, kMaxPositions = std::int64_t{1} << 40;

// What transformers assumes where config.json is silent.
struct Defaults {
  std::int64_t vocab, hidden, intermediate, layers, heads, kv_heads, head_dim, positions;  // 0: see parse_sizes
  double eps;
  bool tied;
  std::int64_t window;
};

Defaults defaults(Family family) {
  switch (family) {
    case Family::kLlama:
      return {32000, 4096, 11008, 32, 32, 0, 0, 2048, 1e-6, false, 0};
    case Family::kMistral:
      return {32000, 4096, 14336, 32, 32, 8, 0, 131072, 1e-6, false, 4096};
    case Family::kQwen2:
      return {151936, 4096, 22016, 32, 32, 32, 0, 32768, 1e-6, false, 4096};
    case Family::kQwen3:
      return {151936, 4096, 22016, 32, 32, 32, 128, 32768, 1e-6, false, 4096};
    case Family::kPhi3:
      return {32064, 3072, 8192, 32, 32, 0, 0, 4096, 1e-5, false, 0};
    case Family::kGemma2:
      return {256000, 2304, 9216, 26, 8, 4, 256, 8192, 1e-6, true, 4096};
    case Family::kGemma3:
      return {262208, 2304, 9216, 26, 8, 4, 256, 131072, 1e-6, true, 4096};
  }
  fail("no such model family");
}

bool is_gemma(Family family) { return family == Family::kGemma2 || family == Family::kGemma3; }

Family parse_family(const JsonReader& json) {
  const nlohmann::json* architectures = json.find("architectures");
  const std::string architecture = architectures != nullptr && architectures->is_array() && !architectures->empty() &&
                                           (*architectures)[0].is_string()
                                       ? (*architectures)[0].get<std::string>()
                                       : "";
  const std::string type = json.text("model_type", "");
  if (type.empty() && architecture.empty())
    fail(json.source(), ": the key 'model_type' is missing; this is not the config of a language model");
  std::vector<std::string> names;
  for (const FamilyInfo& family : all_families()) {
    if (!type.empty() ? type == family.model_type : architecture == family.architecture) return family.family;
    names.emplace_back(family.model_type);
  }
  const std::string found = type.empty() ? architecture : type;
  fail(json.source(), ": unknown architecture '", found.substr(0, 60), "'", suggest(found, names));
}

void parse_sizes(const JsonReader& json, const Defaults& otherwise, ModelConfig& config) {
  // The sizes that make the tensors are asked for by name: a config without them is broken, whatever class defaults
  // say.
  config.hidden_size = json.integer("hidden_size", 1, kMaxHidden);
  config.layers = json.integer("num_hidden_layers", 1, kMaxLayers);
  config.heads = json.integer("num_attention_heads", 1, kMaxHeads);
  config.intermediate_size = json.integer("intermediate_size", 1, kMaxIntermediate);
  config.vocab_size = json.integer("vocab_size", 1, kMaxVocab);
  config.kv_heads =
      json.integer("num_key_value_heads", 1, kMaxHeads, otherwise.kv_heads == 0 ? config.heads : otherwise.kv_heads);
  if (config.heads % config.kv_heads != 0)
    fail(json.source(), ": 'num_attention_heads' ", config.heads, " is not a multiple of 'num_key_value_heads' ",
         config.kv_heads);
  if (otherwise.head_dim == 0 && !json.has("head_dim") && config.hidden_size % config.heads != 0)
    fail(json.source(), ": 'hidden_size' ", config.hidden_size, " is not a multiple of 'num_attention_heads' ",
         config.heads, " and there is no 'head_dim'");
  config.head_dim = json.integer("head_dim", 1, kMaxHeadDim,
                                 otherwise.head_dim == 0 ? config.hidden_size / config.heads : otherwise.head_dim);
  config.max_positions = json.integer("max_position_embeddings", 1, kMaxPositions, otherwise.positions);
}

Activation parse_activation(const JsonReader& json, Family family) {
  const std::string name =
      is_gemma(family) ? json.text("hidden_activation", "gelu_pytorch_tanh") : json.text("hidden_act", "silu");
  if (name == "silu" || name == "swish") return Activation::kSilu;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new") return Activation::kGeluTanh;
  if (name == "gelu") return Activation::kGelu;
  fail(json.source(), ": unknown activation '", name.substr(0, 40), "'; one of silu, gelu_pytorch_tanh, gelu");
}

void parse_biases(const JsonReader& json, ModelConfig& config) {
  const bool attention = json.boolean("attention_bias", false);
  switch (config.family) {
    case Family::kLlama:
      config.qkv_bias = config.output_bias = attention;
      config.mlp_bias = json.boolean("mlp_bias", false);
      break;
    case Family::kQwen2:
      config.qkv_bias = true;
      break;  // always, and never on the output
    case Family::kQwen3:
    case Family::kGemma2:
    case Family::kGemma3:
      config.qkv_bias = config.output_bias = attention;
      break;
    case Family::kMistral:
    case Family::kPhi3:
      break;  // never
  }
}

// Which layers see only a window, by each family's own rule unless layer_types says it.
void parse_windows(const JsonReader& json, const Defaults& otherwise, ModelConfig& config) {
  const bool qwen = config.family == Family::kQwen2 || config.family == Family::kQwen3;
  // A window that is null is none, one that is absent is the class default; Qwen has a switch besides.
  const bool absent = json.json().find("sliding_window") == json.json().end();
  config.sliding_window = json.integer("sliding_window", 1, kMaxPositions, absent ? otherwise.window : 0);
  if (qwen && !json.boolean("use_sliding_window", false)) config.sliding_window = 0;
  if (config.family == Family::kLlama) config.sliding_window = 0;
  config.sliding_layers.assign(static_cast<std::size_t>(config.layers), false);
  if (config.sliding_window == 0) return;

  const nlohmann::json* types = json.find("layer_types");
  if (types != nullptr) {
    if (!types->is_array() || types->size() != config.sliding_layers.size())
      fail(json.source(), ": 'layer_types' must list ", config.layers, " layers");
    for (std::size_t i = 0; i < types->size(); ++i) {
      const nlohmann::json& type = (*types)[i];
      if (type != "sliding_attention" && type != "full_attention")
        fail(json.source(), ": 'layer_types' entry ", i, " must be sliding_attention or full_attention, found ",
             type.dump(-1, ' ', true).substr(0, 60));
      config.sliding_layers[i] = type == "sliding_attention";
    }
    return;
  }
  const std::int64_t max_window_layers = qwen ? json.integer("max_window_layers", 0, kMaxPositions, 28) : 0;
  const std::int64_t pattern = config.family == Family::kGemma3
                                   ? json.integer("sliding_window_pattern", 1, kMaxLayers,
                                                  json.integer("_sliding_window_pattern", 1, kMaxLayers, 6))
                                   : 2;
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const bool sliding = qwen ? i >= max_window_layers : is_gemma(config.family) ? (i + 1) % pattern != 0 : true;
    config.sliding_layers[static_cast<std::size_t>(i)] = sliding;
  }
}

std::vector<std::int64_t> parse_eos(const JsonReader& json) {
  const nlohmann::json* value = json.find("eos_token_id");
  if (value == nullptr) return {};
  std::vector<std::int64_t> ids;
  const nlohmann::json list = value->is_array() ? *value : nlohmann::json::array({*value});
  for (const nlohmann::json& id : list) {
    if (!id.is_number_integer() || id.get<std::int64_t>() < -1 || id.get<std::int64_t>() > kMaxVocab)
      fail(json.source(), ": 'eos_token_id' must hold token ids, found ", id.dump(-1, ' ', true).substr(0, 60));
    if (id.get<std::int64_t>() >= 0) ids.push_back(id.get<std::int64_t>());
  }
  return ids;
}

// The nested text_config of a multimodal config ("gemma3"), with what only the outer level says.
nlohmann::json text_config(const nlohmann::json& config) {
  if (!config.is_object() || !config.contains("text_config") || !config["text_config"].is_object()) return config;
  nlohmann::json text = config["text_config"];
  for (const char* key :
       {"torch_dtype", "dtype", "eos_token_id", "bos_token_id", "pad_token_id", "tie_word_embeddings"})
    if (!text.contains(key) && config.contains(key)) text[key] = config[key];
  text.erase("architectures");
  if (!text.contains("model_type"))
    text["model_type"] = config.value("model_type", "") == "gemma3" ? "gemma3_text" : "";
  return text;
}

// A whole number as an integer: transformers refuses 64.0 where its class says int.
nlohmann::json whole(double value) {
  if (value == std::floor(value)) return static_cast<std::int64_t>(value);
  return value;
}

}  // namespace

ModelConfig parse_config(const nlohmann::json& file, std::string_view source) {
  const nlohmann::json text = text_config(file);
  const JsonReader json(text, std::string(source));
  ModelConfig config;
  config.hf = text;
  config.family = parse_family(json);
  const Defaults otherwise = defaults(config.family);
  const bool gemma = is_gemma(config.family);
  if (json.has("quantization_config"))
    fail(source,
         ": the weights are already packed by another quantizer (quantization_config); start from the original "
         "F32, F16 or BF16 checkpoint");

  parse_sizes(json, otherwise, config);
  config.norm_eps = json.number("rms_norm_eps", 1e-30, 1.0, otherwise.eps);
  config.activation = parse_activation(json, config.family);
  config.tied_embeddings = json.boolean("tie_word_embeddings", otherwise.tied);
  parse_biases(json, config);
  config.qk_norm = config.family == Family::kQwen3 || config.family == Family::kGemma3;
  config.norm_adds_one = config.post_norms = config.scaled_embeddings = gemma;
  config.fused_qkv = config.fused_gate_up = config.family == Family::kPhi3;
  config.attention_scale = 1.0 / std::sqrt(gemma ? json.number("query_pre_attn_scalar", 1e-6, 1e9, 256.0)
                                                 : static_cast<double>(config.head_dim));
  if (gemma) {
    // Absent and null differ here: null switches the cap off, absence means the class default.
    const bool gemma2 = config.family == Family::kGemma2;
    const auto cap = [&](const char* key, double absent) {
      return json.number(key, 0.0, 1e9, gemma2 && !text.contains(key) ? absent : 0.0);
    };
    config.attention_softcap = cap("attn_logit_softcapping", 50.0);
    config.final_softcap = cap("final_logit_softcapping", 30.0);
  }
  parse_windows(json, otherwise, config);
  parse_rope(json, config);
  config.eos_ids = parse_eos(json);
  config.bos_id = json.integer("bos_token_id", -1, kMaxVocab, -1);
  config.pad_id = json.integer("pad_token_id", -1, kMaxVocab, -1);
  config.dtype = json.text("dtype", json.text("torch_dtype", "float32"));
  return config;
}

nlohmann::json config_json(const ModelConfig& config) {
  nlohmann::json json = config.hf.is_object() ? config.hf : nlohmann::json::object();
  const FamilyInfo& family = info(config.family);
  const bool gemma = is_gemma(config.family);
  json["architectures"] = {family.architecture};
  json["model_type"] = family.model_type;
  json["hidden_size"] = config.hidden_size;
  json["intermediate_size"] = config.intermediate_size;
  json["num_hidden_layers"] = config.layers;
  json["num_attention_heads"] = config.heads;
  json["num_key_value_heads"] = config.kv_heads;
  json["head_dim"] = config.head_dim;
  json["vocab_size"] = config.vocab_size;
  json["max_position_embeddings"] = config.max_positions;
  json["rms_norm_eps"] = config.norm_eps;
  json["tie_word_embeddings"] = config.tied_embeddings;
  json[gemma ? "hidden_activation" : "hidden_act"] = config.activation == Activation::kSilu       ? "silu"
                                                     : config.activation == Activation::kGeluTanh ? "gelu_pytorch_tanh"
                                                                                                  : "gelu";
  if (config.family == Family::kLlama || config.family == Family::kQwen3 || gemma)
    json["attention_bias"] = config.qkv_bias;
  if (config.family == Family::kLlama) json["mlp_bias"] = config.mlp_bias;
  if (gemma) {
    const double scalar = 1.0 / (config.attention_scale * config.attention_scale);
    json["query_pre_attn_scalar"] = whole(std::round(scalar * 1e6) / 1e6);
    const auto cap = [](double value) { return value == 0 ? nlohmann::json() : nlohmann::json(value); };
    json["attn_logit_softcapping"] = cap(config.attention_softcap);
    json["final_logit_softcapping"] = cap(config.final_softcap);
  }
  if (config.family != Family::kLlama) {
    const bool qwen = config.family == Family::kQwen2 || config.family == Family::kQwen3;
    json["sliding_window"] = config.sliding_window == 0 ? nlohmann::json() : nlohmann::json(config.sliding_window);
    if (qwen) json["use_sliding_window"] = config.sliding_window > 0;
    if (qwen || gemma) {
      nlohmann::json types = nlohmann::json::array();
      for (std::int64_t i = 0; i < config.layers; ++i)
        types.push_back(config.is_sliding(i) ? "sliding_attention" : "full_attention");
      json["layer_types"] = types;
    }
  }
  write_rope(config, json);
  if (config.eos_ids.size() == 1) json["eos_token_id"] = config.eos_ids[0];
  if (config.eos_ids.size() > 1) json["eos_token_id"] = config.eos_ids;
  if (config.bos_id >= 0) json["bos_token_id"] = config.bos_id;
  if (config.pad_id >= 0) json["pad_token_id"] = config.pad_id;
  json["dtype"] = json["torch_dtype"] = config.dtype;
  return json;
}

}  // namespace attar
