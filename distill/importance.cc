#include "distill/importance.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include "base/console.h"
#include "base/error.h"

namespace attar {
namespace {

std::vector<double> to_vector(const at::Tensor& x) {
  const at::Tensor flat = x.to(at::kCPU, at::kDouble).contiguous();
  return {flat.data_ptr<double>(), flat.data_ptr<double>() + flat.numel()};
}

void add_to(at::Tensor& sum, const at::Tensor& x) { sum = sum.defined() ? sum + x : x; }

// Sums over the chunks seen so far, float64.
class Recorder {
 public:
  explicit Recorder(Decoder& decoder) : decoder_(decoder), layers_(static_cast<std::size_t>(decoder.config().layers)) {}

  // x: (batch, time, in_features), the input of linear `name`.
  void see(const std::string& name, const at::Tensor& x) {
    if (name.ends_with(".down_proj")) {
      add_to(layer().channels, squared_means(x.abs()));
    } else if (name.ends_with(".o_proj")) {
      const ModelConfig& c = decoder_.config();
      const at::Tensor heads = x.reshape({x.size(0), x.size(1), c.heads, c.head_dim});
      add_to(layer().heads, squared_means(heads.norm(2, -1)));
    } else if (name.ends_with(".q_proj") || name.ends_with(".qkv_proj")) {
      see_norm(layer().attention_energy, x, cat("model.layers.", current, ".input_layernorm.weight"));
      add_to(hidden_, squared_means(x.abs()));
    } else if (name.ends_with(".gate_proj") || name.ends_with(".gate_up_proj")) {
      const char* norm = decoder_.config().post_norms ? ".pre_feedforward_layernorm.weight" : ".post_attention_layernorm.weight";
      see_norm(layer().mlp_energy, x, cat("model.layers.", current, norm));
      add_to(hidden_, squared_means(x.abs()));
    }
  }
  void see_final(const at::Tensor& x) { see_norm(final_energy_, x, "model.norm.weight"); }
  // h_in, h_out: (batch, time, hidden_size)
  void see_layer(const at::Tensor& h_in, const at::Tensor& h_out) {
    add_to(layer().cosines, at::cosine_similarity(h_in, h_out, -1).sum(at::kDouble));
    tokens_ += current == 0 ? h_in.size(0) * h_in.size(1) : 0;
  }

  Importance result() const {
    Importance importance;
    for (const Layer& l : layers_) {
      importance.layers.push_back(1.0 - l.cosines.item<double>() / static_cast<double>(tokens_));
      importance.channels.push_back(to_vector(l.channels.sqrt()));
      importance.heads.push_back(to_vector(l.heads.sqrt()));
      importance.attention_energy.push_back(to_vector(l.attention_energy / static_cast<double>(tokens_)));
      importance.mlp_energy.push_back(to_vector(l.mlp_energy / static_cast<double>(tokens_)));
    }
    importance.hidden = to_vector(hidden_.sqrt());
    importance.final_energy = to_vector(final_energy_ / static_cast<double>(tokens_));
    return importance;
  }

  std::int64_t current = 0;  // the layer that runs

 private:
  struct Layer {
    at::Tensor cosines, channels, heads, attention_energy, mlp_energy;
  };
  Layer& layer() { return layers_[static_cast<std::size_t>(current)]; }
  // Mean over the sequence, squared, summed over the batch: the square of the L2 norm over the batch.
  static at::Tensor squared_means(const at::Tensor& x) { return x.mean(1).to(at::kDouble).square().sum(0); }

  // x is what the norm gave: dividing by its weight gives the input over its root mean square.
  void see_norm(at::Tensor& sum, const at::Tensor& x, const std::string& weight_name) {
    at::Tensor weight = decoder_.parameter(weight_name).detach();
    if (decoder_.config().norm_adds_one) weight = weight + 1.0;
    const at::Tensor dead = weight.eq(0);  // a channel the norm switches off tells nothing
    const at::Tensor u = (x / weight.masked_fill(dead, 1.0)).masked_fill(dead, 1.0);
    add_to(sum, u.reshape({-1, u.size(-1)}).square().sum(0).to(at::kDouble));
  }

  Decoder& decoder_;
  std::vector<Layer> layers_;
  at::Tensor hidden_, final_energy_;
  std::int64_t tokens_ = 0;
};

// Gives the decoder its observer back however the measuring ends.
class ObserverGuard {
 public:
  ObserverGuard(Decoder& decoder, LinearObserver observer) : decoder_(decoder), before_(std::move(decoder.observer)) {
    decoder.observer = std::move(observer);
  }
  ~ObserverGuard() { decoder_.observer = std::move(before_); }
  ObserverGuard(const ObserverGuard&) = delete;
  ObserverGuard& operator=(const ObserverGuard&) = delete;

 private:
  Decoder& decoder_;
  LinearObserver before_;
};

}  // namespace

Importance measure_importance(Decoder& decoder, const std::vector<Ids>& chunks, std::int64_t batch) {
  if (chunks.empty()) fail("[prune] there is no calibration text");
  const at::NoGradGuard no_grad;
  Recorder recorder(decoder);
  const ObserverGuard guard(decoder, [&](const std::string& name, const at::Tensor& x) { recorder.see(name, x); });
  const auto count = static_cast<std::int64_t>(chunks.size()), length = static_cast<std::int64_t>(chunks[0].size());
  Progress progress("importance", static_cast<std::uint64_t>(count * length), "tokens");
  for (std::int64_t begin = 0; begin < count; begin += batch) {
    const std::int64_t group = std::min(batch, count - begin);
    at::Tensor ids = at::empty({group, length}, at::kLong);
    for (std::int64_t i = 0; i < group; ++i) {
      const Ids& chunk = chunks[static_cast<std::size_t>(begin + i)];
      if (static_cast<std::int64_t>(chunk.size()) != length)
        fail("[prune] calibration chunks of ", length, " and ", chunk.size(), " tokens");
      std::copy(chunk.begin(), chunk.end(), ids.data_ptr<std::int64_t>() + i * length);
    }
    at::Tensor h = decoder.embed(ids.to(decoder.device()));
    for (recorder.current = 0; recorder.current < decoder.config().layers; ++recorder.current) {
      const at::Tensor out = decoder.layer(recorder.current, h);
      recorder.see_layer(h, out);
      h = out;
      check_interrupt();
    }
    recorder.see_final(decoder.final_norm(h));
    progress.advance(static_cast<std::uint64_t>(group * length));
  }
  return recorder.result();
}

}  // namespace attar
