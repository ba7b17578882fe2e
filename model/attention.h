// Causal attention with grouped heads, sliding windows and soft caps, and the rotation tables it goes with.
#pragma once

#include <ATen/ATen.h>

#include <array>
#include <map>
#include <utility>

#include "convert/model_config.h"

namespace attar {

// cos and sin of every position's angles, kept and grown as longer sequences come.
class RotaryTable {
 public:
  RotaryTable(const Rope& rope, std::int64_t head_dim, std::int64_t max_positions);

  // Positions [begin, end) of a sequence of `end` tokens: (end - begin, rotary_dims / 2) each, float32.
  std::pair<at::Tensor, at::Tensor> at(std::int64_t begin, std::int64_t end, const at::Device& device);
  bool follows_length() const { return follows_length_; }
  // Whether positions turn by other angles once a sequence of `from` tokens has `to`.
  bool changes(std::int64_t from, std::int64_t to) const;

 private:
  void build(std::int64_t rows, std::int64_t length, const at::Device& device);

  std::vector<float> theta(std::int64_t length) const;

  Rope rope_;
  std::int64_t head_dim_, max_positions_;
  bool follows_length_;
  std::vector<float> theta_;  // of the table held
  at::Tensor cos_, sin_;      // (positions, rotary_dims / 2)
};

// Masks to be added to scores, by shape; made once.
class MaskCache {
 public:
  // (queries, keys): 0 where query i, which stands at key i + shift, may look; -inf elsewhere. window: 0 for none.
  at::Tensor get(std::int64_t queries, std::int64_t keys, std::int64_t shift, std::int64_t window,
                 const at::Device& device);

 private:
  std::map<std::array<std::int64_t, 5>, at::Tensor> masks_;
};

struct AttentionOptions {
  std::int64_t window = 0;  // each token sees this many, itself included; 0: all before it
  double softcap = 0.0;     // scores become softcap * tanh(scores / softcap); 0: no cap
  at::Tensor document;      // (batch, keys) int64: tokens see only those with their own number; undefined: all
};

// q: (batch, heads, time, head_dim), already scaled; k, v: (batch, kv_heads, keys, head_dim), keys >= time, the queries being
// the last of them. heads is a multiple of kv_heads. Returns (batch, time, heads * head_dim).
// Goes block by block over the queries and looks only at keys that some query of the block may see.
at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionOptions& options,
                  MaskCache& masks);

}  // namespace attar
