#include "distill/checkpointing.h"

namespace attar {

at::Tensor Backbone::forward(const at::Tensor& ids) {
  inputs_.clear();
  if (checkpoints_) {
    embedded_ = decoder_.embed(ids);
    inputs_.push_back(embedded_.detach());
    const at::NoGradGuard no_grad;
    for (std::int64_t i = 0; i < decoder_.config().layers; ++i) inputs_.push_back(decoder_.layer(i, inputs_.back()));
    normed_ = decoder_.final_norm(inputs_.back());
  } else {
    normed_ = decoder_.hidden_states(ids);
  }
  return normed_.detach().reshape({-1, normed_.size(-1)});
}

void Backbone::backward(const at::Tensor& gradient) {
  at::Tensor g = gradient.view(normed_.sizes());
  if (!checkpoints_) {
    normed_.backward(g);
  } else {
    for (std::int64_t i = decoder_.config().layers; i >= 0; --i) {
      const at::Tensor x = inputs_.back().set_requires_grad(true);
      inputs_.pop_back();
      const at::Tensor y = i == decoder_.config().layers ? decoder_.final_norm(x) : decoder_.layer(i, x);
      y.backward(g);
      g = x.grad();
    }
    embedded_.backward(g);
  }
  embedded_ = normed_ = at::Tensor();
}

}  // namespace attar
