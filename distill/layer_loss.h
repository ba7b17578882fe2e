// How much text loses when a layer is left out.
//
// S. Muralidharan et al., "Compact Language Models via Pruning and Knowledge Distillation" (Minitron), 2024,
// https://arxiv.org/abs/2407.14679, section 2.2, "Depth (layers)": a layer matters as much as the perplexity rises without it.
#pragma once

#include <cstdint>
#include <vector>

#include "datasets/tokenizer.h"
#include "model/decoder.h"

namespace attar {

// By layer: mean cross-entropy of the model without that layer (and with all others) less that of the whole one, in nats; negative if the
// model is better off without it. chunks: token ids of one length. batch: chunks at a time. Takes as long as (layers + 1) / 2 passes
// over the text, or a little more: what stands before the missing layer is computed once. Throws Error if there is no text.
std::vector<double> layer_losses(Decoder& decoder, const std::vector<Ids>& chunks, std::int64_t batch);

}  // namespace attar
