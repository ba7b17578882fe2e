// What the student is trained on: the teacher's distribution and the next token.
//
// G. Hinton, O. Vinyals, J. Dean, "Distilling the Knowledge in a Neural Network", 2015, https://arxiv.org/abs/1503.02531,
// section 2.
//   z, v   logits of student and teacher, one row per token        T      temperature
//   q, p   softmax(z / T), softmax(v / T)                          y      the token that really follows
//   D, S   the measure and its slope, divergences.h
//   L = alpha * CE(y, softmax(z)) + (1 - alpha) * T^2 * D(p, q)
// The factor T^2 keeps the gradient's size when T changes. With respect to z:
//   dL/dz = alpha * (softmax(z) - onehot(y)) + (1 - alpha) * T * (S - q * sum S)
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "distill/divergences.h"

namespace attar {

constexpr std::int64_t kIgnoredTarget = -100;  // a row with this target counts for nothing

struct LossOptions {
  double temperature = 1.0;  // > 0
  double alpha = 0.0;        // weight of the cross-entropy, 0 ... 1; without a teacher it is 1
  Divergence divergence;
};

// What the teacher says of rows of tokens: its logits; or the few tokens that a cache has kept, at the run's temperature;
// or nothing.
struct TeacherRows {
  at::Tensor logits;              // (rows, vocab) float
  at::Tensor ids, log_p, weight;  // (rows, kept) int64, float, float: KL(p || q) = sum of weight * (log_p - ln q(id))
  bool defined() const { return logits.defined() || ids.defined(); }
  TeacherRows narrow(std::int64_t begin, std::int64_t count) const;
};

// Sums over the rows that count, float64 scalars on the logits' device. The caller divides by the number of valid tokens
// of the whole step, so that micro-batches of different length weigh what they should.
struct LossSums {
  at::Tensor total;          // L
  at::Tensor cross_entropy;  // CE, nats
  at::Tensor divergence;     // D at temperature T, nats, without T^2; 0 without a teacher
  at::Tensor hidden, attention;  // distances of matched layers, which only matching.h adds
  LossSums& operator+=(const LossSums& other);
};
LossSums zero_sums(const at::TensorOptions& on);  // on: for the device

// student: (rows, vocab) float; teacher: the same number of rows; targets: (rows) int64. gradient: undefined, or of the
// student's shape, to be filled with dL/dz; it may be `student` itself.
// A teacher with more columns is cut to the student's vocabulary, one with fewer gives the rest (as good as) no probability:
// both are padding beyond the tokenizer they share. Tokens from a cache can only be compared by forward KL.
LossSums distillation_loss(const at::Tensor& student, const TeacherRows& teacher, const at::Tensor& targets,
                           const LossOptions& options, const at::Tensor& gradient = {});

// How near the student is, without a gradient: sums over valid rows, at T = 1.
struct AgreementSums {
  at::Tensor cross_entropy, kl, same_top;  // same_top: rows where both find the same token likeliest
  at::Tensor kl_squares;                   // of each row's KL, for the error of its mean
  AgreementSums& operator+=(const AgreementSums& other);
};
AgreementSums zero_agreement(const at::TensorOptions& on);  // on: for the device
AgreementSums agreement(const at::Tensor& student, const TeacherRows& teacher, const at::Tensor& targets);

}  // namespace attar
