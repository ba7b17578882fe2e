#include "distill/expected_uses.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "base/console.h"
#include "base/error.h"
#include "distill/batch.h"
#include "distill/vocabulary_loss.h"

namespace attar {

std::vector<double> expected_uses(Decoder& decoder, const std::vector<Ids>& chunks, std::int64_t batch) {
  if (chunks.empty()) fail("[prune] there is no calibration text");
  const at::NoGradGuard no_grad;
  const OutputHead head = output_head(decoder);
  const std::int64_t step = logit_rows(decoder.device(), head.W.size(0));
  at::Tensor sum = at::zeros({head.W.size(0)}, at::device(decoder.device()).dtype(at::kDouble));
  Progress progress("tokens", static_cast<std::uint64_t>(std::ssize(chunks) * (std::ssize(chunks.front()) - 1)), "tokens");
  for (std::size_t begin = 0; begin < chunks.size(); begin += static_cast<std::size_t>(batch)) {
    check_interrupt();
    const auto end = std::min(begin + static_cast<std::size_t>(batch), chunks.size());
    const Batch part = make_batch({chunks.begin() + static_cast<std::ptrdiff_t>(begin), chunks.begin() + static_cast<std::ptrdiff_t>(end)},
                                  decoder.device());
    const at::Tensor h = decoder.hidden_states(part.ids).reshape({-1, head.W.size(1)});
    for (std::int64_t row = 0; row < h.size(0); row += step) {
      const at::Tensor p = at::softmax(head_logits(head, h.narrow(0, row, std::min(step, h.size(0) - row))), -1);
      sum += at::mv(p.t(), at::ones({p.size(0)}, p.options()));
    }
    progress.advance(static_cast<std::uint64_t>(part.ids.numel()));
  }
  sum = sum.cpu();
  return {sum.data_ptr<double>(), sum.data_ptr<double>() + sum.numel()};
}

}  // namespace attar
