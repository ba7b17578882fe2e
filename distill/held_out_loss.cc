#include "distill/held_out_loss.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "base/console.h"
#include "base/error.h"
#include "distill/batch.h"
#include "distill/vocabulary_loss.h"

namespace attar {

double summed_loss(Decoder& decoder, const at::Tensor& normed, const at::Tensor& targets) {
  const at::NoGradGuard no_grad;
  const OutputHead head = output_head(decoder);
  const std::int64_t step = logit_rows(decoder.device(), head.W.size(0));
  const at::Tensor h = normed.reshape({-1, normed.size(-1)});
  double sum = 0;
  for (std::int64_t row = 0; row < h.size(0); row += step) {
    const std::int64_t count = std::min(step, h.size(0) - row);
    sum += agreement(head_logits(head, h.narrow(0, row, count)), {}, targets.narrow(0, row, count)).cross_entropy.item<double>();
  }
  return sum;
}

double held_out_loss(Decoder& decoder, const std::vector<Chunk>& chunks, std::int64_t batch) {
  const at::NoGradGuard no_grad;
  const std::int64_t targets = targets_of(chunks);
  if (targets == 0) fail("[held-out loss] there is no text");
  double sum = 0;
  for (std::size_t begin = 0; begin < chunks.size(); begin += static_cast<std::size_t>(batch)) {
    check_interrupt();
    const auto end = std::min(begin + static_cast<std::size_t>(batch), chunks.size());
    const Batch part = make_batch({chunks.begin() + static_cast<std::ptrdiff_t>(begin), chunks.begin() + static_cast<std::ptrdiff_t>(end)},
                                  decoder.device());
    const Packed packed(part, {&decoder});
    sum += summed_loss(decoder, decoder.hidden_states(part.ids), part.targets);
  }
  return sum / static_cast<double>(targets);
}

}  // namespace attar
