// One decoder-only transformer for every family; the config switches its features.
#pragma once

#include <torch/torch.h>

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "convert/checkpoint.h"

namespace attar {

// Keys and values of the tokens seen so far, one pair per layer: (batch, kv_heads, time, head_dim).
struct KvCache {
  std::vector<at::Tensor> keys, values;
  std::int64_t length = 0;  // tokens held
};

// Sees every linear's input while the decoder runs: name "model.layers.0.self_attn.q_proj", x (..., in_features).
using LinearObserver = std::function<void(const std::string& name, const at::Tensor& x)>;

// Parameters are registered under their canonical names (dots become '/' inside torch): parameter("model.norm.weight").
class Decoder : public torch::nn::Module {
 public:
  explicit Decoder(ModelConfig config);  // parameters exist, float32, uninitialised

  // ids: (batch, time) int64 -> logits (batch, time, vocab) float32.
  at::Tensor forward(const at::Tensor& ids, KvCache* cache = nullptr);

  // The same in steps, for work that goes block by block. hidden: (batch, time, hidden_size).
  at::Tensor embed(const at::Tensor& ids);
  at::Tensor layer(std::int64_t index, const at::Tensor& hidden, KvCache* cache = nullptr);
  at::Tensor final_norm(const at::Tensor& hidden);
  at::Tensor logits(const at::Tensor& normed);  // output projection and soft cap

  const ModelConfig& config() const { return config_; }
  at::Tensor& parameter(const std::string& name);          // throws Error
  bool has_parameter(const std::string& name) const;
  // Canonical order.
  std::vector<std::string> parameter_names() const;
  // Names of the linear weights inside layer `index`, in the order their inputs come up:
  // "model.layers.0.self_attn.q_proj.weight", ...
  std::vector<std::string> linear_weights(std::int64_t index) const;

  LinearObserver observer;  // empty: none

 private:
  ModelConfig config_;
  // ... (owned by the model library)
};

// Loads weights as float32 onto device. Throws Error naming the tensor for NaN or Inf.
std::shared_ptr<Decoder> load_decoder(const Checkpoint& checkpoint, const torch::Device& device = torch::kCPU);
// Loads the weights of one layer / of everything else only, for block-by-block work on models larger than memory:
// allocate with Decoder(config, empty) and fill what is needed.
void load_parameter(Decoder& decoder, const Checkpoint& checkpoint, const std::string& name);

// Fresh weights: normal(0, 0.02), norms 1 (0 where the norm adds one), biases 0, output projections / sqrt(2 * layers).
void initialise(Decoder& decoder, std::uint64_t seed);

// A checkpoint over the decoder's current weights (copied), to be written by write_hf or write_gguf.
Checkpoint to_checkpoint(Decoder& decoder, const TokenizerData& tokenizer);

// The device that --device names: "cpu", "cuda", "cuda:1". Throws Error if LibTorch was built without it.
torch::Device parse_device(const std::string& name);
// Threads for LibTorch and its BLAS; warns loudly if the BLAS is the slow reference one.
void set_up_torch(int threads);

}  // namespace attar
