// How much each part of a model matters, measured on calibration text in one pass.
//
// S. Muralidharan et al., "Compact Language Models via Pruning and Knowledge Distillation" (Minitron), 2024,
// https://arxiv.org/abs/2407.14679, section 2.2: activations are averaged over the sequence as mean |x| and over the batch
// as an L2 norm. Layers: X. Men et al., "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect",
// 2024, https://arxiv.org/abs/2403.03853, equation 1: block influence = 1 - E[cos(h_in, h_out)].
#pragma once

#include <cstdint>
#include <vector>

#include "datasets/tokenizer.h"
#include "model/decoder.h"

namespace attar {

struct Importance {
  std::vector<double> layers;                 // block influence
  std::vector<std::vector<double>> channels;  // [layer][intermediate_size], at the input of the MLP's down projection
  std::vector<std::vector<double>> heads;     // [layer][heads], at the input of attention's output projection
  std::vector<double> hidden;                 // [hidden_size], at the outputs of the norms before attention and MLP
  // Mean square, relative to the mean over all channels, of what enters each norm: [layer][hidden_size] before attention
  // and before the MLP, [hidden_size] before the output projection. Cutting channels changes a norm's divisor by it.
  std::vector<std::vector<double>> attention_energy, mlp_energy;
  std::vector<double> final_energy;
};

// chunks: token ids of one length. batch: chunks at a time. Takes over the decoder's observer while it runs.
Importance measure_importance(Decoder& decoder, const std::vector<Ids>& chunks, std::int64_t batch);

}  // namespace attar
