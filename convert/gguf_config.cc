#include <charconv>
#include <cmath>

#include "base/console.h"
#include "base/text.h"
#include "convert/gguf_model.h"
#include "convert/rope_config.h"

namespace attar {
namespace {

constexpr std::int64_t kMaxSize = std::int64_t{1} << 40;
constexpr std::int64_t kMaxLayers = 1024;  // lists of layers are made before the whole config is checked

// GGUF holds 1e-5 as a float; the shortest decimal that means the same float is what the config said.
double decimal(double value) {
  char text[64];
  const auto end = std::to_chars(text, text + sizeof text, static_cast<float>(value)).ptr;
  double result = value;
  std::from_chars(text, end, result);
  return result;
}

Family family_of(const GgufFile& file) {
  const std::string architecture = file.text("general.architecture");
  std::vector<std::string> names;
  for (const FamilyInfo& family : all_families()) {
    if (family.family == Family::kMistral) continue;  // the same GGUF architecture as Llama
    if (architecture == family.gguf)
      return family.family == Family::kLlama && file.has("attar.sliding_window") ? Family::kMistral : family.family;
    names.emplace_back(family.gguf);
  }
  fail(file.source(), ": unknown architecture '", architecture.substr(0, 60), "'", suggest(architecture, names));
}

const GgufTensor* find_tensor(const GgufFile& file, std::string_view name) {
  for (const GgufTensor& tensor : file.tensors())
    if (tensor.name == name) return &tensor;
  return nullptr;
}

std::vector<double> tensor_values(const GgufFile& file, std::string_view name) {
  const GgufTensor* tensor = find_tensor(file, name);
  if (tensor == nullptr) return {};
  if (tensor->type != Type::kF32 || tensor->shape.size() != 1 || tensor->shape[0] > 65536)
    fail(file.source(), ": ", name, " must be a short row of f32");
  std::vector<float> values(static_cast<std::size_t>(tensor->shape[0]));
  std::memcpy(values.data(), tensor->bytes.data(), tensor->bytes.size());
  return {values.begin(), values.end()};
}

std::vector<double> decimals(std::vector<double> values) {
  for (double& value : values) value = decimal(value);
  return values;
}

// rope_scaling as config.json would have it, or null.
nlohmann::json read_scaling(const GgufFile& file, const std::string& rope, const nlohmann::json& config) {
  const std::string type = file.text(rope + "scaling.type", "none");
  const std::int64_t original = file.integer(rope + "scaling.original_context_length", 0, kMaxSize, 0);
  const auto optional = [&](nlohmann::json& json, const char* name, const std::string& key) {
    if (file.has(rope + key)) json[name] = decimal(file.number(rope + key, 0, 1e9));
  };
  nlohmann::json scaling;
  if (file.has("attar.rope.dynamic_factor")) {
    scaling = {{"rope_type", "dynamic"}, {"factor", decimal(file.number("attar.rope.dynamic_factor", 1e-6, 1e6))}};
  } else if (const auto factors = tensor_values(file, "rope_freqs.weight"); !factors.empty()) {
    Rope llama3;
    llama3.theta = config["rope_theta"].get<double>();
    if (recover_llama3(factors, llama3, config["head_dim"].get<std::int64_t>()))
      return {{"rope_type", "llama3"},
              {"factor", llama3.factor},
              {"low_freq_factor", llama3.low_freq_factor},
              {"high_freq_factor", llama3.high_freq_factor},
              {"original_max_position_embeddings", llama3.original_max_positions}};
    // Any other division of the frequencies is a longrope whose two lists agree.
    scaling = {{"rope_type", "longrope"},
               {"factor", 1.0},
               {"attention_factor", 1.0},
               {"short_factor", factors},
               {"long_factor", factors}};
  } else if (find_tensor(file, "rope_factors_long.weight") != nullptr) {
    scaling = {{"rope_type", "longrope"},
               {"short_factor", decimals(tensor_values(file, "rope_factors_short.weight"))},
               {"long_factor", decimals(tensor_values(file, "rope_factors_long.weight"))}};
    const double scale =
        original > 0 ? config["max_position_embeddings"].get<double>() / static_cast<double>(original) : 1.0;
    const double usual = scale > 1 ? std::sqrt(1 + std::log(scale) / std::log(static_cast<double>(original))) : 1.0;
    const double factor = file.number(rope + "scaling.attn_factor", 1e-6, 1e6, usual);
    if (std::abs(factor - usual) > 1e-6 * usual) scaling["attention_factor"] = decimal(factor);
    scaling["factor"] = scale;
  } else if (type == "linear" || type == "yarn") {
    scaling = {{"rope_type", type}, {"factor", decimal(file.number(rope + "scaling.factor", 1e-6, 1e6))}};
    optional(scaling, "attention_factor", "scaling.yarn_attn_factor");
    optional(scaling, "beta_fast", "scaling.yarn_beta_fast");
    optional(scaling, "beta_slow", "scaling.yarn_beta_slow");
    if (file.has(rope + "scaling.yarn_truncate"))
      scaling["truncate"] = file.boolean(rope + "scaling.yarn_truncate", true);
  } else if (type != "none") {
    fail(file.source(), ": ", rope, "scaling.type '", type.substr(0, 40), "' is not known here");
  }
  if (!scaling.is_null() && original > 0) scaling["original_max_position_embeddings"] = original;
  return scaling;
}

void read_windows(const GgufFile& file, const std::string& arch, Family family, nlohmann::json& json) {
  const bool gemma = family == Family::kGemma2 || family == Family::kGemma3;
  const std::string key = file.has("attar.sliding_window") ? "attar.sliding_window" : arch + "attention.sliding_window";
  const std::int64_t window = file.integer(key, 0, kMaxSize, family == Family::kGemma2 ? 4096 : 0);
  json["sliding_window"] = window == 0 ? nlohmann::json() : nlohmann::json(window);
  if (family == Family::kQwen2 || family == Family::kQwen3) json["use_sliding_window"] = window > 0;
  if (window == 0) return;
  const std::string pattern = gemma ? arch + "attention.sliding_window_pattern" : "attar.sliding_layers";
  const GgufValue* value = file.find(pattern);
  if (value != nullptr && value->type == GgufType::kArray) {
    json["layer_types"] = nlohmann::json::array();
    for (const double sliding : file.numbers(pattern))
      json["layer_types"].push_back(sliding != 0 ? "sliding_attention" : "full_attention");
  } else if (gemma) {
    const std::int64_t period = file.integer(pattern, 1, 1024, family == Family::kGemma3 ? 6 : 2);
    json["layer_types"] = nlohmann::json::array();
    for (std::int64_t i = 0; i < json["num_hidden_layers"].get<std::int64_t>(); ++i)
      json["layer_types"].push_back((i + 1) % period != 0 ? "sliding_attention" : "full_attention");
  }
}

// llama.cpp has no key for it: its two largest Gemmas scale by the hidden size, all others by the head.
double usual_query_scalar(const ModelConfig& config) {
  const bool largest = (config.family == Family::kGemma2 && config.layers == 46) ||
                       (config.family == Family::kGemma3 && config.layers == 62);
  return static_cast<double>(largest ? config.hidden_size / config.heads : config.head_dim);
}

const char* majority_dtype(const GgufFile& file) {
  std::uint64_t f16 = 0, bf16 = 0, other = 0;
  for (const GgufTensor& tensor : file.tensors())
    (tensor.type == Type::kF16 ? f16 : tensor.type == Type::kBF16 ? bf16 : other) += tensor.bytes.size();
  return f16 > bf16 && f16 > other ? "float16" : bf16 > f16 && bf16 > other ? "bfloat16" : "float32";
}

}  // namespace

ModelConfig read_gguf_config(const GgufFile& file) {
  const Family family = family_of(file);
  const std::string arch = std::string(info(family).gguf) + ".", rope = arch + "rope.";
  nlohmann::json json = {{"model_type", info(family).model_type}, {"architectures", {info(family).architecture}}};
  json["num_hidden_layers"] = file.integer(arch + "block_count", 1, kMaxLayers);
  json["max_position_embeddings"] = file.integer(arch + "context_length", 1, kMaxSize);
  const std::int64_t hidden = file.integer(arch + "embedding_length", 1, kMaxSize);
  const std::int64_t heads = file.integer(arch + "attention.head_count", 1, kMaxSize);
  const std::int64_t head_dim =
      file.integer(arch + "attention.key_length", 1, kMaxSize, std::max<std::int64_t>(1, hidden / heads));
  if (file.integer(arch + "attention.value_length", 1, kMaxSize, head_dim) != head_dim)
    fail(file.source(), ": keys of ", head_dim, " and values of another length are not supported");
  json["hidden_size"] = hidden;
  json["intermediate_size"] = file.integer(arch + "feed_forward_length", 1, kMaxSize);
  json["num_attention_heads"] = heads;
  json["num_key_value_heads"] = file.integer(arch + "attention.head_count_kv", 1, kMaxSize, heads);
  json["head_dim"] = head_dim;
  json["rms_norm_eps"] = decimal(file.number(arch + "attention.layer_norm_rms_epsilon", 0, 1));
  const GgufTensor* embedding = find_tensor(file, "token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2)
    fail(file.source(), ": there is no matrix token_embd.weight");
  json["vocab_size"] = embedding->shape[0];
  json["tie_word_embeddings"] = find_tensor(file, "output.weight") == nullptr;
  json["rope_theta"] = decimal(file.number(rope + "freq_base", 1e-3, 1e15, 10000.0));
  const auto dimensions = static_cast<double>(file.integer(rope + "dimension_count", 1, head_dim, head_dim));
  if (dimensions < static_cast<double>(head_dim))
    json["partial_rotary_factor"] = dimensions / static_cast<double>(head_dim);
  json["rope_scaling"] = read_scaling(file, rope, json);
  if (family == Family::kPhi3) {
    const std::int64_t original = file.integer(rope + "scaling.original_context_length", 0, kMaxSize, 0);
    if (original > 0 && !json["rope_scaling"].is_null()) json["original_max_position_embeddings"] = original;
  }
  read_windows(file, arch, family, json);
  if (family == Family::kGemma3)
    json["rope_local_base_freq"] = decimal(file.number(rope + "freq_base_swa", 1e-3, 1e15, 10000.0));
  if (family == Family::kGemma2 || family == Family::kGemma3) {
    json["query_pre_attn_scalar"] = 1.0;  // for parse_config; set below, when the sizes are known
    const bool gemma2 = family == Family::kGemma2;
    const auto cap = [&](const std::string& key, double usual) {
      const double value = decimal(file.number(arch + key, 0, 1e9, gemma2 ? usual : 0.0));
      return value == 0 ? nlohmann::json() : nlohmann::json(value);
    };
    json["attn_logit_softcapping"] = cap("attn_logit_softcapping", 50.0);
    json["final_logit_softcapping"] = cap("final_logit_softcapping", 30.0);
  }
  const bool attention_bias = find_tensor(file, "blk.0.attn_q.bias") != nullptr;
  if (attention_bias && family != Family::kQwen2) json["attention_bias"] = true;
  if (find_tensor(file, "blk.0.ffn_up.bias") != nullptr) json["mlp_bias"] = true;
  json["torch_dtype"] = majority_dtype(file);
  const auto id = [&](const char* key) { return file.integer(cat("tokenizer.ggml.", key), -1, UINT32_MAX, -1); };
  if (const std::int64_t bos = id("bos_token_id"); bos >= 0) json["bos_token_id"] = bos;
  if (const std::int64_t pad = id("padding_token_id"); pad >= 0) json["pad_token_id"] = pad;
  nlohmann::json eos = nlohmann::json::array();
  for (const char* key : {"eos_token_id", "eot_token_id", "eom_token_id"})
    if (const std::int64_t token = id(key); token >= 0 && std::find(eos.begin(), eos.end(), token) == eos.end())
      eos.push_back(token);
  if (!eos.empty()) json["eos_token_id"] = eos.size() == 1 ? eos[0] : eos;

  ModelConfig config = parse_config(json, file.source());
  if (json.contains("query_pre_attn_scalar")) {
    const double scalar = decimal(file.number("attar.query_pre_attn_scalar", 1e-6, 1e9, usual_query_scalar(config)));
    config.attention_scale = 1.0 / std::sqrt(scalar);
    config.hf["query_pre_attn_scalar"] = scalar;
  }
  return config;
}

namespace {

void write_windows(const ModelConfig& config, const std::string& arch, GgufWriter& writer) {
  const bool gemma = config.family == Family::kGemma2 || config.family == Family::kGemma3;
  if (config.family == Family::kPhi3 || (gemma && config.sliding_window > 0))
    writer.add_u32(arch + "attention.sliding_window", static_cast<std::uint64_t>(config.sliding_window));
  if (config.sliding_window == 0) return;
  if (!gemma) {
    warn(cat("llama.cpp ignores the sliding window of ", info(config.family).model_type,
             " models: its results differ past ", config.sliding_window,
             " tokens; the window is kept under attar.sliding_window"));
    if (config.family == Family::kPhi3) return;
    writer.add_u32("attar.sliding_window", static_cast<std::uint64_t>(config.sliding_window));
    writer.add_bools("attar.sliding_layers", config.sliding_layers);
    return;
  }
  const std::int64_t usual = config.family == Family::kGemma3 ? 6 : 2;
  for (std::int64_t i = 0; i < config.layers; ++i) {
    if (config.is_sliding(i) == ((i + 1) % usual != 0)) continue;
    warn(cat("llama.cpp takes every ", usual, "th layer of ", info(config.family).model_type,
             " as a full one, this model has others; llama.cpp's results will differ"));
    writer.add_bools(arch + "attention.sliding_window_pattern", config.sliding_layers);
    return;
  }
}

void write_rope_keys(const ModelConfig& config, const std::string& prefix, GgufWriter& writer) {
  const Rope& rope = config.rope;
  const auto original =
      static_cast<std::uint64_t>(rope.original_max_positions > 0 ? rope.original_max_positions : config.max_positions);
  const bool phi3 = config.family == Family::kPhi3;
  writer.add_f32(prefix + "freq_base", rope.theta);
  if (config.family == Family::kGemma3) writer.add_f32(prefix + "freq_base_swa", config.local_rope.theta);
  if (config.family == Family::kLlama || config.family == Family::kMistral || phi3 || rope.partial_rotary_factor != 1.0)
    writer.add_u32(prefix + "dimension_count", static_cast<std::uint64_t>(rotary_dim(config, rope)));
  if (phi3) writer.add_u32(prefix + "scaling.original_context_length", original);
  switch (rope.type) {
    case RopeType::kDefault:
    case RopeType::kLlama3:
      break;  // the tensor rope_freqs.weight
    case RopeType::kDynamic:
      warn(
          "llama.cpp has no dynamic rope scaling: its results differ past the trained length; the factor is kept under "
          "attar.rope.dynamic_factor");
      writer.add_f32("attar.rope.dynamic_factor", rope.factor);
      break;
    case RopeType::kLinear:
      writer.add_text(prefix + "scaling.type", "linear");
      writer.add_f32(prefix + "scaling.factor", rope.factor);
      break;
    case RopeType::kYarn:
      writer.add_text(prefix + "scaling.type", "yarn");
      writer.add_f32(prefix + "scaling.factor", rope.factor);
      writer.add_u32(prefix + "scaling.original_context_length", original);
      if (!rope.truncate) writer.add_bool(prefix + "scaling.yarn_truncate", false);
      if (rope.attention_factor) writer.add_f32(prefix + "scaling.yarn_attn_factor", *rope.attention_factor);
      if (rope.beta_fast != 32.0) writer.add_f32(prefix + "scaling.yarn_beta_fast", rope.beta_fast);
      if (rope.beta_slow != 1.0) writer.add_f32(prefix + "scaling.yarn_beta_slow", rope.beta_slow);
      if (rope.mscale != 0 || rope.mscale_all_dim != 0)
        fail("write GGUF: yarn with mscale has no keys for this architecture in GGUF");
      break;
    case RopeType::kLongrope:
      if (rope.short_factor == rope.long_factor && rope.attention_factor == 1.0 && !phi3) break;  // rope_freqs.weight
      if (!phi3) {
        writer.add_text(prefix + "scaling.type", "longrope");
        writer.add_u32(prefix + "scaling.original_context_length", original);
      }
      writer.add_f32(prefix + "scaling.attn_factor",
                     rope.attention_factor ? *rope.attention_factor
                     : rope.factor > 1 ? std::sqrt(1 + std::log(rope.factor) / std::log(static_cast<double>(original)))
                                       : 1.0);
      break;
  }
}

}  // namespace

void write_gguf_config(const ModelConfig& config, GgufWriter& writer) {
  const std::string arch = std::string(info(config.family).gguf) + ".";
  const bool gemma = config.family == Family::kGemma2 || config.family == Family::kGemma3;
  const bool llama = config.family == Family::kLlama || config.family == Family::kMistral;
  const auto size = [&](const char* key, std::int64_t value) {
    writer.add_u32(arch + key, static_cast<std::uint64_t>(value));
  };
  if (config.activation != (gemma ? Activation::kGeluTanh : Activation::kSilu))
    fail("write GGUF: llama.cpp has only ", gemma ? "gelu (tanh)" : "silu", " for ", arch,
         " this model has another activation");
  if (llama && config.rope.partial_rotary_factor != 1.0)
    fail("write GGUF: llama.cpp's llama architecture turns whole heads, this model only ",
         config.rope.partial_rotary_factor);
  if ((config.family == Family::kQwen3 || gemma) && config.qkv_bias)
    warn(cat("llama.cpp takes no attention biases for ", info(config.family).model_type, " and will refuse this file"));
  size("block_count", config.layers);
  size("context_length", config.max_positions);
  size("embedding_length", config.hidden_size);
  size("feed_forward_length", config.intermediate_size);
  size("attention.head_count", config.heads);
  size("attention.head_count_kv", config.kv_heads);
  write_rope_keys(config, arch + "rope.", writer);
  writer.add_f32(arch + "attention.layer_norm_rms_epsilon", config.norm_eps);
  if (llama || gemma || config.family == Family::kQwen3 || config.head_dim * config.heads != config.hidden_size) {
    size("attention.key_length", config.head_dim);
    size("attention.value_length", config.head_dim);
  }
  if (llama) size("vocab_size", config.vocab_size);
  if (config.family == Family::kGemma2) {
    if (config.attention_softcap == 0 || config.final_softcap == 0)
      fail("write GGUF: llama.cpp's gemma2 always caps logits, this model does not");
    writer.add_f32(arch + "attn_logit_softcapping", config.attention_softcap);
  }
  if (config.family == Family::kGemma3 && config.attention_softcap != 0)
    fail("write GGUF: llama.cpp's gemma3 has no cap on attention logits, this model has one");
  if (config.final_softcap != 0) writer.add_f32(arch + "final_logit_softcapping", config.final_softcap);
  if (gemma) {
    const double scalar = 1.0 / (config.attention_scale * config.attention_scale), usual = usual_query_scalar(config);
    if (std::abs(scalar - usual) > 1e-6 * usual) {
      warn(cat("llama.cpp assumes query_pre_attn_scalar ", usual, " for this model, which has ", scalar,
               "; llama.cpp's results will differ; it is kept under attar.query_pre_attn_scalar"));
      writer.add_f32("attar.query_pre_attn_scalar", scalar);
    }
  }
  write_windows(config, arch, writer);
}

}  // namespace attar
