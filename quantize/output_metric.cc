#include "quantize/output_metric.h"

#include <algorithm>

#include "base/console.h"
#include "base/error.h"
#include "base/random.h"
#include "base/threads.h"
#include "quantize/decoder_pool.h"
#include "quantize/tensors.h"

namespace attar {
namespace {

constexpr std::int64_t kTokens = 256;  // of a chunk
constexpr std::int64_t kRank = 64;
// Added to the diagonal of A, as a share of its mean: what is small in A is mostly noise, and two independent sides are a rough model.
constexpr double kDamping = 1.0;
constexpr const char *kEmbedding = "model.embed_tokens.weight", *kHead = "lm_head.weight", *kFinalNorm = "model.norm.weight";

using Weights = DecoderPool::Weights;

class Fisher {
 public:
  Fisher(const Checkpoint& model, const std::vector<Ids>& chunks, std::uint64_t seed, const fs::path& file)
      : model_(model), length_(std::min<std::int64_t>(kTokens, static_cast<std::int64_t>(chunks.front().size()))), seed_(seed),
        decoders_(model.config), file_(file.empty() ? ScratchFile() : ScratchFile(file)) {
    for (const Ids& chunk : chunks) ids_.emplace_back(chunk.begin(), chunk.begin() + static_cast<std::ptrdiff_t>(length_));
  }

  std::map<std::string, at::Tensor> run() {
    const std::int64_t layers = model_.config.layers;
    Progress progress("output metric", static_cast<std::uint64_t>(2 * layers), "layers");
    {
      const Weights table = {{kEmbedding, read_tensor(model_.at(kEmbedding))}};
      for_each_chunk(table, [&](Decoder& decoder, std::size_t i) {
        const at::NoGradGuard no_grad;
        save(0, i, decoder.embed(torch::tensor(ids_[i]).unsqueeze(0)));
      });
    }
    for (std::int64_t layer = 0; layer < layers; ++layer) {
      for_each_chunk(layer_weights(layer), [&](Decoder& decoder, std::size_t i) {
        const at::NoGradGuard no_grad;
        save(layer + 1, i, decoder.layer(layer, load(layer, i)));
      });
      progress.advance(1);
    }
    for_each_chunk(head_weights(), [&](Decoder& decoder, std::size_t i) { save(layers, i, head_gradient(decoder, i)); });
    for (std::int64_t layer = layers - 1; layer >= 0; --layer) {
      through(layer);
      progress.advance(1);
    }
    return std::move(metrics_);
  }

 private:
  void for_each_chunk(const Weights& weights, const std::function<void(Decoder&, std::size_t)>& work) {
    parallel_for(static_cast<std::int64_t>(ids_.size()), [&](std::int64_t i) {
      check_interrupt();
      decoders_.with(weights, [&](Decoder& decoder) { work(decoder, static_cast<std::size_t>(i)); });
    });
  }

  Weights layer_weights(std::int64_t layer) const {
    Weights weights;
    const std::string prefix = cat("model.layers.", layer, ".");
    for (const Tensor& tensor : model_.tensors)
      if (tensor.name.starts_with(prefix)) weights.emplace(tensor.name, read_tensor(tensor));
    return weights;
  }
  Weights head_weights() const {
    const char* head = model_.find(kHead) != nullptr ? kHead : kEmbedding;
    return {{kFinalNorm, read_tensor(model_.at(kFinalNorm))}, {head, read_tensor(model_.at(head))}};
  }

  // Of sum over tokens of -log p(y), y drawn from p, with respect to the last hidden states.
  at::Tensor head_gradient(Decoder& decoder, std::size_t chunk) const {
    const at::AutoGradMode with_grad(true);
    const at::Tensor h = load(model_.config.layers, chunk).requires_grad_(true);
    const at::Tensor log_p = at::log_softmax(decoder.logits(decoder.final_norm(h)).squeeze(0), -1);
    Random random(seed_ + chunk);
    at::Tensor at = at::empty({length_, 1});
    for (std::int64_t t = 0; t < length_; ++t) at.data_ptr<float>()[t] = static_cast<float>(random.uniform());
    const at::Tensor below = log_p.detach().exp().cumsum(-1);
    const at::Tensor y = at::searchsorted(below, at * below.narrow(1, below.size(1) - 1, 1)).clamp_max(below.size(1) - 1);
    (-log_p.gather(1, y).sum()).backward();
    return h.grad();
  }

  // Carries the gradients through a layer, from its outputs to its inputs, and learns what its linears' outputs mean on the way.
  void through(std::int64_t layer) {
    const Weights weights = layer_weights(layer);
    std::map<std::string, at::Tensor> A;
    for (const auto& [name, W] : weights)
      if (W.dim() == 2) A.emplace(name, at::zeros({W.size(0), W.size(0)}));
    const auto wave = static_cast<std::size_t>(thread_count());
    std::vector<std::map<std::string, at::Tensor>> gradients(wave);
    for (std::size_t begin = 0; begin < ids_.size(); begin += wave) {
      check_interrupt();
      const std::size_t count = std::min(wave, ids_.size() - begin);
      parallel_for(static_cast<std::int64_t>(count), [&](std::int64_t k) {
        const std::size_t i = begin + static_cast<std::size_t>(k);
        auto& seen = gradients[static_cast<std::size_t>(k)];
        decoders_.with(weights, [&](Decoder& decoder) {
          const at::AutoGradMode with_grad(true);
          decoder.output_observer = [&](const std::string& name, const at::Tensor& y) {
            at::Tensor& place = seen[name + ".weight"];
            y.register_hook([&place](const at::Tensor& g) { place = g.reshape({-1, g.size(-1)}).contiguous(); });
          };
          const at::Tensor h = load(layer, i).requires_grad_(true);
          decoder.layer(layer, h).backward(load(layer + 1, i));
          decoder.output_observer = nullptr;
          save(layer, i, h.grad());
        });
      });
      each(A, [&](const std::string& name, at::Tensor& sum) {
        for (std::size_t k = 0; k < count; ++k) {
          const at::Tensor& g = gradients[k].at(name);
          sum.addmm_(g.t(), g);
        }
      });
    }
    each(A, [&](const std::string& name, at::Tensor& sum) {
      if (!at::isfinite(sum.diagonal()).all().item<bool>())
        fail("gptq: the gradients at the output of ", name, " hold NaN or Inf; the model does not compute on this calibration text");
      sum = leading_part(std::move(sum), kRank);
    });
    metrics_.merge(A);
  }

  template <class Work>
  static void each(std::map<std::string, at::Tensor>& map, const Work& work) {
    std::vector<std::pair<const std::string, at::Tensor>*> entries;
    for (auto& entry : map) entries.push_back(&entry);
    parallel_for(static_cast<std::int64_t>(entries.size()), [&](std::int64_t i) {
      const at::NoGradGuard no_grad;
      work(entries[static_cast<std::size_t>(i)]->first, entries[static_cast<std::size_t>(i)]->second);
    });
  }

  // Slot 0 .. layers: hidden states before that layer, on the way back gradients with respect to them. (1, length, hidden)
  std::uint64_t bytes() const { return static_cast<std::uint64_t>(length_ * model_.config.hidden_size) * sizeof(float); }
  at::Tensor load(std::int64_t slot, std::size_t chunk) const {
    at::Tensor hidden = at::empty({1, length_, model_.config.hidden_size});
    file_.read((static_cast<std::uint64_t>(slot) * ids_.size() + chunk) * bytes(), {static_cast<std::byte*>(hidden.data_ptr()), bytes()});
    return hidden;
  }
  void save(std::int64_t slot, std::size_t chunk, const at::Tensor& hidden) {
    const at::Tensor whole = hidden.contiguous();
    file_.write((static_cast<std::uint64_t>(slot) * ids_.size() + chunk) * bytes(),
                {static_cast<const std::byte*>(whole.data_ptr()), bytes()});
  }

  const Checkpoint& model_;
  std::int64_t length_;
  std::uint64_t seed_;
  std::vector<Ids> ids_;
  DecoderPool decoders_;
  ScratchFile file_;
  std::map<std::string, at::Tensor> metrics_;
};

}  // namespace

at::Tensor leading_part(at::Tensor A, std::int64_t rank) {
  constexpr int kIterations = 8;
  const std::int64_t n = A.size(0), k = std::min(rank, n / 2), width = std::min(n, k + 8);
  const double mean = A.diagonal().to(at::kDouble).mean().item<double>();
  if (!(mean > 0) || k == 0) return at::zeros({n, 0});
  A.div_(mean);
  Random random(1);
  at::Tensor Q = at::empty({n, width});
  for (std::int64_t i = 0; i < Q.numel(); ++i) Q.data_ptr<float>()[i] = static_cast<float>(random.uniform() - 0.5);
  for (int i = 0; i < kIterations; ++i) Q = std::get<0>(at::linalg_qr(at::mm(A, Q)));
  const auto [theta, rotation] = at::linalg_eigh(at::mm(Q.t(), at::mm(A, Q)));
  const at::Tensor top = theta.narrow(0, width - k, k), U = at::mm(Q, rotation.narrow(1, width - k, k));
  const double rest = std::max(0.0, static_cast<double>(n) - top.sum().item<double>()) / static_cast<double>(n - k);
  return U * ((top - rest).clamp_min(0) / (rest + kDamping)).sqrt();
}

std::map<std::string, at::Tensor> measure_output_metrics(const Checkpoint& model, const std::vector<Ids>& chunks, std::uint64_t seed,
                                                         const fs::path& folder) {
  if (chunks.empty()) fail("output metric: no text");
  const OneTorchThread one_thread;
  const fs::path file = folder.empty() ? fs::path() : folder / "gradients";
  std::map<std::string, at::Tensor> metrics = Fisher(model, chunks, seed, file).run();
  std::error_code ignored;
  if (!file.empty()) fs::remove(file, ignored);
  return metrics;
}

}  // namespace attar
