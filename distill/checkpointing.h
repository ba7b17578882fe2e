// The decoder up to its output projection, forward and back, layer by layer, with or without what its layers compute kept in between.
//
// T. Chen, B. Xu, C. Zhang, C. Guestrin, "Training Deep Nets with Sublinear Memory Cost", 2016,
// https://arxiv.org/abs/1604.06174, section 4: only the inputs of the layers are kept; the way back computes each layer again.
// The gradients are the same to the bit.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "distill/matching.h"
#include "model/decoder.h"

namespace attar {

class Backbone {
 public:
  // matching: pulls at the layers on the way back; may be null.
  Backbone(Decoder& decoder, bool checkpoints, Matching* matching = nullptr)
      : decoder_(decoder), checkpoints_(checkpoints), matching_(matching) {}
  at::Tensor forward(const at::Tensor& ids);       // (batch, time) -> (batch * time, hidden), detached
  // gradient: of what forward gave. Adds to the parameters' gradients; layer_done hears of each layer as soon as its own are there, from
  // the last to the first, and before them of index config().layers: the final norm.
  void backward(const at::Tensor& gradient, const std::function<void(std::int64_t index)>& layer_done = {});

 private:
  // A layer, or the final norm behind the last one: from x, where the graph begins, to what it gives.
  struct Pass {
    at::Tensor x;
    LayerStates states;
  };
  LayerStates run(std::int64_t index, const at::Tensor& x) const;
  Decoder& decoder_;
  bool checkpoints_;
  Matching* matching_;
  at::Tensor embedded_;        // with its graph
  std::vector<Pass> passes_;   // without checkpoints with their graphs, else only x is defined
};

}  // namespace attar
