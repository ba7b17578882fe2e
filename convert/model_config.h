// What a decoder-only transformer is made of, read from config.json (both styles) or GGUF keys.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace attar {

enum class Family { kLlama, kMistral, kQwen2, kQwen3, kPhi3, kGemma2, kGemma3 };  // Llama covers SmolLM; Phi3 covers Phi-4

struct FamilyInfo {
  Family family;
  const char* model_type;       // config.json: "llama", "gemma3_text"
  const char* architecture;     // config.json architectures[0]: "LlamaForCausalLM"
  const char* gguf;             // general.architecture: "llama"
};
const std::vector<FamilyInfo>& all_families();
const FamilyInfo& info(Family family);

enum class RopeType { kDefault, kLinear, kDynamic, kLlama3, kYarn, kLongrope };

struct Rope {
  RopeType type = RopeType::kDefault;
  double theta = 10000.0;
  double factor = 1.0;
  double partial_rotary_factor = 1.0;
  std::int64_t original_max_positions = 0;           // 0: max_position_embeddings
  double low_freq_factor = 1.0, high_freq_factor = 4.0;                     // llama3
  double beta_fast = 32.0, beta_slow = 1.0, mscale = 0.0, mscale_all_dim = 0.0;  // yarn
  bool truncate = true;                                                     // yarn
  std::optional<double> attention_factor;                                   // yarn, longrope
  std::vector<double> short_factor, long_factor;                            // longrope
};

enum class Activation { kSilu, kGeluTanh, kGelu };

struct ModelConfig {
  Family family = Family::kLlama;
  std::int64_t hidden_size = 0, intermediate_size = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0;
  std::int64_t vocab_size = 0, max_positions = 0;
  double norm_eps = 1e-6;
  Activation activation = Activation::kSilu;
  bool tied_embeddings = false;
  bool qkv_bias = false, output_bias = false, mlp_bias = false;
  bool qk_norm = false;            // Qwen3, Gemma 3: RMS norm on each head of q and k
  bool norm_adds_one = false;      // Gemma: weights are stored as w - 1 in canonical form
  bool post_norms = false;         // Gemma: norms after attention and after the MLP, before the residual sum
  bool scaled_embeddings = false;  // Gemma: embeddings times sqrt(hidden_size), the factor in float32
  bool fused_qkv = false, fused_gate_up = false;  // Phi-3
  double attention_scale = 0.0;    // multiplies q k^T; normally 1 / sqrt(head_dim)
  double attention_softcap = 0.0, final_softcap = 0.0;  // 0: none
  std::int64_t sliding_window = 0;              // 0: none
  std::vector<bool> sliding_layers;             // per layer: uses the window
  Rope rope;                                    // full-attention layers
  Rope local_rope;                              // sliding layers (differs for Gemma 3)
  std::vector<std::int64_t> eos_ids;
  std::int64_t bos_id = -1, pad_id = -1;
  std::string dtype = "float32";                // as the checkpoint says
  nlohmann::json hf;                            // the config.json it came from, or the one made from GGUF keys

  bool is_sliding(std::int64_t layer) const { return sliding_window > 0 && sliding_layers[static_cast<std::size_t>(layer)]; }
};

// source names the file in errors. Throws Error for a missing key, a value out of range or an unknown architecture.
ModelConfig parse_config(const nlohmann::json& config, std::string_view source);
// A config.json that transformers (4 and 5) reads; starts from config.hf and updates what the struct says.
nlohmann::json config_json(const ModelConfig& config);

// Name and shape of every parameter the config asks for, canonical order (embedding, layers, final norm, head).
struct ParameterSpec {
  std::string name;
  std::vector<std::int64_t> shape;
};
std::vector<ParameterSpec> parameters(const ModelConfig& config);

}  // namespace attar
