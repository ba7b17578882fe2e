#include "quantize/layer_view.h"

#include <algorithm>
#include <cstdio>

#include "base/console.h"
#include "base/error.h"
#include "quantize/tensors.h"

namespace attar {

void require_same_tensors(const Checkpoint& original, const Checkpoint& quantized) {
  const auto refuse = [&](const auto&... what) {
    fail("layers: ", quantized.path.string(), " was not quantized from ", original.path.string(), ": ", what...);
  };
  for (const Tensor& Q : quantized.tensors) {
    const Tensor* W = original.find(Q.name);
    if (W == nullptr) refuse("that has no ", Q.name);
    if (W->shape != Q.shape) refuse(Q.name, " is ", shape_text(Q.shape), ", there ", shape_text(W->shape));
  }
  for (const Tensor& W : original.tensors)
    if (quantized.find(W.name) == nullptr) refuse("it has no ", W.name);
}

LayerView view_layers(const Checkpoint& original, const Checkpoint& quantized, const std::vector<Ids>& chunks, Positions positions) {
  require_same_tensors(original, quantized);
  const at::NoGradGuard no_grad;
  const OneTorchThread one_thread;
  const auto model = load_decoder(original);
  DivergenceMeter divergence(*model, chunks, positions);
  LayerView view;
  Progress progress("layers", original.tensors.size(), "tensors");
  for (const Tensor& W : original.tensors) {
    check_interrupt();
    const Tensor& stored = quantized.at(W.name);
    const at::Tensor Q = read_tensor(stored);
    const bool matrix = W.shape.size() >= 2, differs = !at::equal(Q, model->parameter(W.name));
    if (matrix || differs) {
      TensorView one{.name = W.name, .type = stored.type, .bytes = stored.bytes()};
      if (matrix) one.output_error = differs ? divergence.output_error(W.name, Q) : 0.0;
      if (differs) one.weight_error = weight_error(Q, model->parameter(W.name)), one.kl = divergence.with(W.name, Q);
      view.kl_sum += one.kl;
      view.tensors.push_back(std::move(one));
    }
    progress.advance(1, W.name);
  }
  for (TensorView& one : view.tensors) one.share = view.kl_sum > 0 ? one.kl / view.kl_sum : 0.0;
  view.kl_together = divergence.of(*load_decoder(quantized));
  return view;
}

nlohmann::json to_json(const LayerView& view) {
  nlohmann::json tensors = nlohmann::json::array();
  for (const TensorView& one : view.tensors) {
    tensors.push_back({{"name", one.name},
                       {"type", info(one.type).name},
                       {"bytes", one.bytes},
                       {"weight_error", one.weight_error},
                       {"kl_divergence", one.kl},
                       {"share", one.share}});
    if (one.output_error) tensors.back()["output_error"] = *one.output_error;
  }
  return {{"tensors", std::move(tensors)}, {"kl_sum", view.kl_sum}, {"kl_together", view.kl_together}, {"separable", view.separable()}};
}

std::string table_text(const LayerView& view, std::size_t count) {
  std::vector<TensorView> worst = view.tensors;
  std::stable_sort(worst.begin(), worst.end(), [](const TensorView& a, const TensorView& b) { return a.kl > b.kl; });
  worst.resize(std::min(count, worst.size()));
  std::size_t width = 6;
  for (const TensorView& one : worst) width = std::max(width, one.name.size());
  char line[96];
  std::snprintf(line, sizeof line, "%-8s %12s %12s %12s %8s\n", "type", "weight error", "output error", "KL alone", "share");
  std::string text = cat("tensor", std::string(width - 6, ' '), "  ", line);
  for (const TensorView& one : worst) {
    char output[24] = "-";
    if (one.output_error) std::snprintf(output, sizeof output, "%.3e", *one.output_error);
    std::snprintf(line, sizeof line, "%-8s %12.3e %12s %12.6f %6.1f %%\n", info(one.type).name, one.weight_error, output, one.kl, 100 * one.share);
    text += cat(one.name, std::string(width - one.name.size(), ' '), "  ", line);
  }
  std::snprintf(line, sizeof line, "KL of all %zu tensors one by one %.6f, together %.6f\n", view.tensors.size(), view.kl_sum, view.kl_together);
  return text + line;
}

}  // namespace attar
