// How far what goes on inside the student is from what goes on inside its teacher: hidden states, and relations of attention. One
// layer of the student is compared with several of the teacher, each with a weight; all are pure functions.
//
//   D_j   distance from the teacher's layer j, summed over the rows that count       w_j   its weight
//   d     elements of a row     L = sum_j w_j D_j, whose gradient is given
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

namespace attar {

// mse     |s - t|^2 / d: X. Jiao et al., "TinyBERT: Distilling BERT for Natural Language Understanding", 2020,
//         https://arxiv.org/abs/1909.10351, equation 8; s is the student's row times W where the widths differ. It grows with the square
//         of the teacher's hidden states.
// cosine  1 - s t / (|s| |t|): V. Sanh et al., "DistilBERT, a distilled version of BERT", 2019, https://arxiv.org/abs/1910.01108,
//         section 2 (L_cos). Behind a root-mean-square norm, as every reader of the hidden states has one, |s - t|^2 / d is twice this.
enum class HiddenMeasure { kCosine, kMse };
inline constexpr const char* kHiddenMeasureNames[] = {"cosine", "mse"};
HiddenMeasure parse_hidden_measure(const std::string& name);  // throws Error

// student: (rows, d) float; teachers: each (rows, d); weights: one for each. counts: (rows) bool. Returns D (teachers) float64; gradient,
// of the student's shape, becomes dL/dstudent.
at::Tensor hidden_distances(HiddenMeasure measure, const at::Tensor& student, const std::vector<at::Tensor>& teachers,
                            const std::vector<double>& weights, const at::Tensor& counts, at::Tensor& gradient);

// W. Wang et al., "MiniLMv2: Multi-Head Self-Attention Relation Distillation for Compressing Pretrained Transformers", 2021,
// https://arxiv.org/abs/2012.15828, section 3.1: queries (or keys, or values) of all heads behind each other are cut anew into A_r
// relation heads, the same number for student and teacher whatever their heads and widths, and
//   R_a = softmax(X_a X_a^T / sqrt(d_r))     D = 1 / A_r sum_a sum_t KL(R_a,t of the teacher || R_a,t of the student)
// with X_a: (time, d_r). A token relates to itself and those before it in its text, since that is what attention here sees.
//
// student: (batch, time, width) float, width a multiple of relation_heads; teachers: each (batch, time, its width). document:
// (batch, time) int64, or undefined: which text a token belongs to. counts: (batch * time) bool. Returns D (teachers) float64, nats;
// gradient, of the student's shape, becomes dL/dstudent. Memory: that of a few relation heads of one row of the batch.
at::Tensor relation_distances(const at::Tensor& student, const std::vector<at::Tensor>& teachers, const std::vector<double>& weights,
                              std::int64_t relation_heads, const at::Tensor& document, const at::Tensor& counts, at::Tensor& gradient);

}  // namespace attar
