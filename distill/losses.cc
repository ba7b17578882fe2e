#include "distill/losses.h"

#include <algorithm>

#include "base/error.h"

namespace attar {
namespace {

// Elements of a block of rows: several passes go over it, so on a CPU it should stay in the cache.
constexpr std::int64_t kBlockOnCpu = std::int64_t{1} << 18;

// v with as many columns as the student; see distillation_loss.
at::Tensor fit_vocabulary(const at::Tensor& v, std::int64_t columns) {
  if (v.size(1) >= columns) return v.narrow(1, 0, columns);
  constexpr double kImpossible = 100;  // nats below the likeliest: finite, since 0 * ln 0 must be 0 and not NaN
  const at::Tensor least = v.amax(-1, true).sub_(kImpossible).expand({v.size(0), columns - v.size(1)});
  return at::cat({v, least}, 1);
}

void check_shapes(const at::Tensor& student, const TeacherRows& teacher, const at::Tensor& targets) {
  const at::Tensor& rows = teacher.logits.defined() ? teacher.logits : teacher.ids;
  if (student.dim() != 2 || targets.dim() != 1 || targets.size(0) != student.size(0) ||
      (rows.defined() && (rows.dim() != 2 || rows.size(0) != student.size(0))))
    fail("[distillation loss] shapes do not fit: student ", student.sizes(), ", teacher ",
         rows.defined() ? rows.sizes() : at::IntArrayRef{}, ", targets ", targets.sizes());
}

// D of the rows; leaves S - q * sum S in `gradient` if it is defined. Overwrites log_q.
at::Tensor measure(const TeacherRows& teacher, at::Tensor& log_q, const LossOptions& options, const at::Tensor& gradient) {
  if (teacher.ids.defined()) {
    if (options.divergence.measure != Measure::kForwardKl)
      fail("[distillation loss] ", divergence_text(options.divergence), " needs all of the teacher's distribution; a cache holds a part");
    const at::Tensor D = (teacher.weight * (teacher.log_p - log_q.gather(1, teacher.ids))).sum(-1);
    if (gradient.defined()) {
      at::exp_out(const_cast<at::Tensor&>(gradient), log_q);
      gradient.mul_(teacher.weight.sum(-1, true)).scatter_add_(1, teacher.ids, -teacher.weight);
    }
    return D;
  }
  const double T = options.temperature;
  const at::Tensor v = fit_vocabulary(teacher.logits, log_q.size(1));
  at::Tensor log_p = at::log_softmax(T == 1 ? v : v / T, -1);
  if (gradient.defined()) at::exp_out(const_cast<at::Tensor&>(gradient), log_q);
  const at::Tensor D = divergence_and_slope(options.divergence, log_p, log_q), &S = log_p;
  if (gradient.defined()) gradient.mul_(S.sum(-1, true).neg_()).add_(S);
  return D;
}

// One block of rows.
LossSums block_loss(const at::Tensor& z, const TeacherRows& teacher, const at::Tensor& y, const LossOptions& options,
                    const at::Tensor& gradient) {
  const double T = options.temperature;
  const at::Tensor valid = y.ne(kIgnoredTarget), column = y.clamp_min(0).unsqueeze(1);
  const auto sum_valid = [&](const at::Tensor& rows) { return rows.masked_fill(valid.logical_not(), 0).sum(at::kDouble); };
  const double alpha = teacher.defined() ? options.alpha : 1.0;
  at::Tensor log_softmax_z = at::log_softmax(z, -1);
  LossSums sums;
  sums.cross_entropy = -sum_valid(log_softmax_z.gather(1, column).squeeze(1));
  sums.divergence = at::zeros_like(sums.cross_entropy);
  sums.hidden = at::zeros_like(sums.cross_entropy), sums.attention = at::zeros_like(sums.cross_entropy);
  if (teacher.defined()) {
    at::Tensor log_q = T != 1 ? at::log_softmax(z / T, -1) : alpha != 0 ? log_softmax_z.clone() : log_softmax_z;
    sums.divergence = sum_valid(measure(teacher, log_q, options, gradient));
    if (gradient.defined() && (1 - alpha) * T != 1) gradient.mul_((1 - alpha) * T);
  } else if (gradient.defined()) {
    gradient.zero_();
  }
  sums.total = alpha * sums.cross_entropy + ((1 - alpha) * T * T) * sums.divergence;
  if (!gradient.defined()) return sums;
  if (alpha != 0) {
    gradient.add_(log_softmax_z.exp_(), alpha);
    gradient.scatter_add_(1, column, at::full_like(column, -alpha, z.options()));
  }
  gradient.masked_fill_(valid.logical_not().unsqueeze(1), 0);
  return sums;
}

std::int64_t block_rows(const at::Tensor& z) {
  if (!z.is_cpu()) return std::max<std::int64_t>(z.size(0), 1);
  return std::max<std::int64_t>(kBlockOnCpu / z.size(1), 16);
}

// Calls visit(first row, number of rows) for each block.
template <class Visit>
void for_blocks(const at::Tensor& z, const Visit& visit) {
  const std::int64_t step = block_rows(z);
  for (std::int64_t row = 0; row < z.size(0); row += step) visit(row, std::min(step, z.size(0) - row));
}

}  // namespace

TeacherRows TeacherRows::narrow(std::int64_t begin, std::int64_t count) const {
  const auto part = [&](const at::Tensor& rows) { return rows.defined() ? rows.narrow(0, begin, count) : rows; };
  return {part(logits), part(ids), part(log_p), part(weight)};
}

LossSums& LossSums::operator+=(const LossSums& other) {
  total += other.total;
  cross_entropy += other.cross_entropy;
  divergence += other.divergence;
  hidden += other.hidden;
  attention += other.attention;
  return *this;
}

AgreementSums& AgreementSums::operator+=(const AgreementSums& other) {
  cross_entropy += other.cross_entropy;
  kl += other.kl;
  same_top += other.same_top;
  kl_squares += other.kl_squares;
  return *this;
}

LossSums zero_sums(const at::TensorOptions& on) {
  const auto zero = [&] { return at::zeros({}, on.dtype(at::kDouble)); };
  return {zero(), zero(), zero(), zero(), zero()};
}

AgreementSums zero_agreement(const at::TensorOptions& on) {
  const auto zero = [&] { return at::zeros({}, on.dtype(at::kDouble)); };
  return {zero(), zero(), zero(), zero()};
}

LossSums distillation_loss(const at::Tensor& student, const TeacherRows& teacher, const at::Tensor& targets,
                           const LossOptions& options, const at::Tensor& gradient) {
  check_shapes(student, teacher, targets);
  const at::NoGradGuard no_grad;
  LossSums sums = zero_sums(at::device(student.device()));
  for_blocks(student, [&](std::int64_t row, std::int64_t count) {
    sums += block_loss(student.narrow(0, row, count), teacher.narrow(row, count), targets.narrow(0, row, count), options,
                       gradient.defined() ? gradient.narrow(0, row, count) : gradient);
  });
  return sums;
}

AgreementSums agreement(const at::Tensor& student, const TeacherRows& teacher, const at::Tensor& targets) {
  check_shapes(student, teacher, targets);
  const at::NoGradGuard no_grad;
  AgreementSums sums = zero_agreement(at::device(student.device()));
  for_blocks(student, [&](std::int64_t row, std::int64_t count) {
    const at::Tensor z = student.narrow(0, row, count), y = targets.narrow(0, row, count);
    const TeacherRows rows = teacher.narrow(row, count);
    const at::Tensor masked = y.eq(kIgnoredTarget);
    at::Tensor log_q = at::log_softmax(z, -1);
    sums.cross_entropy -= log_q.gather(1, y.clamp_min(0).unsqueeze(1)).squeeze(1).masked_fill(masked, 0).sum(at::kDouble);
    if (!teacher.defined()) return;
    const at::Tensor kl = measure(rows, log_q, {}, {}).masked_fill(masked, 0);
    sums.kl += kl.sum(at::kDouble);
    sums.kl_squares += kl.square().sum(at::kDouble);
    // A cache keeps the likeliest token first.
    const at::Tensor top = rows.ids.defined() ? rows.ids.select(1, 0) : rows.logits.narrow(1, 0, std::min(rows.logits.size(1), z.size(1))).argmax(-1);
    sums.same_top += z.argmax(-1).eq(top).logical_and(masked.logical_not()).sum().to(at::kDouble);
  });
  return sums;
}

}  // namespace attar
