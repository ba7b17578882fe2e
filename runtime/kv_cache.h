// Keys and values of the tokens seen so far, and causal attention over them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace attar {

struct AttentionShape {
  std::size_t heads = 0, kv_heads = 0, head_dim = 0;  // heads: a multiple of kv_heads
  std::size_t window = 0;  // each token sees this many, itself included; 0: all before it
  float softcap = 0;       // scores become softcap * tanh(scores / softcap); 0: no cap
};

enum class CacheType : std::uint8_t {
  kF32,
  kF16,
  kQ8_0,  // 32 dimensions of a head share a scale in f16; head_dim must be a multiple
};
// Of keys and values of one token in one layer.
std::size_t cache_bytes(CacheType type, std::size_t kv_heads, std::size_t head_dim);

// Of one layer.
class LayerCache {
 public:
  // Throws Error for a head_dim that the type does not take.
  LayerCache(CacheType type, std::size_t kv_heads, std::size_t head_dim);
  ~LayerCache();
  LayerCache(LayerCache&&) noexcept;

  // k, v: (tokens, kv_heads, head_dim) at positions begin, begin + 1, ...
  void write(std::size_t begin, std::size_t tokens, const float* k, const float* v);
  // q: (tokens, heads, head_dim), already scaled, at positions begin, begin + 1, ...; their keys have been written.
  // out: the same shape. Spread over the threads; the result does not depend on their number.
  void attend(const AttentionShape& shape, std::size_t begin, std::size_t tokens, const float* q, float* out) const;

  class Store;  // how they are kept

 private:
  std::size_t kv_heads_, head_dim_, room_ = 0;
  std::unique_ptr<Store> store_;
};

}  // namespace attar
