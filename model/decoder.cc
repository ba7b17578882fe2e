#include "model/decoder.h"

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "model/attention.h"
#include "model/ops.h"
#include "model/tensor.h"

namespace attar {

struct Decoder::Linear {
  std::string name;                    // without ".weight"
  const at::Tensor* weight = nullptr;  // (out_features, in_features)
  const at::Tensor* bias = nullptr;    // (out_features), or none
};

struct Decoder::Layer {
  Linear q, k, v, qkv, o, gate, up, gate_up, down;  // the fused ones instead of their parts, or the other way round
  const at::Tensor *q_norm = nullptr, *k_norm = nullptr;
  const at::Tensor *attention_norm = nullptr, *after_attention = nullptr, *mlp_norm = nullptr, *after_mlp = nullptr;
};

struct Decoder::Parts {
  std::map<std::string, at::Tensor> parameters;
  std::vector<std::string> names;
  const at::Tensor *embedding = nullptr, *final_norm = nullptr;
  Linear output;
  std::vector<Layer> layers;
  RotaryTable rotary, local_rotary;
  MaskCache masks;
};

namespace {

void check_heads(const ModelConfig& c) {
  if (c.heads <= 0 || c.kv_heads <= 0 || c.heads % c.kv_heads != 0)
    fail("decoder: ", c.heads, " attention heads do not divide into ", c.kv_heads, " key-value heads");
  if (c.sliding_window > 0 && c.sliding_layers.size() != static_cast<std::size_t>(c.layers))
    fail("decoder: a sliding window is set but ", c.sliding_layers.size(), " of ", c.layers, " layers say if they use it");
}

// Makes room for `needed` tokens and writes x at [begin, begin + time). buffer: (batch, kv_heads, room, head_dim).
at::Tensor append(at::Tensor& buffer, std::int64_t begin, const at::Tensor& x) {
  const std::int64_t needed = begin + x.size(2);
  if (!buffer.defined() || buffer.size(2) < needed) {
    at::Tensor larger = at::empty({x.size(0), x.size(1), std::max<std::int64_t>(needed + needed / 2, 64), x.size(3)},
                                  x.options().requires_grad(false));
    if (buffer.defined() && begin > 0) larger.narrow(2, 0, begin).copy_(buffer.narrow(2, 0, begin));
    buffer = larger;
  }
  buffer.narrow(2, begin, x.size(2)).copy_(x);
  return buffer.narrow(2, 0, needed);
}

}  // namespace

Decoder::Decoder(ModelConfig config) : config_(std::move(config)) {
  check_heads(config_);
  parts_.reset(new Parts{{}, {}, nullptr, nullptr, {}, {},
                         RotaryTable(config_.rope, config_.head_dim, config_.max_positions),
                         RotaryTable(config_.local_rope, config_.head_dim, config_.max_positions), {}});
  for (const ParameterSpec& spec : attar::parameters(config_)) {
    parts_->parameters[spec.name] = at::empty(spec.shape, at::kFloat).set_requires_grad(true);
    parts_->names.push_back(spec.name);
  }

  // Pointers into the map, which no longer grows: set_data, to(device) and assignment all stay visible.
  const auto find = [&](const std::string& name) -> const at::Tensor* {
    const auto found = parts_->parameters.find(name);
    return found == parts_->parameters.end() ? nullptr : &found->second;
  };
  const auto linear = [&](const std::string& name) {
    return Linear{name, find(name + ".weight"), find(name + ".bias")};
  };
  for (std::int64_t i = 0; i < config_.layers; ++i) {
    const std::string at = cat("model.layers.", i, "."), attn = at + "self_attn.", mlp_at = at + "mlp.";
    Layer layer;
    layer.q = linear(attn + "q_proj"), layer.k = linear(attn + "k_proj"), layer.v = linear(attn + "v_proj");
    layer.qkv = linear(attn + "qkv_proj"), layer.o = linear(attn + "o_proj");
    layer.gate = linear(mlp_at + "gate_proj"), layer.up = linear(mlp_at + "up_proj");
    layer.gate_up = linear(mlp_at + "gate_up_proj"), layer.down = linear(mlp_at + "down_proj");
    layer.q_norm = find(attn + "q_norm.weight"), layer.k_norm = find(attn + "k_norm.weight");
    layer.attention_norm = find(at + "input_layernorm.weight");
    const at::Tensor* middle = find(at + "post_attention_layernorm.weight");
    // Gemma's norm of that name stands after attention; everyone else's stands before the MLP.
    layer.after_attention = config_.post_norms ? middle : nullptr;
    layer.mlp_norm = config_.post_norms ? find(at + "pre_feedforward_layernorm.weight") : middle;
    layer.after_mlp = config_.post_norms ? find(at + "post_feedforward_layernorm.weight") : nullptr;
    parts_->layers.push_back(std::move(layer));
  }
  parts_->embedding = find("model.embed_tokens.weight");
  parts_->final_norm = find("model.norm.weight");
  parts_->output = linear(config_.tied_embeddings ? "model.embed_tokens" : "lm_head");
}

Decoder::~Decoder() = default;

at::Tensor& Decoder::parameter(const std::string& name) {
  const auto found = parts_->parameters.find(name);
  if (found == parts_->parameters.end()) fail("decoder: no parameter '", name, "'", suggest(name, parts_->names));
  return found->second;
}

bool Decoder::has_parameter(const std::string& name) const { return parts_->parameters.contains(name); }

std::vector<std::string> Decoder::parameter_names() const { return parts_->names; }

std::vector<at::Tensor> Decoder::parameters() const {
  std::vector<at::Tensor> all;
  for (const std::string& name : parts_->names) all.push_back(parts_->parameters.at(name));
  return all;
}

void Decoder::to(const at::Device& device) {
  const at::NoGradGuard no_grad;
  for (auto& [name, parameter] : parts_->parameters) parameter.set_data(parameter.to(device));
}

std::vector<std::string> Decoder::linear_weights(std::int64_t index) const {
  const Layer& l = parts_->layers.at(static_cast<std::size_t>(index));
  std::vector<std::string> names;
  for (const Linear* linear : {&l.q, &l.k, &l.v, &l.qkv, &l.o, &l.gate, &l.up, &l.gate_up, &l.down})
    if (linear->weight != nullptr) names.push_back(linear->name + ".weight");
  return names;
}

at::Device Decoder::device() const { return parts_->final_norm->device(); }

std::uint64_t Decoder::weight_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& [name, parameter] : parts_->parameters) bytes += parameter.nbytes();
  return bytes;
}

at::Tensor Decoder::apply(const Linear& linear, const at::Tensor& x) const {
  if (observer) observer(linear.name, x);
  const at::Tensor y = product(linear, x);
  if (output_observer) output_observer(linear.name, y);
  return y;
}

at::Tensor Decoder::product(const Linear& linear, const at::Tensor& x) const {
  const at::Tensor W = linear.weight->to(x.scalar_type()), bias = linear.bias != nullptr ? linear.bias->to(x.scalar_type()) : at::Tensor();
  if (x.numel() == W.size(1) && !at::GradMode::is_enabled()) {  // one token: a matrix-vector product reads W once
    const at::Tensor y = bias.defined() ? at::addmv(bias, W, x.reshape({-1})) : at::mv(W, x.reshape({-1}));
    auto shape = x.sizes().vec();
    shape.back() = W.size(0);
    return y.view(shape);
  }
  return bias.defined() ? at::linear(x, W, bias) : at::linear(x, W);
}

at::Tensor Decoder::norm(const at::Tensor& x, const at::Tensor* weight) const {
  return rms_norm(widened(x), *weight, config_.norm_eps, config_.norm_adds_one ? 1.0 : 0.0).to(x.scalar_type());
}

at::Tensor Decoder::embed(const at::Tensor& ids) {
  if (ids.dim() != 2 || ids.scalar_type() != at::kLong || ids.numel() == 0)
    fail("decoder: token ids must be (batch, time) int64 and not empty");
  const auto lowest = ids.min().item<std::int64_t>(), highest = ids.max().item<std::int64_t>();
  if (lowest < 0 || highest >= config_.vocab_size)
    fail("decoder: token id ", lowest < 0 ? lowest : highest, " is outside the vocabulary of ", config_.vocab_size);
  check_packing(ids);
  at::Tensor hidden = at::embedding(*parts_->embedding, ids);
  // transformers rounds the factor to the dtype the model runs in, which is float32 here.
  if (config_.scaled_embeddings)
    hidden = hidden * static_cast<double>(std::sqrt(static_cast<float>(config_.hidden_size)));
  return hidden.to(compute);
}

at::Tensor Decoder::attention(std::int64_t index, const at::Tensor& x, KvCache* cache) {
  const ModelConfig& c = config_;
  const Layer& l = parts_->layers[static_cast<std::size_t>(index)];
  const std::int64_t batch = x.size(0), time = x.size(1), past = cache != nullptr ? cache->length : 0;
  at::Tensor q, k, v;
  if (c.fused_qkv) {
    const auto split = apply(l.qkv, x).split_with_sizes(
        {c.heads * c.head_dim, c.kv_heads * c.head_dim, c.kv_heads * c.head_dim}, -1);
    q = split[0], k = split[1], v = split[2];
  } else {
    q = apply(l.q, x), k = apply(l.k, x), v = apply(l.v, x);
  }
  q = q.reshape({batch, time, c.heads, c.head_dim});
  k = k.reshape({batch, time, c.kv_heads, c.head_dim});
  v = v.reshape({batch, time, c.kv_heads, c.head_dim});
  if (c.qk_norm) q = norm(q, l.q_norm), k = norm(k, l.k_norm);
  if (attention_observer) attention_observer(index, q.flatten(2), k.flatten(2), v.flatten(2));
  v = v.transpose(1, 2);
  const bool sliding = c.is_sliding(index);
  RotaryTable& table = sliding ? parts_->local_rotary : parts_->rotary;
  q = turned(q, table, past, c.attention_scale);
  k = turned(k, table, past, 1.0);
  if (cache != nullptr) {
    cache->keys.resize(static_cast<std::size_t>(c.layers)), cache->values.resize(static_cast<std::size_t>(c.layers));
    k = append(cache->keys[static_cast<std::size_t>(index)], past, k);
    v = append(cache->values[static_cast<std::size_t>(index)], past, v);
  }
  return attend(q, k, v, {sliding ? c.sliding_window : 0, c.attention_softcap,
                         packing != nullptr ? packing->document : at::Tensor()}, parts_->masks);
}

// x: (batch, time, heads, head_dim), `past` tokens after the beginning -> (batch, heads, time, head_dim).
at::Tensor Decoder::turned(const at::Tensor& given, RotaryTable& table, std::int64_t past, double scale) const {
  const at::Tensor x = widened(given);
  const std::int64_t batch = x.size(0), time = x.size(1);
  if (packing == nullptr) {
    const auto [cos, sin] = table.at(past, past + time, x.device());
    return rotate_heads(x.transpose(1, 2), cos, sin, scale).to(given.scalar_type());
  }
  const auto [cos, sin] = table.at(0, packing->longest, x.device());
  const at::Tensor position = packing->position.flatten();  // rows behind each other: every token has angles of its own
  const at::Tensor all = rotate_heads(x.reshape({1, batch * time, x.size(2), x.size(3)}).transpose(1, 2),
                                      cos.index_select(0, position), sin.index_select(0, position), scale);
  return all.view({x.size(2), batch, time, x.size(3)}).transpose(0, 1).to(given.scalar_type());
}

void Decoder::check_packing(const at::Tensor& ids) const {
  if (packing == nullptr) return;
  if (packing->document.sizes() != ids.sizes() || packing->position.sizes() != ids.sizes())
    fail("decoder: token ids are ", ids.sizes(), ", the packing says ", packing->document.sizes());
  if (parts_->rotary.changes(1, packing->longest) || parts_->local_rotary.changes(1, packing->longest))
    fail("decoder: this model turns a text of ", packing->longest, " tokens by other angles than a short one, so the two cannot be "
         "packed together; use texts no longer than its original context, or do not pack");
}

at::Tensor Decoder::gated(const Layer& l, const at::Tensor& x) const {
  at::Tensor gate, up;
  if (config_.fused_gate_up) {
    const auto halves = apply(l.gate_up, x).chunk(2, -1);
    gate = halves[0], up = halves[1];
  } else {
    gate = apply(l.gate, x), up = apply(l.up, x);
  }
  switch (config_.activation) {
    case Activation::kSilu: gate = at::silu(gate); break;
    case Activation::kGeluTanh: gate = at::gelu(gate, "tanh"); break;
    case Activation::kGelu: gate = at::gelu(gate); break;
  }
  return gate * up;
}

at::Tensor Decoder::attention_half(std::int64_t index, const at::Tensor& hidden, KvCache* cache) {
  const Layer& l = parts_->layers.at(static_cast<std::size_t>(index));
  return attention_end(index, hidden, attention(index, norm(hidden, l.attention_norm), cache));
}

at::Tensor Decoder::attention_end(std::int64_t index, const at::Tensor& hidden, const at::Tensor& x) {
  const Layer& l = parts_->layers.at(static_cast<std::size_t>(index));
  const at::Tensor out = apply(l.o, x);
  return hidden + (l.after_attention != nullptr ? norm(out, l.after_attention) : out);
}

at::Tensor Decoder::mlp_half(std::int64_t index, const at::Tensor& hidden) {
  const Layer& l = parts_->layers.at(static_cast<std::size_t>(index));
  return mlp_end(index, hidden, gated(l, norm(hidden, l.mlp_norm)));
}

at::Tensor Decoder::mlp_end(std::int64_t index, const at::Tensor& hidden, const at::Tensor& x) {
  const Layer& l = parts_->layers.at(static_cast<std::size_t>(index));
  const at::Tensor out = apply(l.down, x);
  return hidden + (l.after_mlp != nullptr ? norm(out, l.after_mlp) : out);
}

at::Tensor Decoder::layer(std::int64_t index, const at::Tensor& hidden, KvCache* cache) {
  const at::AutoGradMode grad(cache == nullptr && at::GradMode::is_enabled());
  return mlp_half(index, attention_half(index, hidden, cache));
}

at::Tensor Decoder::final_norm(const at::Tensor& hidden) { return norm(hidden, parts_->final_norm); }

at::Tensor Decoder::logits(const at::Tensor& normed) {
  const at::Tensor out = widened(apply(parts_->output, normed));
  return config_.final_softcap > 0 ? at::tanh(out / config_.final_softcap) * config_.final_softcap : out;
}

at::Tensor Decoder::all_layers(const at::Tensor& ids, KvCache* cache) {
  at::Tensor hidden = embed(ids);
  for (std::int64_t i = 0; i < config_.layers; ++i) hidden = layer(i, hidden, cache);
  if (cache != nullptr) cache->length += ids.size(1);
  return hidden;
}

at::Tensor Decoder::hidden_states(const at::Tensor& ids, KvCache* cache) {
  const at::AutoGradMode grad(cache == nullptr && at::GradMode::is_enabled());
  if (packing != nullptr && cache != nullptr) fail("decoder: packed texts go with no cache");
  const RotaryTable &rotary = parts_->rotary, &local = parts_->local_rotary;
  if (cache == nullptr || !(rotary.follows_length() || local.follows_length())) return final_norm(all_layers(ids, cache));

  const at::Tensor all = cache->length > 0 ? at::cat({cache->ids, ids}, 1) : ids;
  const std::int64_t before = cache->length, now = all.size(1);
  const bool anew = before > 0 && (rotary.changes(before, now) || local.changes(before, now));
  if (anew) *cache = KvCache{};
  const at::Tensor hidden = all_layers(anew ? all : ids, cache);
  cache->ids = all;
  return final_norm(hidden.narrow(1, hidden.size(1) - ids.size(1), ids.size(1)));
}

at::Tensor Decoder::forward(const at::Tensor& ids, KvCache* cache) {
  const at::AutoGradMode grad(cache == nullptr && at::GradMode::is_enabled());
  return logits(hidden_states(ids, cache));
}

}  // namespace attar
