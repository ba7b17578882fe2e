// AdamW over all parameters of a model as one flat buffer.
//
// I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization", 2019, https://arxiv.org/abs/1711.05101, algorithm 2.
//   theta  parameters        g      gradient           alpha  learning rate      lambda  weight decay
//   m, v   first and second moment                     beta1, beta2, epsilon
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "model/decoder.h"

namespace attar {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

// The model's parameters and gradients, moved into two flat buffers of which they are views: the optimizer, the norm and
// zeroing are then a few large operations. Matrices come first, since only they take weight decay; norms, biases and
// other vectors follow.
class FlatParameters {
 public:
  // Marks every parameter as trained. beside: others that are trained along, of the same device; their matrices stand before the
  // decoder's.
  explicit FlatParameters(Decoder& decoder, const NamedTensors& beside = {});

  struct Slot {
    std::string name;
    std::int64_t offset = 0;           // of the first element in the flat buffer
    std::vector<std::int64_t> shape;
    std::int64_t count = 0;            // elements
  };
  const std::vector<Slot>& slots() const { return slots_; }
  std::int64_t decayed() const { return decayed_; }  // elements [0, decayed()) take weight decay
  at::Tensor& values() { return values_; }
  const at::Tensor& values() const { return values_; }
  at::Tensor& gradients() { return gradients_; }
  at::Tensor view(const at::Tensor& flat, const Slot& slot) const;  // flat: a buffer of the same layout

 private:
  std::vector<Slot> slots_;
  std::int64_t decayed_ = 0;
  at::Tensor values_, gradients_;  // (total) float32; gaps between slots are zero
};

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, weight_decay = 0.1;
};

class AdamW {
 public:
  AdamW(FlatParameters& parameters, const AdamWOptions& options);
  // Of elements [begin, end) only, so that m and v are as long: several processes share the work and the memory (ZeRO stage 1:
  // S. Rajbhandari et al., 2020, https://arxiv.org/abs/1910.02054, section 5.1).
  AdamW(FlatParameters& parameters, const AdamWOptions& options, std::int64_t begin, std::int64_t end);

  // One update with the gradients times gradient_scale (what clipping asks for).
  void step(double learning_rate, double gradient_scale);

  std::int64_t steps = 0;  // updates done; with m and v all of the state
  at::Tensor m, v;         // of the parameters' layout, from begin() to end()
  std::int64_t begin() const { return begin_; }
  std::int64_t end() const { return end_; }

 private:
  void update(std::int64_t begin, std::int64_t end, double weight_decay, double alpha, double gradient_scale);
  FlatParameters& parameters_;
  AdamWOptions options_;
  std::int64_t begin_, end_;
};

}  // namespace attar
