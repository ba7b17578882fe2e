// The decoder up to its output projection, forward and back, with or without what its layers compute kept in between.
//
// T. Chen, B. Xu, C. Zhang, C. Guestrin, "Training Deep Nets with Sublinear Memory Cost", 2016,
// https://arxiv.org/abs/1604.06174, section 4: only the inputs of the layers are kept; the way back computes each layer again.
// The gradients are the same to the bit.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "model/decoder.h"

namespace attar {

class Backbone {
 public:
  Backbone(Decoder& decoder, bool checkpoints) : decoder_(decoder), checkpoints_(checkpoints) {}
  at::Tensor forward(const at::Tensor& ids);       // (batch, time) -> (batch * time, hidden), detached
  void backward(const at::Tensor& gradient);       // of what forward gave; adds to the parameters' gradients

 private:
  Decoder& decoder_;
  bool checkpoints_;
  at::Tensor embedded_, normed_;     // with their graphs
  std::vector<at::Tensor> inputs_;   // of each layer and of the final norm
};

}  // namespace attar
