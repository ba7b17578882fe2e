// What a model says of text, without a gradient.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "distill/packing.h"
#include "model/decoder.h"

namespace attar {

// Cross-entropy summed over the targets that count, in nats. normed: (batch, time, hidden_size), what the output projection takes;
// targets: (batch * time).
double summed_loss(Decoder& decoder, const at::Tensor& normed, const at::Tensor& targets);

// Mean cross-entropy over the targets of chunks of one length, in nats. batch: chunks at a time.
double held_out_loss(Decoder& decoder, const std::vector<Chunk>& chunks, std::int64_t batch);

}  // namespace attar
