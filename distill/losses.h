// What the student is trained on: the teacher's distribution and the next token.
//
// G. Hinton, O. Vinyals, J. Dean, "Distilling the Knowledge in a Neural Network", 2015, https://arxiv.org/abs/1503.02531,
// section 2.
//   z, v   logits of student and teacher, one row per token        T      temperature
//   q, p   softmax(z / T), softmax(v / T)                          y      the token that really follows
//   L = alpha * CE(y, softmax(z)) + (1 - alpha) * T^2 * KL(p || q)
// The factor T^2 keeps the gradient's size when T changes. With respect to z:
//   dL/dz = alpha * (softmax(z) - onehot(y)) + (1 - alpha) * T * (q - p)
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace attar {

constexpr std::int64_t kIgnoredTarget = -100;  // a row with this target counts for nothing

struct LossOptions {
  double temperature = 1.0;  // > 0
  double alpha = 0.0;        // weight of the cross-entropy, 0 ... 1; without a teacher it is 1
};

// Sums over the rows that count, float64 scalars on the logits' device. The caller divides by the number of valid tokens
// of the whole step, so that micro-batches of different length weigh what they should.
struct LossSums {
  at::Tensor total;          // L; carries the gradient with respect to `student`
  at::Tensor cross_entropy;  // CE, nats
  at::Tensor kl;             // KL(p || q) at temperature T, nats, without T^2; 0 without a teacher
};

// student: (rows, vocab) float; teacher: the same number of rows, or undefined: cross-entropy only; targets: (rows) int64.
// A teacher with more columns is cut to the student's vocabulary, one with fewer gives the rest probability 0: both are
// padding beyond the tokenizer they share.
LossSums distillation_loss(const at::Tensor& student, const at::Tensor& teacher, const at::Tensor& targets,
                           const LossOptions& options);

// How near the student is, without a gradient: sums over valid rows, at T = 1.
struct AgreementSums {
  at::Tensor cross_entropy, kl, same_top;  // same_top: rows where both find the same token likeliest
};
AgreementSums agreement(const at::Tensor& student, const at::Tensor& teacher, const at::Tensor& targets);

}  // namespace attar
