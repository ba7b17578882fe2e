#include "quantize/divergence.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <numeric>

#include "base/threads.h"

namespace attar {
namespace {

constexpr std::int64_t kEmbedding = -1;
constexpr std::int64_t kRows = 64;  // positions whose logits are in memory at a time

// Where a tensor comes into play; `layers` for those behind the last layer.
std::int64_t place_of(const std::string& name, std::int64_t layers) {
  constexpr std::string_view kLayers = "model.layers.";
  std::int64_t layer = 0;
  if (name.starts_with(kLayers)) {
    std::from_chars(name.data() + kLayers.size(), name.data() + name.size(), layer);
    return layer;
  }
  return name == "model.embed_tokens.weight" ? kEmbedding : layers;
}

}  // namespace

DivergenceMeter::DivergenceMeter(Decoder& original, const std::vector<Ids>& chunks, Positions positions)
    : original_(original), changed_(share_weights(original)), chunks_(chunks), positions_(positions), final_(chunks.size()),
      hidden_(chunks.size()) {
  for_each_chunk(*changed_, [&](std::size_t i, Decoder& own, Decoder&) {
    hidden_[i] = own.embed(ids(i));
    at::Tensor hidden = hidden_[i];
    for (std::int64_t l = 0; l < layers(); ++l) hidden = own.layer(l, hidden);
    final_[i] = scored(own, hidden);
  });
}

double DivergenceMeter::with(const std::string& name, const at::Tensor& value) {
  const std::int64_t place = place_of(name, layers());
  at::Tensor& W = changed_->parameter(name);
  W.set_data(value);
  go_to(std::max<std::int64_t>(place, 0));
  const double mean = mean_from(*changed_, place);
  W.set_data(original_.parameter(name));
  return mean;
}

double DivergenceMeter::of(Decoder& changed) { return mean_from(changed, kEmbedding); }

double DivergenceMeter::output_error(const std::string& name, const at::Tensor& value) {
  const std::int64_t place = place_of(name, layers());
  const std::string linear = name.substr(0, name.size() - std::string_view(".weight").size());
  go_to(std::max<std::int64_t>(place, 0));
  const at::Tensor& W = original_.parameter(name);
  const at::Tensor E = value - W;
  const auto square = [](const at::Tensor& y) { return y.square().sum(at::kDouble).item<double>(); };
  std::vector<Squares> sums(chunks_.size());
  for_each_chunk(*changed_, [&](std::size_t i, Decoder& own, Decoder&) {
    if (place == kEmbedding) {
      sums[i] = {square(at::embedding(E, ids(i))), square(at::embedding(W, ids(i)))};
      return;
    }
    own.observer = [&](const std::string& met, const at::Tensor& x) {
      if (met == linear) sums[i] = {square(at::linear(x, E)), square(at::linear(x, W))};
    };
    if (place < layers()) own.layer(place, hidden_[i]);
    else own.logits(final_[i]);
    own.observer = nullptr;
  });
  Squares all;
  for (const Squares& one : sums) all.error += one.error, all.output += one.output;
  return all.output > 0 ? all.error / all.output : 0.0;
}

void DivergenceMeter::go_to(std::int64_t layer) {
  const bool back = layer < layer_;
  for_each_chunk(*changed_, [&](std::size_t i, Decoder& own, Decoder&) {
    if (back) hidden_[i] = own.embed(ids(i));
    for (std::int64_t l = back ? 0 : layer_; l < layer; ++l) hidden_[i] = own.layer(l, hidden_[i]);
  });
  layer_ = layer;
}

double DivergenceMeter::mean_from(Decoder& changed, std::int64_t place) {
  std::vector<double> sums(chunks_.size());
  for_each_chunk(changed, [&](std::size_t i, Decoder& own, Decoder& other) {
    at::Tensor hidden = place == kEmbedding ? other.embed(ids(i)) : hidden_[i];
    for (std::int64_t l = std::max<std::int64_t>(place, 0); l < layers(); ++l) hidden = other.layer(l, hidden);
    const at::Tensor final = scored(other, hidden);
    for (std::int64_t begin = 0; begin < final.size(1); begin += kRows) {
      const auto log_of = [&](Decoder& decoder, const at::Tensor& states) {
        return at::log_softmax(decoder.logits(states.narrow(1, begin, std::min(kRows, final.size(1) - begin))), -1);
      };
      const at::Tensor log_p = log_of(own, final_[i]), log_q = log_of(other, final);
      // sum p (q / p - 1 - ln(q / p)), which is the divergence as both sum to 1; of float32's rounding errors of ln p and ln q, 1e-7
      // each and as large as the divergence of a fine format, it keeps the squares only.
      const at::Tensor d = log_q - log_p;
      sums[i] += (log_p.exp() * (d.expm1() - d)).sum(at::kDouble).item<double>();
    }
  });
  const double sum = std::accumulate(sums.begin(), sums.end(), 0.0);
  return std::max(0.0, sum / static_cast<double>(static_cast<std::int64_t>(chunks_.size()) * (positions_.end - positions_.begin)));
}

at::Tensor DivergenceMeter::scored(Decoder& decoder, const at::Tensor& hidden) const {
  return decoder.final_norm(hidden).narrow(1, positions_.begin, positions_.end - positions_.begin);
}

void DivergenceMeter::for_each_chunk(Decoder& changed, const Work& work) {
  const auto workers = std::min<std::int64_t>(thread_count(), static_cast<std::int64_t>(chunks_.size()));
  std::atomic<std::size_t> next{0};
  parallel_for(workers, [&](std::int64_t) {
    at::set_num_threads(1);  // this setting belongs to the thread
    const at::NoGradGuard no_grad;
    const auto own = share_weights(original_), other = share_weights(changed);
    for (std::size_t i = next++; i < chunks_.size(); i = next++) work(i, *own, *other);
  });
}

}  // namespace attar
