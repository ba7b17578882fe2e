#include "distill/vocabulary_loss.h"

#include <algorithm>

#include "model/tensor.h"

namespace attar {
namespace {

// Logits at a time: few enough to be small beside a phone-size model, many enough that the gradient of W, which every group
// reads and writes, is not what takes the time.
constexpr std::int64_t kLogitsOnCpu = std::int64_t{1} << 22, kLogitsOnDevice = std::int64_t{1} << 28;

}  // namespace

OutputHead output_head(Decoder& decoder) {
  const ModelConfig& config = decoder.config();
  const std::string name = config.tied_embeddings ? "model.embed_tokens.weight" : "lm_head.weight";
  return {name, decoder.parameter(name).detach().to(decoder.compute), config.final_softcap};
}

std::int64_t logit_rows(const at::Device& device, std::int64_t vocab) {
  return std::max<std::int64_t>((device.is_cpu() ? kLogitsOnCpu : kLogitsOnDevice) / vocab, 64);
}

at::Tensor head_logits(const OutputHead& head, const at::Tensor& h) {
  const at::NoGradGuard no_grad;
  at::Tensor z = widened(at::mm(h, head.W.t()));
  if (head.softcap > 0) z.div_(head.softcap).tanh_().mul_(head.softcap);
  return z;
}

LossSums vocabulary_loss(const at::Tensor& h, const OutputHead& student, const TeacherOfRows& teacher, const at::Tensor& targets,
                         const LossOptions& options, double scale, std::int64_t rows, at::Tensor& h_gradient,
                         at::Tensor& W_gradient) {
  const at::NoGradGuard no_grad;
  LossSums sums = zero_sums(at::device(h.device()));
  for (std::int64_t row = 0; row < h.size(0); row += rows) {
    const std::int64_t count = std::min(rows, h.size(0) - row);
    const at::Tensor part = h.narrow(0, row, count);
    at::Tensor z = head_logits(student, part), slope;
    if (student.softcap > 0) slope = (z / student.softcap).square_().neg_().add_(1);
    sums += distillation_loss(z, teacher(row, count), targets.narrow(0, row, count), options, z);
    if (slope.defined()) z.mul_(slope);
    const at::Tensor gradient = z.to(student.W.scalar_type());  // in place of the logits
    at::Tensor out = h_gradient.narrow(0, row, count);
    at::addmm_out(out, out, gradient, student.W, 0, scale);
    if (W_gradient.scalar_type() == gradient.scalar_type())
      W_gradient.addmm_(gradient.t(), part, 1, scale);
    else
      W_gradient.add_(at::mm(gradient.t(), part), scale);
  }
  return sums;
}

}  // namespace attar
