// Tensor names, and what llama.cpp's files do to tensors: rows of q and k in another order, Gemma's norms with one
// added.
#include <algorithm>
#include <cstring>

#include "convert/gguf_model.h"

namespace attar {
namespace {

// Hugging Face's name within a layer, GGUF's, and GGUF's for Gemma where it differs.
struct LayerName {
  const char* canonical;
  const char* gguf;
  const char* gemma;
};
constexpr LayerName kLayerNames[] = {
    {"input_layernorm", "attn_norm", nullptr},
    {"self_attn.q_proj", "attn_q", nullptr},
    {"self_attn.k_proj", "attn_k", nullptr},
    {"self_attn.v_proj", "attn_v", nullptr},
    {"self_attn.qkv_proj", "attn_qkv", nullptr},
    {"self_attn.o_proj", "attn_output", nullptr},
    {"self_attn.q_norm", "attn_q_norm", nullptr},
    {"self_attn.k_norm", "attn_k_norm", nullptr},
    {"post_attention_layernorm", "ffn_norm", "post_attention_norm"},
    {"pre_feedforward_layernorm", "ffn_norm", nullptr},
    {"post_feedforward_layernorm", "post_ffw_norm", nullptr},
    {"mlp.gate_proj", "ffn_gate", nullptr},
    {"mlp.up_proj", "ffn_up", nullptr},
    {"mlp.gate_up_proj", "ffn_up", nullptr},
    {"mlp.down_proj", "ffn_down", nullptr},
};

constexpr std::string_view kLayerPrefix = "model.layers.";

bool is_norm(const std::string& name) { return name.ends_with("norm.weight"); }

// Heads whose rows change order; 0: none.
std::int64_t permuted_heads(const std::string& name, const ModelConfig& config) {
  if (std::string_view(info(config.family).gguf) != "llama") return 0;
  if (name.ends_with("q_proj.weight") || name.ends_with("q_proj.bias")) return config.heads;
  if (name.ends_with("k_proj.weight") || name.ends_with("k_proj.bias")) return config.kv_heads;
  return 0;
}

// row_of(r, d): the source's row, within a head of d rows, that becomes row r. A bias has one number per row.
Tensor permute(Tensor tensor, std::int64_t heads, std::int64_t (*row_of)(std::int64_t, std::int64_t)) {
  const bool bias = tensor.shape.size() == 1;
  const std::int64_t rows = bias ? tensor.shape[0] : tensor.rows();
  const std::int64_t d = rows / heads;
  const std::size_t stride =
      bias ? row_bytes(tensor.type, 1) : row_bytes(tensor.type, static_cast<std::uint64_t>(tensor.columns()));
  auto inner = std::move(tensor.read_rows);
  tensor.read_rows = [inner, bias, rows, d, stride, row_of](std::int64_t begin, std::int64_t end, std::byte* out) {
    if (begin == end) return;
    const auto source_of = [&](std::int64_t row) { return row / d * d + row_of(row % d, d); };
    if (!bias) {
      for (std::int64_t row = begin; row < end; ++row, out += stride) inner(source_of(row), source_of(row) + 1, out);
      return;
    }
    Bytes numbers(static_cast<std::size_t>(rows) * stride);  // its one row
    inner(0, 1, numbers.data());
    for (std::int64_t i = 0; i < rows; ++i, out += stride) std::memcpy(out, numbers.data() + static_cast<std::size_t>(source_of(i)) * stride, stride);
  };
  return tensor;
}

// A norm as F32 with `shift` added.
Tensor shifted(Tensor tensor, float shift) {
  const Tensor source = tensor;
  tensor.type = Type::kF32;
  tensor.read_rows = [source, shift](std::int64_t begin, std::int64_t end, std::byte* out) {
    std::vector<float> values = read_floats(source, begin, end);
    for (float& value : values) value += shift;
    if (!values.empty()) std::memcpy(out, values.data(), values.size() * sizeof(float));
  };
  return tensor;
}

}  // namespace

std::string gguf_tensor_name(const std::string& canonical, const ModelConfig& config) {
  if (canonical == "model.embed_tokens.weight") return "token_embd.weight";
  if (canonical == "model.norm.weight") return "output_norm.weight";
  if (canonical == "lm_head.weight") return "output.weight";
  if (canonical.starts_with(kLayerPrefix)) {
    const std::size_t number_end = canonical.find('.', kLayerPrefix.size()), kind = canonical.rfind('.');
    const std::string number = canonical.substr(kLayerPrefix.size(), number_end - kLayerPrefix.size());
    const std::string part = canonical.substr(number_end + 1, kind - number_end - 1);
    for (const LayerName& name : kLayerNames)
      if (part == name.canonical)
        return cat("blk.", number, ".", config.post_norms && name.gemma != nullptr ? name.gemma : name.gguf,
                   canonical.substr(kind));
  }
  fail("write GGUF: the tensor '", canonical, "' has no name in GGUF");
}

Tensor from_gguf(Tensor tensor, const ModelConfig& config) {
  // Biases are stored as F32 in GGUF; a row of a bias is one number, whatever the type.
  if (const std::int64_t heads = permuted_heads(tensor.name, config); heads > 0)
    return permute(std::move(tensor), heads, interleaved_row);
  if (config.norm_adds_one && is_norm(tensor.name)) return shifted(std::move(tensor), -1.0f);
  return tensor;
}

Tensor to_gguf(Tensor tensor, const ModelConfig& config) {
  if (tensor.shape.size() == 1) {  // -0.0f: adding it keeps every value, +0 would turn -0 into 0
    const float shift = config.norm_adds_one && is_norm(tensor.name) ? 1.0f : -0.0f;
    tensor = shifted(std::move(tensor), shift);
  }
  if (const std::int64_t heads = permuted_heads(tensor.name, config); heads > 0)
    return permute(std::move(tensor), heads, halved_row);
  return tensor;
}

}  // namespace attar
