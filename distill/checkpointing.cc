#include "distill/checkpointing.h"

#include <torch/csrc/autograd/autograd.h>

namespace attar {

LayerStates Backbone::run(std::int64_t index, const at::Tensor& x) const {
  if (index == decoder_.config().layers) return {decoder_.final_norm(x), {}, {}, {}};
  return run_layer(decoder_, index, x, matching_ != nullptr && matching_->attention());
}

at::Tensor Backbone::forward(const at::Tensor& ids) {
  passes_.clear();
  embedded_ = decoder_.embed(ids);
  at::Tensor h = embedded_;
  const at::AutoGradMode graphs(!checkpoints_);
  for (std::int64_t i = 0; i <= decoder_.config().layers; ++i) {
    const at::Tensor x = h.detach().set_requires_grad(true);
    const LayerStates states = run(i, x);
    h = states.hidden;
    passes_.push_back({x, checkpoints_ ? LayerStates{} : states});
  }
  return h.detach().reshape({-1, h.size(-1)});
}

void Backbone::backward(const at::Tensor& gradient, const std::function<void(std::int64_t)>& layer_done) {
  at::Tensor g = gradient.view(embedded_.sizes());
  for (std::int64_t i = decoder_.config().layers; i >= 0; --i) {
    const Pass pass = std::move(passes_.back());
    passes_.pop_back();
    const LayerStates y = checkpoints_ ? run(i, pass.x) : pass.states;
    std::vector<at::Tensor> roots = {y.hidden}, gradients = {g};
    if (matching_ != nullptr && i < decoder_.config().layers) {
      const LayerStates pull = matching_->gradients(i, y);
      if (pull.hidden.defined()) gradients[0] = g + pull.hidden;
      for (const auto part : {&LayerStates::q, &LayerStates::k, &LayerStates::v}) {
        if (!(pull.*part).defined()) continue;
        roots.push_back(y.*part);
        gradients.push_back(pull.*part);
      }
    }
    torch::autograd::backward(roots, gradients);
    g = pass.x.grad();
    if (layer_done) layer_done(i);
  }
  embedded_.backward(g);
  embedded_ = at::Tensor();
}

}  // namespace attar
