#include "quantize/fold.h"

#include <algorithm>
#include <utility>

namespace attar {
namespace {

std::span<float> floats(std::byte* out, std::int64_t count) {
  return {reinterpret_cast<float*>(out), static_cast<std::size_t>(count)};
}

}  // namespace

Tensor edit_rows(const Tensor& source, std::function<void(std::int64_t, std::span<float>)> edit) {
  Tensor result{source.name, Type::kF32, source.shape, {}};
  result.read_rows = [source, edit = std::move(edit)](std::int64_t begin, std::int64_t end, std::byte* out) {
    const std::vector<float> rows = read_floats(source, begin, end);
    const std::span<float> values = floats(out, (end - begin) * source.columns());
    std::copy(rows.begin(), rows.end(), values.begin());
    edit(begin, values);
  };
  return result;
}

Tensor WholeEdits::add(const Tensor& source, std::function<void(std::span<float>)> edit) const {
  Tensor result{source.name, Type::kF32, source.shape, {}};
  result.read_rows = [last = last_, source, edit = std::move(edit)](std::int64_t begin, std::int64_t end, std::byte* out) {
    const std::lock_guard lock(last->mutex);
    if (last->name != source.name) {
      last->name.clear();  // until the values are there
      last->values = std::vector<float>();
      last->values = read_floats(source);
      edit(last->values);
      last->name = source.name;
    }
    const std::int64_t columns = source.columns();
    std::copy_n(last->values.begin() + begin * columns, (end - begin) * columns, floats(out, (end - begin) * columns).begin());
  };
  return result;
}

Tensor& tensor_of(Checkpoint& model, const std::string& name) {
  return model.tensors[static_cast<std::size_t>(&model.at(name) - model.tensors.data())];
}

LayerMap layer_map(const ModelConfig& c) {
  LayerMap map;
  map.attention_norm = "input_layernorm";
  map.mlp_norm = c.post_norms ? "pre_feedforward_layernorm" : "post_attention_layernorm";
  if (c.fused_qkv) {
    map.attention_inputs = {map.value = "self_attn.qkv_proj"};
    map.value_row = (c.heads + c.kv_heads) * c.head_dim;
  } else {
    map.attention_inputs = {"self_attn.q_proj", "self_attn.k_proj", map.value = "self_attn.v_proj"};
  }
  if (c.fused_gate_up) {
    map.mlp_inputs = {map.up = "mlp.gate_up_proj"};
    map.up_row = c.intermediate_size;
  } else {
    map.mlp_inputs = {"mlp.gate_proj", map.up = "mlp.up_proj"};
  }
  return map;
}

}  // namespace attar
