// Rotary position embedding: which angle each pair of dimensions turns by, for every kind of context extension.
//
// RoPE: Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", https://arxiv.org/abs/2104.09864.
// At position m the pair (x_j, x_{j + d/2}) turns by m * theta_j, theta_j = base^(-2j / d), j = 0 .. d/2 - 1. Every
// extension changes theta_j, and some multiply cos and sin by an attention factor. What the released models mean by their
// configs is what Hugging Face transformers computes (modeling_rope_utils.py, read at 5.12.1); the formulas are those:
//
//   linear    theta_j / factor                              position interpolation, https://arxiv.org/abs/2306.15595
//   dynamic   base * (factor L / L_max - (factor - 1))^(d / (d - 2)) for L > L_max tokens           NTK-aware scaling
//   llama3    theta_j / factor for long wavelengths, theta_j for short ones, blended between        Llama 3.1
//   yarn      NTK-by-parts: a ramp over j between theta_j and theta_j / factor, https://arxiv.org/abs/2309.00071
//   longrope  theta_j / short_factor_j up to L_orig tokens, / long_factor_j beyond, https://arxiv.org/abs/2402.13753
#pragma once

#include <cstdint>
#include <vector>

#include "convert/model_config.h"

namespace attar {

struct RopeFrequencies {
  std::vector<float> theta;       // radians per position, one per pair of rotated dimensions
  double attention_factor = 1.0;  // multiplies cos and sin
};

// The first so many dimensions of a head that are rotated. Throws Error if they do not pair up.
std::int64_t rotary_dims(const Rope& rope, std::int64_t head_dim);

// True if theta depends on how many tokens there are, so that keys turned earlier would have to be turned anew.
bool depends_on_length(const Rope& rope);

// length: tokens in the sequence. max_positions: the config's max_position_embeddings. Throws Error for values that give no
// finite angles.
RopeFrequencies rope_frequencies(const Rope& rope, std::int64_t head_dim, std::int64_t max_positions, std::int64_t length);

}  // namespace attar
