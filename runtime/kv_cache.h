// Keys and values of the tokens seen so far, and causal attention over them.
#pragma once

#include <cstdint>
#include <vector>

namespace attar {

struct AttentionShape {
  std::size_t heads = 0, kv_heads = 0, head_dim = 0;  // heads: a multiple of kv_heads
  std::size_t window = 0;  // each token sees this many, itself included; 0: all before it
  float softcap = 0;       // scores become softcap * tanh(scores / softcap); 0: no cap
};

// Of one layer. Stored: std::uint16_t for f16, or float.
template <class Stored>
class LayerCache {
 public:
  LayerCache(std::size_t kv_heads, std::size_t head_dim) : kv_heads_(kv_heads), head_dim_(head_dim) {}

  // k, v: (tokens, kv_heads, head_dim) at positions begin, begin + 1, ...
  void write(std::size_t begin, std::size_t tokens, const float* k, const float* v);
  // q: (tokens, heads, head_dim), already scaled, at positions begin, begin + 1, ...; their keys have been written.
  // out: the same shape. Spread over the threads; the result does not depend on their number.
  void attend(const AttentionShape& shape, std::size_t begin, std::size_t tokens, const float* q, float* out) const;

 private:
  void make_room(std::size_t needed);

  std::size_t kv_heads_, head_dim_, room_ = 0;
  std::vector<Stored> keys_;    // (kv_heads, head_dim, room): places of a dimension side by side
  std::vector<Stored> values_;  // (kv_heads, room, head_dim)
};

}  // namespace attar
