// One decoder-only transformer for every family; the config switches its features.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "convert/checkpoint.h"
#include "model/threads.h"

namespace attar {

class RotaryTable;

// Keys and values of the tokens seen so far, one pair per layer: (batch, kv_heads, room, head_dim), of which the first
// `length` places along room are filled. Start with an empty one; the decoder fills and grows it.
struct KvCache {
  std::vector<at::Tensor> keys, values;
  std::int64_t length = 0;  // tokens held
  at::Tensor ids;           // (batch, length); kept only for models whose angles follow the length
};

// Several texts in each row of a batch, each as if it were alone: none sees another, all begin at position 0.
struct Packing {
  at::Tensor document;       // (batch, time) int64: which text of its row a token belongs to
  at::Tensor position;       // (batch, time) int64: its place in that text
  std::int64_t longest = 0;  // tokens of the longest text
};

// Sees every linear's input while the decoder runs: name "model.layers.0.self_attn.q_proj", x (..., in_features). The output
// projection comes last, as "lm_head" or, if it is tied, "model.embed_tokens": name + ".weight" is always a parameter.
using LinearObserver = std::function<void(const std::string& name, const at::Tensor& x)>;

// Sees what attention in layer `index` compares and mixes, while the decoder runs: queries and keys behind their norms, before
// they are turned by their positions, and values. q: (batch, time, heads * head_dim); k, v: (batch, time, kv_heads * head_dim).
using AttentionObserver =
    std::function<void(std::int64_t index, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v)>;

// Parameters go by their canonical names: parameter("model.norm.weight").
class Decoder {
 public:
  // Parameters exist, float32, uninitialised: their memory is not touched before it is filled. Throws Error for a config
  // that cannot be computed.
  explicit Decoder(ModelConfig config);
  ~Decoder();
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  // ids: (batch, time) int64 -> logits (batch, time, vocab) float32. With a cache, ids continue what it holds, and no
  // gradients are recorded. Throws Error for ids outside the vocabulary.
  // Cached or not, the logits are those of one pass over all tokens: where a longer text turns the earlier ones by other
  // angles (longrope past the original context; dynamic scaling, at every token past the trained one), the cache is
  // computed anew.
  at::Tensor forward(const at::Tensor& ids, KvCache* cache = nullptr);

  // The same in steps, for work that goes block by block. hidden: (batch, time, hidden_size). layer() adds to the cache but
  // leaves cache->length alone: add the time once all layers are through.
  at::Tensor embed(const at::Tensor& ids);
  at::Tensor layer(std::int64_t index, const at::Tensor& hidden, KvCache* cache = nullptr);
  // A layer is mlp_half(attention_half(hidden)); each adds its output to what came in.
  at::Tensor attention_half(std::int64_t index, const at::Tensor& hidden, KvCache* cache = nullptr);
  at::Tensor mlp_half(std::int64_t index, const at::Tensor& hidden);
  // The ends of these, from the input of the half's last linear on: x (batch, time, in_features).
  at::Tensor attention_end(std::int64_t index, const at::Tensor& hidden, const at::Tensor& x);
  at::Tensor mlp_end(std::int64_t index, const at::Tensor& hidden, const at::Tensor& x);
  at::Tensor final_norm(const at::Tensor& hidden);
  at::Tensor logits(const at::Tensor& normed);  // output projection and soft cap
  // embed, all layers, final_norm: what logits() takes.
  at::Tensor hidden_states(const at::Tensor& ids, KvCache* cache = nullptr);

  const ModelConfig& config() const { return config_; }
  at::Tensor& parameter(const std::string& name);          // throws Error
  bool has_parameter(const std::string& name) const;
  // Both in canonical order; the tensors share their memory with the decoder.
  std::vector<std::string> parameter_names() const;
  std::vector<at::Tensor> parameters() const;
  void to(const at::Device& device);
  // Names of the linear weights inside layer `index`, in the order their inputs come up:
  // "model.layers.0.self_attn.q_proj.weight", ...
  std::vector<std::string> linear_weights(std::int64_t index) const;
  at::Device device() const;
  std::uint64_t weight_bytes() const;  // held in memory

  LinearObserver observer;  // empty: none
  LinearObserver output_observer;  // the same for what every linear gives, (..., out_features)
  AttentionObserver attention_observer;
  // How the tokens that come are packed; null: a row is one text. Stays as it is until their gradients are taken, and goes
  // with no cache. embed and hidden_states throw Error where the model's angles follow the length of a text, so that those of packed
  // texts would differ.
  const Packing* packing = nullptr;
  // Of activations and of what matrices are multiplied by; kFloat or kBFloat16. Weights are cast where they are used, with a gradient of their
  // own type. Norms, rotations, softmax and the logits are float32 all the same.
  at::ScalarType compute = at::kFloat;

 private:
  struct Linear;
  struct Layer;
  struct Parts;
  at::Tensor apply(const Linear& linear, const at::Tensor& x) const;
  at::Tensor product(const Linear& linear, const at::Tensor& x) const;
  at::Tensor norm(const at::Tensor& x, const at::Tensor* weight) const;
  at::Tensor attention(std::int64_t index, const at::Tensor& x, KvCache* cache);  // what the heads give
  at::Tensor gated(const Layer& layer, const at::Tensor& x) const;
  at::Tensor turned(const at::Tensor& given, RotaryTable& table, std::int64_t past, double scale) const;
  void check_packing(const at::Tensor& ids) const;
  at::Tensor all_layers(const at::Tensor& ids, KvCache* cache);

  ModelConfig config_;
  std::unique_ptr<Parts> parts_;
};

// Loads weights as float32 onto device. Throws Error naming the tensor for NaN or Inf.
std::shared_ptr<Decoder> load_decoder(const Checkpoint& checkpoint, const at::Device& device = at::kCPU);
// Whether Runner runs it, which multiplies quantized matrices as they are: there are some, and neither a GPU nor floats were asked for.
bool runs_on_kernels(const Checkpoint& checkpoint, const at::Device& device, bool floats);
// Another decoder over the same weights, for another thread: a decoder keeps tables of its own while it runs.
std::shared_ptr<Decoder> share_weights(Decoder& decoder);
// Keeps matrices in the type that the decoder computes in, for one that is not trained.
void hold_in_compute_type(Decoder& decoder);
// For block-by-block work on models larger than memory: make a Decoder, load the parameters of a block, use them, drop them.
void load_parameter(Decoder& decoder, const Checkpoint& checkpoint, const std::string& name);
void drop_parameter(Decoder& decoder, const std::string& name);  // gives its memory back; load_parameter brings it again

// Fresh weights: normal(0, 0.02), norms 1 (0 where the norm adds one), biases 0, output projections / sqrt(2 * layers).
void initialise(Decoder& decoder, std::uint64_t seed);

// A checkpoint over the decoder's current weights (copied), to be written by write_hf or write_gguf.
Checkpoint to_checkpoint(Decoder& decoder, const TokenizerData& tokenizer);

// The device that --device names: "cpu", "cuda", "cuda:1". Throws Error if LibTorch was built without it.
at::Device parse_device(const std::string& name);

}  // namespace attar
