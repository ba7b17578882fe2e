#include "runtime/runner.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/console.h"
#include "base/text.h"
#include "base/threads.h"
#include "kernels_ref/multiply.h"
#include "kernels_ref/spread.h"
#include "runtime/kv_cache.h"
#include "runtime/math.h"
#include "runtime/rotation.h"

namespace attar {
namespace {

using Vector = std::vector<float>;

constexpr std::size_t kBatch = 512;  // tokens of a prompt taken together

struct Linear {
  Matrix W{};           // no rows: the model has none
  Vector bias;          // empty: none
  RowReader mapped;     // keeps W.bytes where they are in the file
  Bytes copied;         // or they are here, as the file has them otherwise
  bool exists() const { return W.rows > 0; }
};

// Weights stay in the file where they are in it as they are needed: loading costs nothing, and processes share them.
Linear read_linear(const Tensor& tensor) {
  Linear result;
  result.W = {tensor.type, tensor.read_rows.in_place(), static_cast<std::size_t>(tensor.rows()), static_cast<std::size_t>(tensor.columns())};
  if (!result.W.bytes.empty()) {
    result.mapped = tensor.read_rows;
  } else {
    result.copied = read_packed(tensor).bytes;
    result.W.bytes = result.copied;
  }
  check_matrix(result.W);
  return result;
}

struct Layer {
  Linear q, k, v, qkv, o, gate, up, gate_up, down;  // the fused ones instead of their parts, or the other way round
  Vector q_norm, k_norm, attention_norm, after_attention, mlp_norm, after_mlp;
};

// One set of vectors, rounded at most once for all matrices that want it the same way.
class Rounded {
 public:
  void set(std::span<const float> x, std::size_t tokens) {
    x_ = x, tokens_ = tokens;
    ready_ = {};
  }
  const Activations& as(Rounding rounding) {
    const auto i = static_cast<std::size_t>(rounding);
    if (!ready_[i]) values_[i].round(rounding, x_, tokens_);
    ready_[i] = true;
    return values_[i];
  }

 private:
  std::span<const float> x_;
  std::size_t tokens_ = 0;
  std::array<Activations, 4> values_;
  std::array<bool, 4> ready_{};
};

void check_heads(const ModelConfig& c) {
  if (c.heads <= 0 || c.kv_heads <= 0 || c.heads % c.kv_heads != 0)
    fail("decoder: ", c.heads, " attention heads do not divide into ", c.kv_heads, " key-value heads");
  if (c.sliding_window > 0 && c.sliding_layers.size() != static_cast<std::size_t>(c.layers))
    fail("decoder: a sliding window is set but ", c.sliding_layers.size(), " of ", c.layers, " layers say if they use it");
}

std::uint64_t physical_memory() {
  return static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<std::uint64_t>(::sysconf(_SC_PAGE_SIZE));
}

Vector read_vector(const Checkpoint& checkpoint, const std::string& name) {
  const Tensor* tensor = checkpoint.find(name);
  if (tensor == nullptr) return {};
  Vector values = read_floats(*tensor);
  for (const float value : values)
    if (!std::isfinite(value)) fail("loading the model: tensor '", name, "' holds ", value, "; the file is damaged or its training diverged");
  return values;
}

}  // namespace

struct Runner::Weights {
  explicit Weights(const Checkpoint& checkpoint);
  const Linear& output() const { return config.tied_embeddings ? embedding : head; }

  ModelConfig config;
  Linear embedding, head;
  Vector final_norm;
  std::vector<Layer> layers;
};

struct Runner::Parts {
  Parts(std::shared_ptr<const Weights> weights, const RunnerOptions& options);

  // Continues the context. Returns the final states of the last `kept` ids; those of the others are not held.
  Vector advance(std::span<const std::int64_t> added, std::size_t kept);
  void feed_batch(std::span<const std::int64_t> ids);  // the final states are then in `normed`
  std::uint64_t cache_bytes_per_token() const {
    return static_cast<std::uint64_t>(config.layers) *
           cache_bytes(options.cache, static_cast<std::size_t>(config.kv_heads), static_cast<std::size_t>(config.head_dim));
  }
  // Whether the tokens of a context of one length lie at other angles in one of another.
  bool turned_otherwise(std::size_t from, std::size_t to) const {
    return from > 0 && (rotation.changes(from, to) || local_rotation.changes(from, to));
  }
  void attention(std::size_t index, std::size_t tokens);
  void mlp(const Layer& layer, std::size_t tokens);
  struct Output {
    const Linear& linear;
    Vector& y;
  };
  // y = W x + bias of what `rounded` holds.
  void multiply_into(std::initializer_list<Output> outputs, std::size_t tokens);
  void embed(std::span<const std::int64_t> ids);
  void norm(const Vector& x, const Vector& weight, std::size_t tokens, std::size_t width, Vector& y) const;
  void add_to_hidden(Vector& x, const Vector& norm_weight, std::size_t tokens);

  std::shared_ptr<const Weights> weights;
  const ModelConfig& config;
  RunnerOptions options;
  std::vector<LayerCache> cache;
  Rotation rotation, local_rotation;
  std::vector<std::int64_t> ids;  // of the context
  Vector hidden, normed, q, k, v, joined, out;
  Rounded rounded;
};

Runner::Weights::Weights(const Checkpoint& checkpoint) : config(checkpoint.config) {
  check_heads(config);
  const auto linear = [&](const std::string& name) {
    Linear result;
    if (const Tensor* tensor = checkpoint.find(name + ".weight")) {
      check_interrupt();
      result = read_linear(*tensor);
    }
    result.bias = read_vector(checkpoint, name + ".bias");
    return result;
  };
  embedding = linear("model.embed_tokens");
  if (!config.tied_embeddings) head = linear("lm_head");
  final_norm = read_vector(checkpoint, "model.norm.weight");
  layers.resize(static_cast<std::size_t>(config.layers));
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const std::string at = cat("model.layers.", i, "."), attn = at + "self_attn.", mlp_at = at + "mlp.";
    Layer& l = layers[i];
    l.q = linear(attn + "q_proj"), l.k = linear(attn + "k_proj"), l.v = linear(attn + "v_proj");
    l.qkv = linear(attn + "qkv_proj"), l.o = linear(attn + "o_proj");
    l.gate = linear(mlp_at + "gate_proj"), l.up = linear(mlp_at + "up_proj");
    l.gate_up = linear(mlp_at + "gate_up_proj"), l.down = linear(mlp_at + "down_proj");
    l.q_norm = read_vector(checkpoint, attn + "q_norm.weight"), l.k_norm = read_vector(checkpoint, attn + "k_norm.weight");
    l.attention_norm = read_vector(checkpoint, at + "input_layernorm.weight");
    // Gemma's norm of that name stands after attention; everyone else's stands before the MLP.
    Vector middle = read_vector(checkpoint, at + "post_attention_layernorm.weight");
    (config.post_norms ? l.after_attention : l.mlp_norm) = std::move(middle);
    if (config.post_norms) {
      l.mlp_norm = read_vector(checkpoint, at + "pre_feedforward_layernorm.weight");
      l.after_mlp = read_vector(checkpoint, at + "post_feedforward_layernorm.weight");
    }
  }
}

Runner::Parts::Parts(std::shared_ptr<const Weights> w, const RunnerOptions& o)
    : weights(std::move(w)), config(weights->config), options(o), rotation(config.rope, config), local_rotation(config.local_rope, config) {
  if (options.exact) options.cache = CacheType::kF32;
  for (std::int64_t i = 0; i < config.layers; ++i)
    cache.emplace_back(options.cache, static_cast<std::size_t>(config.kv_heads), static_cast<std::size_t>(config.head_dim));
  rotation.prepare(1), local_rotation.prepare(1);  // throws now rather than at the first token
}

void Runner::Parts::multiply_into(std::initializer_list<Output> outputs, std::size_t tokens) {
  std::vector<Product> products;
  for (const auto& [linear, y] : outputs) {
    y.resize(tokens * linear.W.rows);
    products.push_back({linear.W, &rounded.as(options.exact ? Rounding::kNone : default_rounding(linear.W.type)), y});
  }
  multiply(products);
  for (const auto& [linear, y] : outputs)
    for (std::size_t t = 0; t < tokens && !linear.bias.empty(); ++t)
      for (std::size_t i = 0; i < linear.bias.size(); ++i) y[t * linear.W.rows + i] += linear.bias[i];
}

// Rows of `width` values. x and y may be the same.
void Runner::Parts::norm(const Vector& x, const Vector& weight, std::size_t rows, std::size_t width, Vector& y) const {
  y.resize(x.size());
  const auto eps = static_cast<float>(config.norm_eps);
  spread((rows + 15) / 16, rows * width, [&](std::size_t step) {
    for (std::size_t r = 16 * step; r < std::min(rows, 16 * step + 16); ++r)
      rms_norm(x.data() + r * width, weight.data(), width, eps, config.norm_adds_one ? 1.0f : 0.0f, y.data() + r * width);
  });
}

void Runner::Parts::add_to_hidden(Vector& x, const Vector& norm_weight, std::size_t tokens) {
  if (!norm_weight.empty()) norm(x, norm_weight, tokens, norm_weight.size(), x);
  for (std::size_t i = 0; i < hidden.size(); ++i) hidden[i] += x[i];
}

void Runner::Parts::embed(std::span<const std::int64_t> tokens) {
  const Matrix& W = weights->embedding.W;
  const std::size_t width = W.columns, stride = row_bytes(W.type, width);
  // The factor is rounded to the dtype the model runs in, which is float32 here.
  const float scale = config.scaled_embeddings ? std::sqrt(static_cast<float>(config.hidden_size)) : 1.0f;
  hidden.resize(tokens.size() * width);
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    const std::span<float> row(hidden.data() + t * width, width);
    decode_row(W.type, W.bytes.subspan(static_cast<std::size_t>(tokens[t]) * stride, stride), row);
    for (float& value : row) value *= scale;
  }
}

void Runner::Parts::attention(std::size_t index, std::size_t tokens) {
  const Layer& l = weights->layers[index];
  const auto d = static_cast<std::size_t>(config.head_dim), heads = static_cast<std::size_t>(config.heads),
             kv_heads = static_cast<std::size_t>(config.kv_heads);
  if (l.qkv.exists()) {
    multiply_into({{l.qkv, joined}}, tokens);
    q.resize(tokens * heads * d), k.resize(tokens * kv_heads * d), v.resize(tokens * kv_heads * d);
    for (std::size_t t = 0; t < tokens; ++t) {
      const float* from = joined.data() + t * (heads + 2 * kv_heads) * d;
      std::copy_n(from, heads * d, q.data() + t * heads * d);
      std::copy_n(from + heads * d, kv_heads * d, k.data() + t * kv_heads * d);
      std::copy_n(from + (heads + kv_heads) * d, kv_heads * d, v.data() + t * kv_heads * d);
    }
  } else {
    multiply_into({{l.q, q}, {l.k, k}, {l.v, v}}, tokens);
  }
  if (config.qk_norm) norm(q, l.q_norm, tokens * heads, d, q), norm(k, l.k_norm, tokens * kv_heads, d, k);

  const std::size_t begin = ids.size();
  const bool sliding = config.is_sliding(static_cast<std::int64_t>(index));
  const Rotation& table = sliding ? local_rotation : rotation;
  spread((tokens + 15) / 16, tokens * (heads + kv_heads) * d, [&](std::size_t step) {
    for (std::size_t t = 16 * step; t < std::min(tokens, 16 * step + 16); ++t) {
      for (std::size_t h = 0; h < heads; ++h)
        table.turn(q.data() + (t * heads + h) * d, d, begin + t, static_cast<float>(config.attention_scale));
      for (std::size_t h = 0; h < kv_heads; ++h) table.turn(k.data() + (t * kv_heads + h) * d, d, begin + t, 1.0f);
    }
  });
  out.resize(q.size());
  const AttentionShape shape{heads, kv_heads, d, sliding ? static_cast<std::size_t>(config.sliding_window) : 0,
                             static_cast<float>(config.attention_softcap)};
  cache[index].write(begin, tokens, k.data(), v.data());
  cache[index].attend(shape, begin, tokens, q.data(), out.data());
  rounded.set(out, tokens);
  multiply_into({{l.o, joined}}, tokens);
}

void Runner::Parts::mlp(const Layer& l, std::size_t tokens) {
  const auto width = static_cast<std::size_t>(config.intermediate_size);
  // Gate and up lie apart, or side by side in the rows of one product.
  const bool fused = l.gate_up.exists();
  if (fused) {
    multiply_into({{l.gate_up, joined}}, tokens);
  } else {
    multiply_into({{l.gate, q}, {l.up, joined}}, tokens);
  }
  out.resize(tokens * width);
  constexpr std::size_t kStep = 2048;
  spread((out.size() + kStep - 1) / kStep, 16 * out.size(), [&](std::size_t step) {
    for (std::size_t i = step * kStep; i < std::min(out.size(), (step + 1) * kStep);) {
      const std::size_t t = i / width, j = i % width, n = std::min({width - j, (step + 1) * kStep - i, out.size() - i});
      const float* gate = fused ? joined.data() + 2 * t * width + j : q.data() + i;
      const float* up = fused ? gate + width : joined.data() + i;
      float* y = out.data() + i;
      switch (config.activation) {
        case Activation::kSilu: for (std::size_t m = 0; m < n; ++m) y[m] = silu(gate[m]) * up[m]; break;
        case Activation::kGeluTanh: for (std::size_t m = 0; m < n; ++m) y[m] = gelu_tanh(gate[m]) * up[m]; break;
        case Activation::kGelu: for (std::size_t m = 0; m < n; ++m) y[m] = gelu(gate[m]) * up[m]; break;
      }
      i += n;
    }
  });
  rounded.set(out, tokens);
  multiply_into({{l.down, joined}}, tokens);
}

void Runner::Parts::feed_batch(std::span<const std::int64_t> batch) {
  const std::size_t tokens = batch.size(), width = static_cast<std::size_t>(config.hidden_size);
  embed(batch);
  const std::vector<Layer>& layers = weights->layers;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    norm(hidden, layers[i].attention_norm, tokens, width, normed);
    rounded.set(normed, tokens);
    attention(i, tokens);
    add_to_hidden(joined, layers[i].after_attention, tokens);
    norm(hidden, layers[i].mlp_norm, tokens, width, normed);
    rounded.set(normed, tokens);
    mlp(layers[i], tokens);
    add_to_hidden(joined, layers[i].after_mlp, tokens);
  }
  ids.insert(ids.end(), batch.begin(), batch.end());
  norm(hidden, weights->final_norm, tokens, width, normed);
}

Runner::Runner(const Checkpoint& checkpoint, const RunnerOptions& options)
    : Runner(std::make_unique<Parts>(std::make_shared<const Weights>(checkpoint), options)) {}
Runner::Runner(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
std::unique_ptr<Runner> Runner::beside() const {
  return std::unique_ptr<Runner>(new Runner(std::make_unique<Parts>(parts_->weights, parts_->options)));
}
Runner::~Runner() = default;

std::vector<float> Runner::Parts::advance(std::span<const std::int64_t> added, std::size_t kept) {
  if (added.empty()) fail("decoder: no token ids");
  for (const std::int64_t id : added)
    if (id < 0 || id >= config.vocab_size) fail("decoder: token id ", id, " is outside the vocabulary of ", config.vocab_size);
  const std::size_t before = ids.size(), now = before + added.size();
  if (const std::uint64_t needed = cache_bytes_per_token() * now, memory = physical_memory(); needed > memory)
    fail("decoder: the keys and values of ", now, " tokens take ", size_text(needed), ", and this machine has ", size_text(memory),
         " of memory; use a shorter context, or q8_0 for them");
  // Where a longer text turns the earlier tokens by other angles, they are computed anew.
  std::vector<std::int64_t> queue(added.begin(), added.end());
  if (turned_otherwise(before, now)) queue.insert(queue.begin(), ids.begin(), ids.end()), ids.clear();
  rotation.prepare(now), local_rotation.prepare(now);
  const std::size_t first = queue.size() - kept;
  Vector states;
  for (std::size_t done = 0; done < queue.size(); done += kBatch) {
    check_interrupt();
    const std::size_t end = std::min(queue.size(), done + kBatch), from = std::max(done, first);
    feed_batch(std::span(queue).subspan(done, end - done));
    if (from < end) states.insert(states.end(), normed.begin() + static_cast<std::ptrdiff_t>((from - done) * weights->embedding.W.columns), normed.end());
  }
  return states;
}

std::vector<float> Runner::states(std::span<const std::int64_t> ids) { return parts_->advance(ids, ids.size()); }

void Runner::logits(std::span<const float> states, std::vector<float>& logits) {
  Parts& p = *parts_;
  const std::size_t tokens = states.size() / static_cast<std::size_t>(p.config.hidden_size);
  p.rounded.set(states, tokens);
  p.multiply_into({{p.weights->output(), logits}}, tokens);
  if (const auto cap = static_cast<float>(p.config.final_softcap); cap > 0)
    for (float& value : logits) value = cap * std::tanh(value / cap);
}

std::vector<float> Runner::feed(std::span<const std::int64_t> ids, bool all) {
  Vector result;
  logits(parts_->advance(ids, all ? ids.size() : 1), result);
  return result;
}

void Runner::rewind(std::int64_t length) {
  Parts& p = *parts_;
  const auto kept = static_cast<std::size_t>(length), held = p.ids.size();
  if (kept > held) fail("decoder: a context of ", held, " tokens has no first ", length);
  if (!p.turned_otherwise(kept, held)) return p.ids.resize(kept);
  const std::vector<std::int64_t> first(p.ids.begin(), p.ids.begin() + length);
  p.ids.clear();
  p.advance(first, 0);
}

std::int64_t Runner::length() const { return static_cast<std::int64_t>(parts_->ids.size()); }
const ModelConfig& Runner::config() const { return parts_->config; }

std::uint64_t Runner::weight_bytes() const {
  std::uint64_t bytes = bytes_per_token();
  if (!parts_->config.tied_embeddings) bytes += parts_->weights->embedding.W.bytes.size();
  return bytes;
}

std::uint64_t Runner::cache_bytes_per_token() const { return parts_->cache_bytes_per_token(); }

std::uint64_t Runner::bytes_per_token() const {
  const Weights& w = *parts_->weights;
  const auto size = [](const Linear& l) { return l.W.bytes.size() + l.bias.size() * sizeof(float); };
  const auto floats = [](const Vector& v) { return v.size() * sizeof(float); };
  std::uint64_t bytes = size(w.output()) + floats(w.final_norm);
  for (const Layer& l : w.layers) {
    for (const Linear* linear : {&l.q, &l.k, &l.v, &l.qkv, &l.o, &l.gate, &l.up, &l.gate_up, &l.down}) bytes += size(*linear);
    for (const Vector* vector : {&l.q_norm, &l.k_norm, &l.attention_norm, &l.after_attention, &l.mlp_norm, &l.after_mlp}) bytes += floats(*vector);
  }
  return bytes;
}

bool has_packed_matrices(const Checkpoint& checkpoint) {
  return std::any_of(checkpoint.tensors.begin(), checkpoint.tensors.end(),
                     [](const Tensor& tensor) { return info(tensor.type).quantized && tensor.shape.size() == 2; });
}

}  // namespace attar
