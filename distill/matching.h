// The student is pulled towards what goes on inside its teacher, not only towards what it says: hidden states behind layers, and
// relations of queries, keys and values (layer_distances.h), of the layers that a map (layer_map.h) puts together.
//
//   P        pairs (m, n) of layers      w_mn   1 / |P|; of a learned map softmax_n(kappa theta_m) / M
//   L_match  sum over P of w_mn (hidden * D(h_m W, h_n) + attention * 1/3 sum over q, k, v of D(m, n))
//   W        where the widths differ: a projection of the student's hidden states, one for all layers, as S. Muralidharan et al.
//            (Minitron), 2024, https://arxiv.org/abs/2407.14679, section 3, has it
// W and theta are trained along with the student and dropped at the end. Both D are sums over the tokens that count as targets, so
// that the mean is over the same ones as that of the loss beside it.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <vector>

#include "distill/adamw.h"
#include "distill/batch.h"
#include "distill/layer_distances.h"
#include "distill/layer_map.h"
#include "distill/losses.h"
#include "model/decoder.h"

namespace attar {

struct MatchOptions {
  double hidden = 0, attention = 0;  // weights beside the loss; 0: not matched
  HiddenMeasure measure = HiddenMeasure::kCosine;
  LayerMap map;
  std::int64_t relation_heads = 0;   // 0: as many as the teacher has heads, or the most below that divide all widths
  std::uint64_t seed = 0;            // of the projection
  bool on() const { return hidden > 0 || attention > 0; }
};

// Throws Error for weights that make no sense, and for what only means something with a weight that is 0.
void check_options(const MatchOptions& options);

// What a layer gives, (batch, time, ...), or gradients of these; q, k, v are undefined where nobody asked for them.
struct LayerStates {
  at::Tensor hidden, q, k, v;
};
LayerStates run_layer(Decoder& decoder, std::int64_t index, const at::Tensor& x, bool attention);

class Matching {
 public:
  // Throws Error for a map that does not fit the models, and for relation heads that do not divide a width.
  Matching(const MatchOptions& options, const ModelConfig& student, const ModelConfig& teacher, const at::Device& device);

  // W and theta, as far as there are any: leaves with names. Their gradients are added to what .grad() holds.
  const NamedTensors& parameters() const { return parameters_; }

  // Begins a batch: runs the teacher and keeps what its layers give. scale: of all gradients. Returns Decoder::hidden_states.
  at::Tensor begin(Decoder& teacher, const Batch& batch, double scale);
  bool attention() const { return options_.attention > 0; }
  // Gradients of the batch's loss with respect to what a layer of the student gives; undefined where there is none.
  LayerStates gradients(std::int64_t layer, const LayerStates& given);
  // Ends the batch: adds its distances to sums.
  void end(LossSums& sums);

  // (pairs) w_mn, and the pairs.
  std::vector<double> weights() const;
  const std::vector<LayerPair>& pairs() const { return pairs_; }

 private:
  at::Tensor match_hidden(const at::Tensor& student, const std::vector<at::Tensor>& teachers, const std::vector<double>& w,
                          at::Tensor& gradient);
  at::Tensor match_attention(const LayerStates& student, const std::vector<const LayerStates*>& teachers,
                             const std::vector<double>& w, LayerStates& gradients);

  MatchOptions options_;
  std::vector<LayerPair> pairs_;
  std::int64_t teacher_layers_;
  NamedTensors parameters_;
  at::Tensor projection_, theta_;  // W (student's width, teacher's); theta (M * N); undefined: none

  // Of the batch.
  std::map<std::int64_t, LayerStates> teacher_;
  std::vector<double> weights_;
  at::Tensor document_, counts_, hidden_sum_, attention_sum_;
  double scale_ = 0;
};

}  // namespace attar
