#include "quantize/output_metric.h"

#include <algorithm>

#include "base/console.h"
#include "base/error.h"
#include "base/random.h"
#include "base/text.h"
#include "base/threads.h"
#include "model/tensor.h"
#include "quantize/cholesky.h"
#include "quantize/decoder_pool.h"
#include "quantize/round.h"
#include "quantize/tensors.h"
#include "quantize/work_folder.h"

namespace attar {
namespace {

constexpr std::int64_t kTokens = 256;  // of a chunk
constexpr double kInputDamping = 0.1;       // of H, as a share of its mean diagonal
// Added to the diagonal of A, as a share of its mean: what is small in A is mostly noise, and two independent sides are a rough model.
constexpr double kDamping = 1.0;
constexpr const char *kEmbedding = "model.embed_tokens.weight", *kHead = "lm_head.weight", *kFinalNorm = "model.norm.weight";

using Weights = DecoderPool::Weights;

class Fisher {
 public:
  Fisher(const Checkpoint& model, const std::vector<Ids>& chunks, std::uint64_t seed, const fs::path& file, const nlohmann::json& reached)
      : model_(model), whole_(std::ssize(chunks.front())), length_(std::min(kTokens, whole_)), seed_(seed), decoders_(model.config),
        path_(file), file_(file.empty() ? ScratchFile() : reached.is_null() ? ScratchFile(file) : ScratchFile::open(file)) {
    for (const Ids& chunk : chunks) ids_.emplace_back(chunk.begin(), chunk.begin() + static_cast<std::ptrdiff_t>(length_));
    if (!reached.is_null()) go_on(reached);
  }

  at::Tensor run(const LayerMetrics& take) {
    Progress progress("output metric", static_cast<std::uint64_t>(2 * layers()), "layers");
    if (next_ == layers()) {
      forwards(progress);
      --next_;
    } else {
      progress.skip(static_cast<std::uint64_t>(2 * layers() - 1 - next_));
    }
    for (; next_ >= 0; --next_) {
      std::map<std::string, at::Tensor> A = through(next_);
      take(next_, std::move(A), path_.empty() ? nlohmann::json() : seal());
      progress.advance(1);
    }
    return embedding_sums();
  }

 private:
  std::int64_t layers() const { return model_.config.layers; }

  void forwards(Progress& progress) {
    {
      const Weights table = {{kEmbedding, read_tensor(model_.at(kEmbedding))}};
      for_each_chunk(table, [&](Decoder& decoder, std::size_t i) {
        const at::NoGradGuard no_grad;
        save(0, i, decoder.embed(tensor_of(ids_[i]).unsqueeze(0)));
      });
    }
    for (std::int64_t layer = 0; layer < layers(); ++layer) {
      for_each_chunk(layer_weights(layer), [&](Decoder& decoder, std::size_t i) {
        const at::NoGradGuard no_grad;
        save(layer + 1, i, decoder.layer(layer, load(layer, i)));
      });
      progress.advance(1);
    }
    for_each_chunk(head_weights(), [&](Decoder& decoder, std::size_t i) { save(gradient(layers()), i, head_gradient(decoder, i)); });
    if (!path_.empty())
      for (std::int64_t layer = 0; layer < layers(); ++layer) states_.push_back(hash_of(layer));
  }

  // What go_on() needs once the gradients have come through layer `next_`: the file may be lost or altered until then.
  nlohmann::json seal() {
    file_.sync();
    return {{"layer", next_}, {"gradients", hash_of(gradient(next_))}, {"states", states_}};
  }
  void go_on(const nlohmann::json& reached) {
    const auto layer = reached.at("layer").get<std::int64_t>();
    states_ = reached.at("states").get<std::vector<std::string>>();
    try {
      bool same = std::ssize(states_) == layers() && hash_of(gradient(layer)) == reached.at("gradients");
      for (std::int64_t l = 0; same && l < layer; ++l) same = hash_of(l) == states_[static_cast<std::size_t>(l)];
      if (!same) throw Error("altered");
    } catch (const Error&) {
      throw ResumeError(cat("cannot resume: ", path_.string(), " is damaged; remove the folder to start again"));
    }
    next_ = layer - 1;
  }
  std::string hash_of(std::int64_t slot) const {
    const std::uint64_t size = ids_.size() * bytes();
    return content_hash(file_, static_cast<std::uint64_t>(slot) * size, size);
  }

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
    const at::Tensor h = load(layers(), chunk).requires_grad_(true);
    const at::Tensor log_p = at::log_softmax(decoder.logits(decoder.final_norm(h)).squeeze(0), -1);
    Random random(seed_ + chunk);
    at::Tensor at = at::empty({length_, 1});
    for (std::int64_t t = 0; t < length_; ++t) at.data_ptr<float>()[t] = static_cast<float>(random.uniform());
    const at::Tensor below = log_p.detach().exp().cumsum(-1);
    const at::Tensor y = at::searchsorted(below, at * below.narrow(1, below.size(1) - 1, 1)).clamp_max(below.size(1) - 1);
    (-log_p.gather(1, y).sum()).backward();
    return h.grad();
  }

  // Once the gradients have come through all layers.
  at::Tensor embedding_sums() const {
    const at::NoGradGuard no_grad;
    const std::int64_t hidden = model_.config.hidden_size;
    at::Tensor M = at::zeros({hidden, hidden});
    for (std::size_t i = 0; i < ids_.size(); ++i) {
      const at::Tensor g = load(gradient(0), i).view({length_, hidden});
      M.addmm_(g.t(), g);
    }
    if (model_.config.scaled_embeddings) M.mul_(static_cast<double>(hidden));
    if (whole_ > length_) M.mul_(static_cast<double>(whole_) / static_cast<double>(length_));
    if (!at::isfinite(M).all().item<bool>())
      fail("gptq: the gradients at the embedding hold NaN or Inf; the model does not compute on this calibration text");
    return M;
  }

  // One chunk at a time of a wave on each thread, then what all of them showed together.
  void for_each_wave(const Weights& weights, const std::function<void(Decoder&, std::size_t chunk, std::size_t slot)>& work,
                     const std::function<void(std::size_t slots)>& sum) {
    const auto wave = static_cast<std::size_t>(thread_count());
    for (std::size_t begin = 0; begin < ids_.size(); begin += wave) {
      check_interrupt();
      const std::size_t count = std::min(wave, ids_.size() - begin);
      parallel_for(static_cast<std::int64_t>(count), [&](std::int64_t k) {
        const auto slot = static_cast<std::size_t>(k);
        decoders_.with(weights, [&](Decoder& decoder) { work(decoder, begin + slot, slot); });
      });
      sum(count);
    }
  }

  // L (in the lower triangle), H = L L^T, of each input in the layer, in the order they come up. Linears that share an input take it one after another.
  std::vector<at::Tensor> input_factors(const Weights& weights, std::int64_t layer) {
    std::vector<std::vector<at::Tensor>> seen(static_cast<std::size_t>(thread_count()));
    std::vector<std::string> names;
    std::vector<at::Tensor> H;
    for_each_wave(
        weights,
        [&](Decoder& decoder, std::size_t chunk, std::size_t slot) {
          const at::NoGradGuard no_grad;
          std::vector<at::Tensor>& inputs = seen[slot];
          inputs.clear();
          decoder.observer = [&](const std::string& name, const at::Tensor& x) {
            if (!inputs.empty() && inputs.back().is_same(x)) return;
            inputs.push_back(x);
            if (chunk == 0) names.push_back(name);
          };
          decoder.layer(layer, load(layer, chunk));
          decoder.observer = nullptr;
        },
        [&](std::size_t slots) {
          H.resize(names.size());
          parallel_for(static_cast<std::int64_t>(H.size()), [&](std::int64_t k) {
            const at::NoGradGuard no_grad;
            const auto input = static_cast<std::size_t>(k);
            for (std::size_t slot = 0; slot < slots; ++slot) {
              const at::Tensor x = seen[slot][input].reshape({-1, seen[slot][input].size(-1)});
              if (!H[input].defined()) H[input] = at::zeros({x.size(1), x.size(1)});
              H[input].addmm_(x.t(), x);
            }
          });
        });
    for (std::size_t i = 0; i < H.size(); ++i) {
      H[i].diagonal().add_(kInputDamping * H[i].diagonal().mean());
      Triangle L(H[i]);
      if (!cholesky_in_place(L)) refuse_inputs(names[i]);
      for (std::int64_t r = 0; r < L.size(); ++r) std::copy_n(L.row(r), r + 1, H[i].data_ptr<float>() + r * L.size());
    }
    return H;
  }

  // Carries the gradients through a layer, from its outputs to its inputs, and learns what its linears' outputs mean on the way.
  std::map<std::string, at::Tensor> through(std::int64_t layer) {
    struct Output {
      std::size_t input = 0;
      at::Tensor g, Kg;  // (tokens, rows)
    };
    const Weights weights = layer_weights(layer);
    const std::vector<at::Tensor> factors = input_factors(weights, layer);
    std::map<std::string, at::Tensor> A;
    for (const auto& [name, W] : weights)
      if (W.dim() == 2) A.emplace(name, at::zeros({W.size(0), std::min(kMetricRows, W.size(0))}));
    std::vector<std::map<std::string, Output>> seen(static_cast<std::size_t>(thread_count()));
    for_each_wave(
        weights,
        [&](Decoder& decoder, std::size_t chunk, std::size_t slot) {
          const at::AutoGradMode with_grad(true);
          std::vector<at::Tensor> inputs;
          std::map<std::string, Output>& outputs = seen[slot];
          decoder.observer = [&](const std::string&, const at::Tensor& x) {
            if (inputs.empty() || !inputs.back().is_same(x)) inputs.push_back(x);
          };
          decoder.output_observer = [&](const std::string& name, const at::Tensor& y) {
            Output& output = outputs[name + ".weight"];
            output.input = inputs.size() - 1;
            y.register_hook([&output](const at::Tensor& g) { output.g = g.reshape({-1, g.size(-1)}).contiguous(); });
          };
          const at::Tensor h = load(layer, chunk).requires_grad_(true);
          decoder.layer(layer, h).backward(load(gradient(layer + 1), chunk));
          decoder.observer = decoder.output_observer = nullptr;
          save(gradient(layer), chunk, h.grad());
          const at::NoGradGuard no_grad;
          for (std::size_t i = 0; i < inputs.size(); ++i) {
            const at::Tensor x = inputs[i].detach().reshape({-1, inputs[i].size(-1)});
            const at::Tensor Z = at::linalg_solve_triangular(factors[i].t(), x, /*upper=*/true, /*left=*/false), K = at::mm(Z, Z.t());
            for (auto& [name, output] : outputs)
              if (output.input == i) output.Kg = at::mm(K, output.g);
          }
        },
        [&](std::size_t slots) {
          each(A, [&](const std::string& name, at::Tensor& sum) {
            const std::int64_t rows = sum.size(0), block = sum.size(1);
            for (std::size_t slot = 0; slot < slots; ++slot) {
              const Output& output = seen[slot].at(name);
              for (std::int64_t begin = 0; begin < rows; begin += block) {
                const std::int64_t width = std::min(block, rows - begin);
                sum.narrow(0, begin, width).narrow(1, 0, width).addmm_(output.g.narrow(1, begin, width).t(), output.Kg.narrow(1, begin, width));
              }
            }
          });
        });
    each(A, [&](const std::string& name, at::Tensor& sum) {
      if (!at::isfinite(sum).all().item<bool>())
        fail("gptq: the gradients at the output of ", name, " hold NaN or Inf; the model does not compute on this calibration text");
      damp(sum);
    });
    return A;
  }

  // Brings the mean of A's diagonal to 1 and adds to it. A of nothing but zeros becomes I.
  static void damp(at::Tensor& A) {
    const std::int64_t rows = A.size(0), block = A.size(1);
    float* values = A.data_ptr<float>();
    const auto diagonal = [&](std::int64_t r) -> float& { return values[r * block + r % block]; };
    double sum = 0;
    for (std::int64_t r = 0; r < rows; ++r) sum += diagonal(r);
    if (sum > 0) A.mul_(static_cast<double>(rows) / sum);
    for (std::int64_t r = 0; r < rows; ++r) diagonal(r) += static_cast<float>(sum > 0 ? kDamping : 1.0);
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

  // Slot 0 .. layers: hidden states before that layer, (1, length, hidden). Gradients with respect to them take their place, or, where a run
  // may go on, one of two slots more, so that a layer that was broken off can begin again.
  std::int64_t gradient(std::int64_t layer) const { return path_.empty() ? layer : layers() + 1 + layer % 2; }
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
  std::int64_t whole_, length_;  // tokens of a chunk, and those of them that are used
  std::uint64_t seed_;
  std::vector<Ids> ids_;
  DecoderPool decoders_;
  fs::path path_;  // of the file; empty: in memory
  ScratchFile file_;
  std::int64_t next_ = layers();     // the layer that gradients go through next; all of them: states are to come first
  std::vector<std::string> states_;  // hashes of hidden states before each layer
};

}  // namespace

at::Tensor measure_output_metrics(const Checkpoint& model, const std::vector<Ids>& chunks, std::uint64_t seed, const fs::path& folder,
                                  const LayerMetrics& take, const nlohmann::json& reached) {
  if (chunks.empty()) fail("output metric: no text");
  const OneTorchThread one_thread;
  const fs::path file = folder.empty() ? fs::path() : folder / "gradients";
  if (!reached.is_null() && !fs::exists(file))
    throw ResumeError(cat("cannot resume: ", file.string(), " is missing; remove the folder to start again"));
  at::Tensor embedding = Fisher(model, chunks, seed, file, reached).run(take);
  std::error_code ignored;
  if (!file.empty()) fs::remove(file, ignored);
  return embedding;
}

}  // namespace attar
