// The decoder on the kernels: every family of the model layer, straight from packed weights, without LibTorch.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "convert/checkpoint.h"
#include "runtime/kv_cache.h"
#include "runtime/text_model.h"

namespace attar {

struct RunnerOptions {
  // Round nothing: activations meet packed matrices as floats, and keys and values stay float32 instead of f16. Slower; for
  // comparisons.
  bool exact = false;
  CacheType cache = CacheType::kF16;  // of keys and values, unless exact
};

// Holds the weights as the file has them; one context of tokens at a time. Not for several threads at once: each product spreads over them.
class Runner final : public TextModel {
 public:
  // Throws Error for a config that cannot be computed, and naming the tensor for vectors with NaN or Inf.
  explicit Runner(const Checkpoint& checkpoint, const RunnerOptions& options = {});
  // Another context over the same weights, which may be used by another thread.
  std::unique_ptr<Runner> beside() const;
  ~Runner() override;
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  // Continues the context by ids. Returns what logits() takes, the final hidden states: (ids, hidden_size).
  // Throws Error for no ids, for ids outside the vocabulary, and for a context whose keys and values exceed this machine's memory.
  std::vector<float> states(std::span<const std::int64_t> ids);
  // states: (n, hidden_size). logits: becomes (n, vocab); one kept from call to call need not be cleared for each.
  void logits(std::span<const float> states, std::vector<float>& logits);
  // Both: the logits of the last id, or with `all` of each.
  std::vector<float> feed(std::span<const std::int64_t> ids, bool all = false) override;
  void rewind(std::int64_t length);  // the context ends after its first `length` tokens
  void clear() override { rewind(0); }
  std::int64_t length() const;

  const ModelConfig& config() const override;
  std::uint64_t weight_bytes() const override;
  std::uint64_t bytes_per_token() const;  // of weights, read to decode one token
  std::uint64_t cache_bytes_per_token() const;  // of keys and values in all layers

 private:
  struct Weights;
  struct Parts;
  explicit Runner(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

// Whether a Runner is what runs this model, where neither a GPU nor floats are asked for: some of its matrices are quantized.
bool has_packed_matrices(const Checkpoint& checkpoint);

}  // namespace attar
