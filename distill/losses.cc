#include "distill/losses.h"

#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "base/error.h"

namespace attar {
namespace {

// Elements of a block of rows: several passes go over it, so on a CPU it should stay in the cache.
constexpr std::int64_t kBlockOnCpu = std::int64_t{1} << 18;

// v with as many columns as the student; see distillation_loss.
at::Tensor fit_vocabulary(const at::Tensor& v, std::int64_t columns) {
  if (v.size(1) >= columns) return v.narrow(1, 0, columns);
  constexpr double kImpossible = -1e9;  // finite: 0 * log 0 must be 0, not NaN
  return at::constant_pad_nd(v, {0, columns - v.size(1)}, kImpossible);
}

struct Block {
  at::Tensor total, cross_entropy, kl;  // float64 scalars
};

// One block of rows; see the symbols in losses.h. gradient: (rows, vocab) to be filled with dL/dz, or undefined.
Block block_loss(const at::Tensor& z, const at::Tensor& v, const at::Tensor& y, const LossOptions& options,
                 const at::Tensor& gradient) {
  const double T = options.temperature;
  const at::Tensor valid = y.ne(kIgnoredTarget).to(z.scalar_type());
  const at::Tensor column = y.clamp_min(0).unsqueeze(1);
  const at::Tensor log_softmax_z = at::log_softmax(z, -1);
  Block sums;
  sums.cross_entropy = -(log_softmax_z.gather(1, column).squeeze(1) * valid).sum(at::kDouble);
  if (!v.defined()) {
    sums.kl = at::zeros({}, sums.cross_entropy.options());
    sums.total = sums.cross_entropy;
    if (gradient.defined()) {
      at::exp_out(const_cast<at::Tensor&>(gradient), log_softmax_z);
      gradient.scatter_add_(1, column, at::full_like(column, -1, z.options()));
      gradient.mul_(valid.unsqueeze(1));
    }
    return sums;
  }
  at::Tensor difference = at::log_softmax(T == 1 ? v : v / T, -1);  // log p, below log p - log q
  at::Tensor p = difference.exp();
  const at::Tensor log_q = T == 1 ? log_softmax_z : at::log_softmax(z / T, -1);
  difference.sub_(log_q);
  sums.kl = ((p * difference).sum(-1) * valid).sum(at::kDouble);
  sums.total = options.alpha * sums.cross_entropy + ((1 - options.alpha) * T * T) * sums.kl;
  if (gradient.defined()) {
    at::exp_out(const_cast<at::Tensor&>(gradient), log_q);
    gradient.sub_(p);
    if (options.alpha != 0) {
      gradient.mul_((1 - options.alpha) * T);
      gradient.add_(at::exp_out(p, log_softmax_z), options.alpha);
      gradient.scatter_add_(1, column, at::full_like(column, -options.alpha, z.options()));
    } else if (T != 1) {
      gradient.mul_(T);
    }
    gradient.mul_(valid.unsqueeze(1));
  }
  return sums;
}

std::int64_t block_rows(const at::Tensor& z) {
  return z.is_cpu() ? std::clamp<std::int64_t>(kBlockOnCpu / z.size(1), 16, z.size(0)) : z.size(0);
}

// What the loss looks at besides the student's logits; a struct, since autograd cannot take an undefined tensor.
struct Reference {
  at::Tensor v, y;
  LossOptions options;
};

// Loss and its gradient in one go: autograd's own chain of operations would keep five tensors of the logits' size.
class DistillationLoss : public torch::autograd::Function<DistillationLoss> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context, const at::Tensor& z,
                                                const Reference& reference) {
    const auto& [v, y, options] = reference;
    const at::Tensor gradient = at::empty_like(z);
    const std::int64_t step = std::max<std::int64_t>(block_rows(z), 1);
    at::Tensor total = at::zeros({}, z.options().dtype(at::kDouble)), cross_entropy = total.clone(), kl = total.clone();
    for (std::int64_t row = 0; row < z.size(0); row += step) {
      const std::int64_t count = std::min(step, z.size(0) - row);
      const Block sums = block_loss(z.narrow(0, row, count), v.defined() ? v.narrow(0, row, count) : v,
                                    y.narrow(0, row, count), options, gradient.narrow(0, row, count));
      total += sums.total;
      cross_entropy += sums.cross_entropy;
      kl += sums.kl;
    }
    context->save_for_backward({gradient});
    context->mark_non_differentiable({cross_entropy, kl});
    return {total, cross_entropy, kl};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const at::Tensor gradient = context->get_saved_variables()[0];
    return {gradient * grads[0].to(gradient.scalar_type()), {}};
  }
};

void check_shapes(const at::Tensor& student, const at::Tensor& teacher, const at::Tensor& targets) {
  if (student.dim() != 2 || targets.dim() != 1 || targets.size(0) != student.size(0) ||
      (teacher.defined() && (teacher.dim() != 2 || teacher.size(0) != student.size(0))))
    fail("[distillation loss] shapes do not fit: student ", student.sizes(), ", teacher ",
         teacher.defined() ? teacher.sizes() : at::IntArrayRef{}, ", targets ", targets.sizes());
}

}  // namespace

LossSums distillation_loss(const at::Tensor& student, const at::Tensor& teacher, const at::Tensor& targets,
                           const LossOptions& options) {
  check_shapes(student, teacher, targets);
  at::Tensor v;
  if (teacher.defined()) v = fit_vocabulary(teacher.detach(), student.size(1));
  const auto sums = DistillationLoss::apply(student, Reference{v, targets, options});
  return {sums[0], sums[1], sums[2]};
}

AgreementSums agreement(const at::Tensor& student, const at::Tensor& teacher, const at::Tensor& targets) {
  check_shapes(student, teacher, targets);
  const at::NoGradGuard no_grad;
  at::Tensor v;
  if (teacher.defined()) v = fit_vocabulary(teacher, student.size(1));
  const std::int64_t step = std::max<std::int64_t>(block_rows(student), 1);
  AgreementSums sums;
  sums.cross_entropy = at::zeros({}, student.options().dtype(at::kDouble));
  sums.kl = sums.cross_entropy.clone();
  sums.same_top = sums.cross_entropy.clone();
  for (std::int64_t row = 0; row < student.size(0); row += step) {
    const std::int64_t count = std::min(step, student.size(0) - row);
    const at::Tensor z = student.narrow(0, row, count), y = targets.narrow(0, row, count);
    const at::Tensor block_v = v.defined() ? v.narrow(0, row, count) : v;
    const Block block = block_loss(z, block_v, y, {1.0, 0.0}, {});
    sums.cross_entropy += block.cross_entropy;
    if (!v.defined()) continue;
    sums.kl += block.kl;
    sums.same_top += z.argmax(-1).eq(block_v.argmax(-1)).logical_and(y.ne(kIgnoredTarget)).sum().to(at::kDouble);
  }
  return sums;
}

}  // namespace attar
