#include "quantize/streams.h"

#include <algorithm>

#include "base/console.h"
#include "base/error.h"
#include "base/threads.h"
#include "quantize/tensors.h"

namespace attar {
namespace {

constexpr std::int64_t kWaveTokens = 8192;  // inputs held at a time; fixed, so that sums do not depend on the threads
constexpr const char* kFinalNorm = "model.norm.weight";
constexpr std::int64_t kTile = 128;         // columns of X^T X per parallel step

struct Seen {};  // thrown by the observer: the rest of the layer is not needed

// sum_i A_i^T B_i over rows i of A and B, added to `sum`. symmetric: A is B, and only the upper blocks are computed.
void add_products(const at::Tensor& A, const at::Tensor& B, bool symmetric, at::Tensor& sum) {
  const std::int64_t rows = A.size(1), columns = B.size(1);
  parallel_for((rows + kTile - 1) / kTile, [&](std::int64_t tile) {
    const at::NoGradGuard no_grad;
    const std::int64_t begin = tile * kTile, width = std::min(kTile, rows - begin), from = symmetric ? begin : 0;
    at::Tensor part = sum.narrow(0, begin, width).narrow(1, from, columns - from);
    part.add_(at::mm(A.narrow(1, begin, width).t(), B.narrow(1, from, columns - from)));
  });
}

// add_products left out the blocks under the diagonal; within a diagonal block both halves are there.
void mirror(at::Tensor& sum) { sum = at::triu(sum) + at::triu(sum, 1).t(); }

}  // namespace

// A decoder of its own for every thread: its tables grow as it runs. It holds no weights but those it is lent.
struct Streams::Worker {
  explicit Worker(const ModelConfig& config) : decoder(config) {
    for (const std::string& name : decoder.parameter_names()) lend(name, at::empty({0}));
  }
  void lend(const std::string& name, const at::Tensor& value) { decoder.parameter(name).set_data(value); }
  Decoder decoder;
};

Streams::Streams(const Checkpoint& model, const std::vector<Ids>& chunks, bool with_original)
    : model_(model), length_(chunks.empty() ? 0 : static_cast<std::int64_t>(chunks.front().size())),
      with_original_(with_original) {
  if (length_ == 0) fail("calibration: no text");
  for (const Ids& chunk : chunks) ids_.push_back(torch::tensor(chunk).unsqueeze(0));
}

Streams::~Streams() = default;

void Streams::with_worker(const Weights& weights, const std::function<void(Decoder&)>& work) {
  const at::NoGradGuard no_grad;
  std::unique_ptr<Worker> worker;
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      worker = std::move(idle_.back());
      idle_.pop_back();
    }
  }
  if (!worker) worker = std::make_unique<Worker>(model_.config);
  for (const auto& [name, value] : weights) worker->lend(name, value);
  work(worker->decoder);
  for (const auto& [name, value] : weights) worker->lend(name, at::empty({0}));
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(worker));
}

void Streams::for_each_wave(const std::function<void(std::size_t, std::size_t)>& work) {
  const auto step = static_cast<std::size_t>(std::max<std::int64_t>(1, kWaveTokens / length_));
  for (std::size_t begin = 0; begin < ids_.size(); begin += step) {
    check_interrupt();
    work(begin, std::min(ids_.size(), begin + step));
  }
}

void Streams::start(const at::Tensor& embedding) {
  const std::string name = "model.embed_tokens.weight";
  const auto embed = [&](const at::Tensor& values, std::vector<at::Tensor>& hidden) {
    hidden.resize(ids_.size());
    with_worker({{name, values}}, [&](Decoder& decoder) {
      for (std::size_t i = 0; i < ids_.size(); ++i) hidden[i] = decoder.embed(ids_[i]);
    });
  };
  embed(embedding, hidden_);
  if (!with_original_) return;
  embed(read_tensor(model_.at(name)), original_);
}

void Streams::enter_layer(std::int64_t index) {
  layer_ = index;
  weights_.clear();
  original_weights_.clear();
  const std::string prefix = cat("model.layers.", index, ".");
  for (const Tensor& tensor : model_.tensors) {
    if (!tensor.name.starts_with(prefix)) continue;
    at::Tensor weight = read_tensor(tensor);
    if (!at::isfinite(weight).all().item<bool>())
      fail("quantize: ", tensor.name, " holds NaN or Inf; the checkpoint is damaged or overflowed its type");
    original_weights_.emplace(tensor.name, std::move(weight));
  }
  weights_ = original_weights_;
}

std::vector<std::string> Streams::linear_weights() {
  std::vector<std::string> names;
  with_worker({}, [&](Decoder& decoder) { names = decoder.linear_weights(layer_); });
  return names;
}

const at::Tensor& Streams::weight(const std::string& name) const { return original_weights_.at(name); }

void Streams::replace(const std::string& name, const at::Tensor& quantized) {
  weights_[name] = quantized;
  if (!with_original_) original_weights_.erase(name);
}

Streams::Captured Streams::capture(const std::string& linear, const Weights& weights,
                                   const std::vector<at::Tensor>& hidden, std::size_t begin, std::size_t end) {
  const std::string wanted = linear.substr(0, linear.size() - std::string_view(".weight").size());
  const at::Tensor& W = weights.at(linear);
  const std::int64_t tokens = static_cast<std::int64_t>(end - begin) * length_;
  Captured captured{at::empty({tokens, W.size(1)}), {}};
  std::vector<at::Tensor> residual(end - begin);
  parallel_for(static_cast<std::int64_t>(end - begin), [&](std::int64_t i) {
    with_worker(weights, [&](Decoder& decoder) {
      decoder.residual_observer = [&](const std::string& name, const at::Tensor& h) {
        if (name == wanted) residual[static_cast<std::size_t>(i)] = h.reshape({length_, -1});
      };
      decoder.observer = [&](const std::string& name, const at::Tensor& x) {
        if (name != wanted) return;
        captured.X.narrow(0, i * length_, length_).copy_(x.reshape({length_, W.size(1)}));
        throw Seen{};
      };
      try {
        decoder.layer(layer_, hidden[begin + static_cast<std::size_t>(i)]);
      } catch (const Seen&) {
      }
      decoder.observer = nullptr;
      decoder.residual_observer = nullptr;
    });
  });
  if (residual.front().defined()) captured.residual = at::cat(residual);
  return captured;
}

InputSums Streams::input_sums(const std::string& linear) {
  const at::NoGradGuard no_grad;
  const at::Tensor& W = weights_.at(linear);
  InputSums sums{at::zeros({W.size(1), W.size(1)}), {}, {}};
  if (with_original_) sums.cross = at::zeros_like(sums.XtX);
  for_each_wave([&](std::size_t begin, std::size_t end) {
    const auto [X, h] = capture(linear, weights_, hidden_, begin, end);
    add_products(X, X, true, sums.XtX);
    if (!with_original_) return;
    const auto [X_fp, h_fp] = capture(linear, original_weights_, original_, begin, end);
    add_products(X_fp, X, false, sums.cross);
    if (!h.defined()) return;
    if (!sums.residual.defined()) sums.residual = at::zeros(W.sizes());
    add_products(h_fp - h, X, false, sums.residual);
  });
  mirror(sums.XtX);
  return sums;
}

std::vector<float> Streams::mean_squares(const std::string& linear) {
  const at::NoGradGuard no_grad;
  at::Tensor sum = at::zeros({weights_.at(linear).size(1)}, at::kDouble);
  for_each_wave([&](std::size_t begin, std::size_t end) {
    sum += capture(linear, weights_, hidden_, begin, end).X.square().sum(0).to(at::kDouble);
  });
  return mean_of(sum);
}

double Streams::leave_layer() {
  const at::NoGradGuard no_grad;
  std::vector<double> error(ids_.size(), 0.0), energy(ids_.size(), 0.0);
  for_each_wave([&](std::size_t begin, std::size_t end) {
    parallel_for(static_cast<std::int64_t>(end - begin), [&](std::int64_t step) {
      const std::size_t i = begin + static_cast<std::size_t>(step);
      with_worker(weights_, [&](Decoder& decoder) { hidden_[i] = decoder.layer(layer_, hidden_[i]); });
      if (!with_original_) return;
      with_worker(original_weights_, [&](Decoder& decoder) { original_[i] = decoder.layer(layer_, original_[i]); });
      const at::NoGradGuard no_grad_here;
      error[i] = (hidden_[i] - original_[i]).square().sum().item<double>();
      energy[i] = original_[i].square().sum().item<double>();
    });
  });
  double errors = 0, energies = 0;
  for (std::size_t i = 0; i < error.size(); ++i) errors += error[i], energies += energy[i];
  return energies > 0 ? errors / energies : 0;
}

// The final norm of chunks [begin, end): (tokens, hidden).
at::Tensor Streams::normed(const at::Tensor& norm, const std::vector<at::Tensor>& hidden, std::size_t begin, std::size_t end) {
  std::vector<at::Tensor> X(end - begin);
  parallel_for(static_cast<std::int64_t>(end - begin), [&](std::int64_t i) {
    with_worker({{kFinalNorm, norm}}, [&](Decoder& decoder) {
      X[static_cast<std::size_t>(i)] = decoder.final_norm(hidden[begin + static_cast<std::size_t>(i)]).reshape({length_, -1});
    });
  });
  return at::cat(X);
}

InputSums Streams::final_sums() {
  const at::NoGradGuard no_grad;
  const at::Tensor norm = read_tensor(model_.at(kFinalNorm));
  InputSums sums{at::zeros({norm.numel(), norm.numel()}), {}, {}};
  if (with_original_) sums.cross = at::zeros_like(sums.XtX);
  for_each_wave([&](std::size_t begin, std::size_t end) {
    const at::Tensor X = normed(norm, hidden_, begin, end);
    add_products(X, X, true, sums.XtX);
    if (with_original_) add_products(normed(norm, original_, begin, end), X, false, sums.cross);
  });
  mirror(sums.XtX);
  return sums;
}

std::vector<float> Streams::final_mean_squares() {
  const at::NoGradGuard no_grad;
  const at::Tensor norm = read_tensor(model_.at(kFinalNorm));
  at::Tensor sum = at::zeros({norm.numel()}, at::kDouble);
  for_each_wave([&](std::size_t begin, std::size_t end) {
    sum += normed(norm, hidden_, begin, end).square().sum(0).to(at::kDouble);
  });
  return mean_of(sum);
}

std::vector<float> Streams::mean_of(const at::Tensor& sum) const {
  const at::Tensor mean = (sum / static_cast<double>(length_ * static_cast<std::int64_t>(ids_.size()))).to(at::kFloat);
  return {mean.data_ptr<float>(), mean.data_ptr<float>() + mean.numel()};
}

}  // namespace attar
