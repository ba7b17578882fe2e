#include "quantize/streams.h"

#include <unistd.h>

#include <algorithm>
#include <numeric>

#include "base/console.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/threads.h"
#include "model/tensor.h"
#include "quantize/products.h"
#include "quantize/tensors.h"
#include "quantize/work_folder.h"

namespace attar {
namespace {

constexpr const char *kEmbedding = "model.embed_tokens.weight", *kFinalNorm = "model.norm.weight";

struct Seen {};  // thrown by the observer: the rest of the half is not needed

bool is_in(Half half, const Tensor& tensor) {
  return tensor.shape.size() < 2 || (tensor.name.find(".mlp.") != std::string::npos) == (half == Half::kMlp);
}

}  // namespace

Streams::Streams(const Checkpoint& model, const std::vector<Ids>& chunks, StreamsOptions options)
    : model_(model), length_(chunks.empty() ? 0 : static_cast<std::int64_t>(chunks.front().size())),
      options_(std::move(options)), chunks_(chunks), decoders_(model.config) {
  if (length_ == 0) fail("calibration: no text");
  const bool all = options_.targets || options_.again;
  originals_ = !options_.with_original ? 0 : all ? chunks_.size() : std::min(wave(), chunks_.size());
}

// On the disk of options_.spill, gone with the object or the program; in memory without one.
ScratchFile Streams::unnamed() const {
  if (options_.spill.empty()) return {};
  const fs::path path = options_.spill / cat(".attar-", ::getpid(), ".scratch");
  ScratchFile file(path);
  fs::remove(path);
  return file;
}

at::Tensor Streams::load(const ScratchFile& file, Stream stream, std::size_t chunk) const {
  at::Tensor hidden = at::empty({1, length_, model_.config.hidden_size});
  file.read((stream * chunks_.size() + chunk) * chunk_bytes(), {static_cast<std::byte*>(hidden.data_ptr()), chunk_bytes()});
  return hidden;
}

void Streams::save(ScratchFile& file, Stream stream, std::size_t chunk, const at::Tensor& hidden) const {
  const at::Tensor whole = hidden.contiguous();
  file.write((stream * chunks_.size() + chunk) * chunk_bytes(), {static_cast<const std::byte*>(whole.data_ptr()), chunk_bytes()});
}

void Streams::with_worker(const Weights& weights, const std::function<void(Decoder&)>& work) {
  const at::NoGradGuard no_grad;
  decoders_.with(weights, work);
}

void Streams::for_each_wave(const std::function<void(std::size_t, std::size_t)>& work) {
  for (std::size_t begin = 0; begin < chunks_.size(); begin += wave()) {
    check_interrupt();
    work(begin, std::min(chunks_.size(), begin + wave()));
  }
}

void Streams::start(const Tensor& embedding) {
  input_ = std::make_shared<ScratchFile>(options_.folder.empty() ? unnamed() : ScratchFile(hidden_file(0)));
  const auto embed = [&](const Tensor& table, Stream stream, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      // The table of those tokens that occur in the chunk, and the chunk in its numbers.
      Ids used = chunks_[i], ids = chunks_[i];
      std::sort(used.begin(), used.end());
      used.erase(std::unique(used.begin(), used.end()), used.end());
      if (used.front() < 0 || used.back() >= table.rows())
        fail("calibration: token id ", used.front() < 0 ? used.front() : used.back(), " is outside the vocabulary of ", table.rows());
      at::Tensor rows = at::empty({static_cast<std::int64_t>(used.size()), table.columns()});
      for (std::size_t k = 0; k < used.size(); ++k) {
        const std::vector<float> row = read_floats(table, used[k], used[k] + 1);
        std::copy(row.begin(), row.end(), rows.data_ptr<float>() + static_cast<std::int64_t>(k) * table.columns());
      }
      for (std::int64_t& id : ids) id = std::lower_bound(used.begin(), used.end(), id) - used.begin();
      with_worker({{kEmbedding, rows}}, [&](Decoder& decoder) {
        save(*input_, stream, i, decoder.embed(tensor_of(ids).unsqueeze(0)));
      });
    }
  };
  embed(embedding, kQuantized, chunks_.size());
  if (originals_ > 0) embed(model_.at(kEmbedding), kOriginal, originals_);
  output_ = input_;
}

std::string Streams::seal() {
  input_->sync();
  return content_hash(*input_, 0, hidden_bytes());
}

void Streams::resume(std::int64_t index, const std::string& hash) {
  const auto damaged = [&](std::string_view what) {
    throw ResumeError(cat("cannot resume: ", hidden_file(index).string(), " is ", what, "; remove the folder to start again"));
  };
  if (!fs::exists(hidden_file(index))) damaged("missing");
  input_ = std::make_shared<ScratchFile>(ScratchFile::open(hidden_file(index)));
  if (input_->size() != hidden_bytes() || seal() != hash) damaged("damaged");
}

void Streams::enter(std::int64_t layer, Half half) {
  if (!options_.folder.empty() && half == Half::kAttention) {
    std::error_code ignored;
    fs::remove(hidden_file(layer - 1), ignored);
    output_ = std::make_shared<ScratchFile>(hidden_file(layer + 1));
  }
  layer_ = layer, half_ = half, original_ahead_ = originals_ == 0;
  weights_.clear();
  original_weights_.clear();
  last_inputs_.reset();
  const std::string prefix = cat("model.layers.", layer, ".");
  for (const Tensor& tensor : model_.tensors) {
    if (!tensor.name.starts_with(prefix) || !is_in(half, tensor)) continue;
    at::Tensor weight = read_tensor(tensor);
    if (!at::isfinite(weight).all().item<bool>())
      fail("quantize: ", tensor.name, " holds NaN or Inf; the checkpoint is damaged or overflowed its type");
    original_weights_.emplace(tensor.name, std::move(weight));
  }
  weights_ = original_weights_;
  with_worker({}, [&](Decoder& decoder) { linears_ = decoder.linear_weights(layer); });
  std::erase_if(linears_, [&](const std::string& name) { return !weights_.contains(name); });
  if (!options_.targets) lead();
}

const at::Tensor& Streams::weight(const std::string& name) const { return original_weights_.at(name); }

void Streams::replace(const std::string& name, const at::Tensor& quantized) {
  if (name != linears_.back()) last_inputs_.reset();
  weights_[name] = quantized;
  if (original_ahead_) original_weights_.erase(name);
}

void Streams::run(Stream stream, std::size_t chunk, const std::string& linear, bool through, const See& see) {
  with_worker(stream == kQuantized ? weights_ : original_weights_, [&](Decoder& decoder) {
    decoder.observer = [&](const std::string& name, const at::Tensor& x) {
      if (name + ".weight" != linear) return;
      see(x.reshape({length_, -1}));
      if (!through) throw Seen{};
    };
    try {
      const at::Tensor hidden = load(*input_, stream, chunk);
      const at::Tensor out = half_ == Half::kAttention ? decoder.attention_half(layer_, hidden) : decoder.mlp_half(layer_, hidden);
      save(*output_, stream, chunk, out);
    } catch (const Seen&) {
    }
    decoder.observer = nullptr;
  });
}

at::Tensor Streams::capture(Stream stream, const std::string& linear, std::size_t begin, std::size_t end) {
  const auto count = static_cast<std::int64_t>(end - begin);
  at::Tensor X = at::empty({count * length_, weights_.at(linear).size(1)});
  parallel_for(count, [&](std::int64_t i) {
    run(stream, begin + static_cast<std::size_t>(i), linear, false,
        [&](const at::Tensor& x) { X.narrow(0, i * length_, length_).copy_(x); });
  });
  return X;
}

InputSums Streams::input_sums(const std::string& linear) {
  const at::NoGradGuard no_grad;
  if (linear == linears_.back()) return last_input_sums();
  return sums_of(weights_.at(linear).size(1), [&](Stream stream, std::size_t begin, std::size_t end) { return capture(stream, linear, begin, end); });
}

InputSums Streams::sums_of(std::int64_t columns, const Inputs& inputs) {
  InputSums sums{at::zeros({columns, columns}), {}, {}};
  if (targets()) sums.cross = at::zeros_like(sums.XtX);
  for_each_wave([&](std::size_t begin, std::size_t end) {
    const at::Tensor X = inputs(kQuantized, begin, end);
    add_products(X, X, true, sums.XtX);
    if (targets()) add_products(inputs(kOriginal, begin, end), X, false, sums.cross);
  });
  mirror(sums.XtX);
  return sums;
}

// The original's stream has nothing left to wait for, so the last linear can aim at what leaves the half. Its inputs are first written to
// a file, then the matrices before it are forgotten, then sums begin: together the two would be the most that is ever held.
InputSums Streams::last_input_sums() {
  const std::string& linear = linears_.back();
  const at::Tensor W = weights_.at(linear);
  const bool lead = !original_ahead_, aimed = targets(), into_stream = !model_.config.post_norms;
  open_inputs();
  for_each_wave([&](std::size_t begin, std::size_t end) {
    parallel_for(static_cast<std::int64_t>(end - begin), [&](std::int64_t i) {
      const std::size_t chunk = begin + static_cast<std::size_t>(i);
      run(kQuantized, chunk, linear, false, [&](const at::Tensor& x) { keep_input(kQuantized, chunk, x); });
      if (!lead) return;
      run(kOriginal, chunk, linear, true, [&](const at::Tensor& x) {
        if (aimed && !into_stream) keep_input(kOriginal, chunk, x);
      });
    });
  });
  if (lead) {
    original_ahead_ = true;
    std::erase_if(original_weights_, [&](const auto& entry) { return entry.second.dim() == 2 && entry.first != linear; });
  }
  // leave() goes on from these inputs.
  if (!options_.again)
    std::erase_if(weights_, [&](const auto& entry) { return entry.second.dim() == 2 && entry.first != linear; });
  give_back_freed_memory();

  InputSums sums{at::zeros({W.size(1), W.size(1)}), {}, {}};
  if (aimed) (into_stream ? sums.residual : sums.cross) = at::zeros({W.size(into_stream ? 0 : 1), W.size(1)});
  for_each_wave([&](std::size_t begin, std::size_t end) {
    const at::Tensor X = kept_inputs(kQuantized, begin, end);
    add_products(X, X, true, sums.XtX);
    if (!aimed) return;
    if (into_stream)
      add_products(wanted(begin, end), X, false, sums.residual);
    else
      add_products(kept_inputs(kOriginal, begin, end), X, false, sums.cross);
  });
  mirror(sums.XtX);
  if (sums.residual.defined()) subtract_product(W, sums.XtX, sums.residual);
  give_back_freed_memory();
  return sums;
}

// What the last linear should give for the residual stream to be the original's: (tokens, rows) W x_fp + h_fp - h_q.
at::Tensor Streams::wanted(std::size_t begin, std::size_t end) {
  const std::string& linear = linears_.back();
  const auto bias = original_weights_.find(linear.substr(0, linear.rfind('.')) + ".bias");
  const auto count = static_cast<std::int64_t>(end - begin);
  at::Tensor Y = at::empty({count * length_, original_weights_.at(linear).size(0)});
  parallel_for(count, [&](std::int64_t i) {
    const at::NoGradGuard no_grad;
    const std::size_t chunk = begin + static_cast<std::size_t>(i);
    at::Tensor y = load(*output_, kOriginal, chunk) - load(*input_, kQuantized, chunk);
    if (bias != original_weights_.end()) y -= bias->second;
    Y.narrow(0, i * length_, length_).copy_(y.view({length_, -1}));
  });
  return Y;
}

// On the disk of the hidden states, if they are on one, but under no name: what is left when the program is killed is gone.
void Streams::open_inputs() {
  last_inputs_.reset();
  if (options_.folder.empty()) {
    last_inputs_.emplace(unnamed());
  } else {
    last_inputs_.emplace(options_.folder / "inputs");
    fs::remove(options_.folder / "inputs");
  }
}

void Streams::keep_input(Stream stream, std::size_t chunk, const at::Tensor& x) {
  const at::Tensor whole = x.contiguous();
  last_inputs_->write((stream * chunks_.size() + chunk) * whole.nbytes(), {static_cast<const std::byte*>(whole.data_ptr()), whole.nbytes()});
}

at::Tensor Streams::kept_inputs(Stream stream, std::size_t begin, std::size_t end) const {
  at::Tensor X = at::empty({static_cast<std::int64_t>(end - begin) * length_, weights_.at(linears_.back()).size(1)});
  const std::uint64_t bytes = X.nbytes() / (end - begin);
  last_inputs_->read((stream * chunks_.size() + begin) * bytes, {static_cast<std::byte*>(X.data_ptr()), X.nbytes()});
  return X;
}

void Streams::finish_from_inputs(std::size_t chunk) {
  const at::Tensor x = kept_inputs(kQuantized, chunk, chunk + 1).unsqueeze(0);
  with_worker(weights_, [&](Decoder& decoder) {
    const at::Tensor hidden = load(*input_, kQuantized, chunk);
    save(*output_, kQuantized, chunk, half_ == Half::kAttention ? decoder.attention_end(layer_, hidden, x) : decoder.mlp_end(layer_, hidden, x));
  });
}

std::vector<float> Streams::mean_squares(const std::string& linear) {
  return mean_squares_of(weights_.at(linear).size(1),
                         [&](std::size_t begin, std::size_t end) { return capture(kQuantized, linear, begin, end); });
}

void Streams::lead() {
  if (original_ahead_) return;
  parallel_for(static_cast<std::int64_t>(originals_), [&](std::int64_t i) {
    check_interrupt();
    run(kOriginal, static_cast<std::size_t>(i), {}, true, {});
  });
  original_ahead_ = true;
  std::erase_if(original_weights_, [&](const auto& entry) { return !entry.second.is_same(weights_.at(entry.first)); });
}

double Streams::error(std::span<const std::size_t> chunks, const at::Tensor& A, std::map<std::string, at::Tensor>& gradients) {
  const auto wave = static_cast<std::size_t>(thread_count());
  std::vector<double> errors(chunks.size());
  std::vector<std::map<std::string, at::Tensor>> found(wave);
  for (std::size_t begin = 0; begin < chunks.size(); begin += wave) {
    check_interrupt();
    const std::size_t count = std::min(wave, chunks.size() - begin);
    parallel_for(static_cast<std::int64_t>(count), [&](std::int64_t k) {
      const auto slot = static_cast<std::size_t>(k), chunk = chunks[begin + slot];
      decoders_.with(weights_, [&](Decoder& decoder) {
        const at::AutoGradMode mode(!gradients.empty());
        for (const auto& [name, sum] : gradients) decoder.parameter(name).set_requires_grad(true);
        const at::Tensor hidden = load(*input_, kQuantized, chunk);
        const at::Tensor out = half_ == Half::kAttention ? decoder.attention_half(layer_, hidden) : decoder.mlp_half(layer_, hidden);
        const at::Tensor e = (out - load(*output_, kOriginal, chunk)).squeeze(0);
        at::Tensor lost = at::zeros({});
        if (!A.defined()) lost = e.square().sum();
        for (std::int64_t at = 0; A.defined() && at < e.size(1); at += A.size(1)) {
          const std::int64_t width = std::min(A.size(1), e.size(1) - at);
          const at::Tensor part = e.narrow(1, at, width);
          lost = lost + (at::mm(part, A.narrow(0, at, width).narrow(1, 0, width)) * part).sum();
        }
        errors[begin + slot] = lost.item<double>();
        if (!gradients.empty()) lost.backward();
        for (const auto& [name, sum] : gradients) {
          at::Tensor& parameter = decoder.parameter(name);
          found[slot][name] = parameter.grad();
          parameter.mutable_grad() = at::Tensor();
          parameter.set_requires_grad(false);
        }
      });
    });
    const at::NoGradGuard no_grad;
    for (auto& [name, sum] : gradients)
      for (std::size_t slot = 0; slot < count; ++slot) sum += found[slot].at(name);
  }
  return std::accumulate(errors.begin(), errors.end(), 0.0);
}

double Streams::leave() {
  std::vector<double> error(chunks_.size(), 0.0), energy(chunks_.size(), 0.0);
  for_each_wave([&](std::size_t begin, std::size_t end) {
    parallel_for(static_cast<std::int64_t>(end - begin), [&](std::int64_t step) {
      const std::size_t i = begin + static_cast<std::size_t>(step);
      last_inputs_ ? finish_from_inputs(i) : run(kQuantized, i, {}, true, {});
      if (i >= originals_) return;
      if (!original_ahead_) run(kOriginal, i, {}, true, {});
      const at::NoGradGuard no_grad;
      const at::Tensor original = load(*output_, kOriginal, i);
      error[i] = (load(*output_, kQuantized, i) - original).square().sum().item<double>();
      energy[i] = original.square().sum().item<double>();
    });
  });
  input_ = output_;
  original_ahead_ = false;
  last_inputs_.reset();
  weights_.clear();
  original_weights_.clear();
  give_back_freed_memory();
  double errors = 0, energies = 0;
  for (std::size_t i = 0; i < error.size(); ++i) errors += error[i], energies += energy[i];
  return energies > 0 ? errors / energies : 0;
}

// The final norm of chunks [begin, end): (tokens, hidden).
at::Tensor Streams::normed(const at::Tensor& norm, Stream stream, std::size_t begin, std::size_t end) {
  const auto count = static_cast<std::int64_t>(end - begin);
  at::Tensor X = at::empty({count * length_, norm.numel()});
  parallel_for(count, [&](std::int64_t i) {
    with_worker({{kFinalNorm, norm}}, [&](Decoder& decoder) {
      X.narrow(0, i * length_, length_)
          .copy_(decoder.final_norm(load(*input_, stream, begin + static_cast<std::size_t>(i))).view({length_, -1}));
    });
  });
  return X;
}

InputSums Streams::final_sums() {
  const at::NoGradGuard no_grad;
  const at::Tensor norm = read_tensor(model_.at(kFinalNorm));
  return sums_of(norm.numel(), [&](Stream stream, std::size_t begin, std::size_t end) { return normed(norm, stream, begin, end); });
}

std::vector<float> Streams::final_mean_squares() {
  const at::Tensor norm = read_tensor(model_.at(kFinalNorm));
  return mean_squares_of(norm.numel(), [&](std::size_t begin, std::size_t end) { return normed(norm, kQuantized, begin, end); });
}

std::vector<float> Streams::mean_squares_of(std::int64_t columns,
                                            const std::function<at::Tensor(std::size_t, std::size_t)>& inputs) {
  const at::NoGradGuard no_grad;
  at::Tensor sum = at::zeros({columns}, at::kDouble);
  for_each_wave([&](std::size_t begin, std::size_t end) {
    sum += inputs(begin, end).square().sum(0).to(at::kDouble);
  });
  const at::Tensor mean = (sum / static_cast<double>(length_ * static_cast<std::int64_t>(chunks_.size()))).to(at::kFloat);
  return {mean.data_ptr<float>(), mean.data_ptr<float>() + mean.numel()};
}

}  // namespace attar
