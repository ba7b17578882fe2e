// Golden activations: what the float decoder computes for given tokens, layer by layer.
#include "base/console.h"
#include "cli/golden.h"
#include "model/decoder.h"
#include "model/tensor.h"

namespace attar::cli {
namespace {

// Of a tensor's largest magnitude: float32 sums in another order.
constexpr double kTolerance = 1e-4;

}  // namespace

GoldenPart golden_layers(const Checkpoint& checkpoint, const std::vector<std::int64_t>& ids) {
  const at::NoGradGuard no_grad;
  const OneTorchThread one;  // the same bytes at any number of threads
  const auto decoder = load_decoder(checkpoint);
  GoldenPart part;
  const auto time = static_cast<std::int64_t>(ids.size());
  QuantizedTensor stored{Type::kI64, {1, time}, Bytes(ids.size() * sizeof(ids[0]))};
  std::memcpy(stored.bytes.data(), ids.data(), stored.bytes.size());
  part.tensors.push_back(make_tensor("input_ids", std::move(stored)));
  part.index["tolerances"] = nlohmann::json::object();
  const auto add = [&](const std::string& name, const at::Tensor& x) {
    const at::Tensor dense = x.contiguous();
    part.tensors.push_back(
        make_tensor(name, dense.sizes().vec(), {dense.data_ptr<float>(), dense.data_ptr<float>() + dense.numel()}));
    part.index["tolerances"][name] = kTolerance * dense.abs().max().item<double>();
  };
  at::Tensor hidden = decoder->embed(tensor_of(ids).unsqueeze(0));
  add("embedding", hidden);
  for (std::int64_t i = 0; i < decoder->config().layers; ++i) {
    check_interrupt();
    hidden = decoder->attention_half(i, hidden);
    add(cat("layers.", i, ".attention"), hidden);
    hidden = decoder->mlp_half(i, hidden);
    add(cat("layers.", i), hidden);
  }
  const at::Tensor normed = decoder->final_norm(hidden);
  add("final_norm", normed);
  add("logits", decoder->logits(normed));
  return part;
}

}  // namespace attar::cli
