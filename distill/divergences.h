// How far a student's distribution is from its teacher's: every measure that training can minimise, in one table.
//
//   p, q   distributions of teacher and student over the vocabulary, one row per token
//   D      the measure, one number per row
//   S      its slope: S_i = q_i * dD/dq_i, up to a multiple of q_i that is the same for the whole row. With q = softmax(z):
//          dD/dz_j = S_j - q_j * sum_i S_i
//
// forward_kl  KL(p || q): G. Hinton, O. Vinyals, J. Dean, "Distilling the Knowledge in a Neural Network", 2015,
//             https://arxiv.org/abs/1503.02531, section 2.
// reverse_kl  KL(q || p): Y. Gu et al., "MiniLLM: Knowledge Distillation of Large Language Models", 2023,
//             https://arxiv.org/abs/2306.08543, section 2.1 (here exact for every token, not sampled).
// jsd         beta KL(p || m) + (1 - beta) KL(q || m), m = beta p + (1 - beta) q: R. Agarwal et al., "On-Policy Distillation
//             of Language Models: Learning from Self-Generated Mistakes" (GKD), 2023, https://arxiv.org/abs/2306.13649,
//             equation 1.
// skew_kl     KL(p || alpha p + (1 - alpha) q); skew_reverse_kl: KL(q || (1 - alpha) p + alpha q): J. Ko et al.,
//             "DistiLLM: Towards Streamlined Distillation for Large Language Models", 2024,
//             https://arxiv.org/abs/2402.03898, section 3.1.
// tvd         1/2 sum |p - q|: Y. Wen et al., "f-Divergence Minimization for Sequence-Level Knowledge Distillation", 2023,
//             https://arxiv.org/abs/2307.15190, section 3.
#pragma once

#include <ATen/ATen.h>

#include <string>

namespace attar {

enum class Measure { kForwardKl, kReverseKl, kJsd, kSkewKl, kSkewReverseKl, kTotalVariation };

struct Divergence {
  Measure measure = Measure::kForwardKl;
  double parameter = 0;  // beta of jsd, alpha of the skewed ones
};

// "NAME" or "NAME:PARAMETER", as --loss takes it. Throws Error for an unknown name or a parameter that makes no sense.
Divergence parse_divergence(const std::string& text);
std::string divergence_text(const Divergence& divergence);  // what parse_divergence reads
std::string divergence_help();                              // the names, and what they are

// log_p, log_q: (rows, vocab), finite. Returns D (rows) and leaves S in log_p. Overwrites both.
at::Tensor divergence_and_slope(const Divergence& divergence, at::Tensor& log_p, at::Tensor& log_q);

}  // namespace attar
