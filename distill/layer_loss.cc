#include "distill/layer_loss.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "base/console.h"
#include "base/error.h"
#include "distill/batch.h"
#include "distill/held_out_loss.h"

namespace attar {

std::vector<double> layer_losses(Decoder& decoder, const std::vector<Ids>& chunks, std::int64_t batch) {
  if (chunks.empty()) fail("[prune] there is no calibration text");
  const at::NoGradGuard no_grad;
  const std::int64_t layers = decoder.config().layers, tokens = std::ssize(chunks) * (std::ssize(chunks.front()) - 1);
  std::vector<double> without(static_cast<std::size_t>(layers), 0.0);
  double whole = 0;
  Progress progress("layers", static_cast<std::uint64_t>(tokens * layers), "tokens");
  for (std::size_t begin = 0; begin < chunks.size(); begin += static_cast<std::size_t>(batch)) {
    const auto end = std::min(begin + static_cast<std::size_t>(batch), chunks.size());
    const Batch part = make_batch({chunks.begin() + static_cast<std::ptrdiff_t>(begin), chunks.begin() + static_cast<std::ptrdiff_t>(end)},
                                  decoder.device());
    at::Tensor h = decoder.embed(part.ids);
    for (std::int64_t left_out = 0; left_out < layers; ++left_out) {
      at::Tensor around = h;
      for (std::int64_t l = left_out + 1; l < layers; ++l) around = decoder.layer(l, around);
      without[static_cast<std::size_t>(left_out)] += summed_loss(decoder, decoder.final_norm(around), part.targets);
      h = decoder.layer(left_out, h);
      progress.advance(static_cast<std::uint64_t>(part.ids.numel()));
    }
    whole += summed_loss(decoder, decoder.final_norm(h), part.targets);
  }
  for (double& loss : without) loss = (loss - whole) / static_cast<double>(tokens);
  return without;
}

}  // namespace attar
