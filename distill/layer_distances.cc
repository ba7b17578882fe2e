#include "distill/layer_distances.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace attar {
namespace {

constexpr std::int64_t kRelationsOnCpu = std::int64_t{1} << 18, kRelationsOnDevice = std::int64_t{1} << 26;  // at a time

void check_shapes(const at::Tensor& student, const std::vector<at::Tensor>& teachers, const std::vector<double>& weights,
                  const at::Tensor& counts, std::int64_t divisor) {
  bool fits = teachers.size() == weights.size() && counts.numel() * student.size(-1) == student.numel() && student.size(-1) % divisor == 0;
  for (const at::Tensor& teacher : teachers)
    fits = fits && teacher.sizes().slice(0, teacher.dim() - 1) == student.sizes().slice(0, student.dim() - 1) && teacher.size(-1) % divisor == 0;
  if (!fits)
    fail("[layer distances] shapes do not fit: student ", student.sizes(), ", teacher ",
         teachers.empty() ? at::IntArrayRef{} : teachers.front().sizes(), ", ", counts.numel(), " rows, ", divisor, " relation heads");
}

// Relation heads of one row of the batch: (batch, time, width) -> (count, time, width / heads), from head `first` on.
at::Tensor relation_heads_of(const at::Tensor& X, std::int64_t row, std::int64_t first, std::int64_t count, std::int64_t heads) {
  const std::int64_t width = X.size(2) / heads;
  return X.select(0, row).narrow(1, first * width, count * width).view({X.size(1), count, width}).transpose(0, 1);
}

// ln R. hidden: (time, time) bool, true where a token does not look.
at::Tensor log_relations(const at::Tensor& X, const at::Tensor& hidden) {
  constexpr double kNothing = -1e9;  // finite, since 0 * (ln 0 - ln 0) must be 0 and not NaN
  at::Tensor scores = at::bmm(X, X.transpose(1, 2)).div_(std::sqrt(static_cast<double>(X.size(2))));
  return at::log_softmax(scores.masked_fill_(hidden, kNothing), -1);
}

}  // namespace

HiddenMeasure parse_hidden_measure(const std::string& name) {
  for (const HiddenMeasure measure : {HiddenMeasure::kCosine, HiddenMeasure::kMse})
    if (name == kHiddenMeasureNames[static_cast<int>(measure)]) return measure;
  fail("[distill] hidden states are not compared by '", name, "'; there are cosine and mse");
}

at::Tensor hidden_distances(HiddenMeasure measure, const at::Tensor& s, const std::vector<at::Tensor>& teachers,
                            const std::vector<double>& weights, const at::Tensor& counts, at::Tensor& gradient) {
  check_shapes(s, teachers, weights, counts, s.size(-1));
  const at::NoGradGuard no_grad;
  constexpr double kLeastNorm = 1e-12;
  const auto norm = [](const at::Tensor& x) { return x.norm(2, -1, true).clamp_min_(kLeastNorm); };
  const at::Tensor ignored = counts.logical_not(), s_norm = norm(s), s_unit = s / s_norm;
  std::vector<at::Tensor> D;
  gradient.zero_();
  for (std::size_t j = 0; j < teachers.size(); ++j) {
    const at::Tensor& t = teachers[j];
    at::Tensor distance;
    if (measure == HiddenMeasure::kMse) {
      const at::Tensor difference = s - t;
      distance = difference.square().mean(-1);
      gradient.add_(difference, weights[j] * 2 / static_cast<double>(s.size(-1)));
    } else {
      const at::Tensor t_unit = t / norm(t), cosine = (s_unit * t_unit).sum(-1, true);
      distance = (1 - cosine).squeeze(-1);
      gradient.add_((s_unit * cosine).sub_(t_unit).div_(s_norm), weights[j]);
    }
    D.push_back(distance.masked_fill(ignored, 0).sum(at::kDouble));
  }
  gradient.masked_fill_(ignored.unsqueeze(-1), 0);
  return at::stack(D);
}

at::Tensor relation_distances(const at::Tensor& student, const std::vector<at::Tensor>& teachers, const std::vector<double>& weights,
                              std::int64_t A_r, const at::Tensor& document, const at::Tensor& counts, at::Tensor& gradient) {
  check_shapes(student, teachers, weights, counts, A_r);
  const at::NoGradGuard no_grad;
  const std::int64_t batch = student.size(0), time = student.size(1);
  const std::int64_t most = std::max<std::int64_t>(1, (student.is_cpu() ? kRelationsOnCpu : kRelationsOnDevice) / (time * time));
  const double scale = 1 / std::sqrt(static_cast<double>(student.size(2) / A_r));
  double all_weights = 0;
  for (const double weight : weights) all_weights += weight;
  at::Tensor D = at::zeros({std::ssize(teachers)}, counts.options().dtype(at::kDouble));
  const at::Tensor ahead = at::ones({time, time}, counts.options()).triu_(1);
  for (std::int64_t row = 0; row < batch; ++row) {
    at::Tensor hidden = ahead;
    if (document.defined()) hidden = hidden.logical_or(document[row].unsqueeze(1).ne(document[row].unsqueeze(0)));
    const at::Tensor ignored = counts.view({batch, time})[row].logical_not();
    for (std::int64_t head = 0; head < A_r; head += most) {
      const std::int64_t heads = std::min(most, A_r - head);
      const at::Tensor X = relation_heads_of(student, row, head, heads, A_r), log_R = log_relations(X, hidden);
      at::Tensor slope = log_R.exp().mul_(all_weights);  // dL/d(X X^T / sqrt(d_r)), by rows: sum_j w_j (R - R_j)
      for (std::size_t j = 0; j < teachers.size(); ++j) {
        const at::Tensor log_R_j = log_relations(relation_heads_of(teachers[j], row, head, heads, A_r), hidden), R_j = log_R_j.exp();
        D[static_cast<std::int64_t>(j)] += (log_R_j - log_R).mul_(R_j).sum(-1).masked_fill_(ignored, 0).sum(at::kDouble);
        slope.sub_(R_j, weights[j]);
      }
      slope.masked_fill_(ignored.unsqueeze(-1), 0);
      relation_heads_of(gradient, row, head, heads, A_r)
          .copy_(at::bmm(slope.add(slope.transpose(1, 2)), X).mul_(scale / static_cast<double>(A_r)));
    }
  }
  return D / static_cast<double>(A_r);
}

}  // namespace attar
