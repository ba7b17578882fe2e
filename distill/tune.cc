#include "distill/tune.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <functional>
#include <map>
#include <optional>

#include "base/console.h"
#include "base/error.h"
#include "base/half.h"
#include "base/text.h"
#include "base/threads.h"
#include "datasets/corpus.h"
#include "distill/chunk_gradients.h"
#include "distill/data.h"
#include "distill/schedule.h"
#include "distill/tune_state.h"
#include "distill/vocabulary_loss.h"
#include "kernels_ref/types.h"
#include "quantize/memory.h"
#include "quantize/rtn.h"

namespace attar {
namespace {

constexpr std::int64_t kPiece = std::int64_t{1} << 17;  // weights that take their step at a time: few enough to stay in the cache
constexpr double kMatrixRate = 0.02;                    // of matrices that are trained as floats, as a share of the rate

// Adam without decay over a tensor of any shape.
class Adam {
 public:
  explicit Adam(at::Tensor values) : values_(std::move(values)), m_(at::zeros_like(values_)), v_(at::zeros_like(values_)) {}
  // What a step changes, under `name`; and how many were taken.
  void add_state(const std::string& name, TuneState::Tensors& state) const {
    state.emplace(name, values_), state.emplace(name + " m", m_), state.emplace(name + " v", v_);
  }
  void took(int steps) { steps_ = steps; }
  void step(const at::Tensor& g, double rate) {
    constexpr double kBeta1 = 0.9, kBeta2 = 0.99, kEpsilon = 1e-10;
    ++steps_;
    m_.lerp_(g, 1 - kBeta1);
    v_.mul_(kBeta2).addcmul_(g, g, 1 - kBeta2);
    const double correction1 = 1 - std::pow(kBeta1, steps_), correction2 = 1 - std::pow(kBeta2, steps_);
    values_.addcdiv_(m_, v_.sqrt().div_(std::sqrt(correction2)).add_(kEpsilon), -rate / correction1);
  }

 private:
  at::Tensor values_, m_, v_;
  int steps_ = 0;
};

// The scales of rows of a matrix in a block format: w = d s + dmin o, with s = sc * level(code) and o = -m fixed.
//
// Where there is an offset, s and o lie almost in one direction: levels are 0 and up, so that d also moves the block's mean, and dmin has
// to follow. What is trained is d and c = dmin + k d, with k = <s, o> / <o, o>: then w = d (s - k o) + c o, and the two do not disturb
// each other.
class BlockParameters {
 public:
  explicit BlockParameters(QuantizedTensor Q)
      : Q_(std::move(Q)), width_(static_cast<std::int64_t>(block_weights(Q_.type, static_cast<std::uint64_t>(Q_.columns())))), affine_(info(Q_.type).grid.has_offset) {
    const GridInfo& grid = info(Q_.type).grid;
    const std::int64_t rows = Q_.rows(), columns = Q_.columns(), blocks = rows * columns / width_;
    const auto group = static_cast<std::int64_t>(group_weights(Q_.type, static_cast<std::uint64_t>(columns)));
    scaled_ = at::empty({blocks, width_});
    if (affine_) offset_ = at::empty({blocks, width_});
    d_ = at::empty({blocks, 1});
    dmin_ = at::zeros({blocks, 1});
    parallel_for(rows, [&](std::int64_t r) {
      const ByteView bytes = row(r);
      const std::vector<BlockScales> scales = read_scales(Q_.type, bytes, static_cast<std::uint64_t>(columns));
      std::vector<std::uint8_t> codes(static_cast<std::size_t>(columns));
      read_codes(Q_.type, bytes, codes);
      for (std::int64_t j = 0; j < columns; ++j) {
        const BlockScales& s = scales[static_cast<std::size_t>(j / width_)];
        const auto g = static_cast<std::size_t>(j % width_ / group);
        const std::int64_t at = r * columns + j;
        scaled_.data_ptr<float>()[at] = static_cast<float>(s.sc[g]) * level(grid, codes[static_cast<std::size_t>(j)]);
        if (affine_) offset_.data_ptr<float>()[at] = -static_cast<float>(s.m[g]);
      }
      for (std::int64_t b = 0; b < columns / width_; ++b) {
        const BlockScales& s = scales[static_cast<std::size_t>(b)];
        d_.data_ptr<float>()[r * (columns / width_) + b] = s.d;
        dmin_.data_ptr<float>()[r * (columns / width_) + b] = s.dmin;
      }
    });
    // Steps are taken relative to a block's size, so that one rate fits all matrices.
    d_unit_ = d_.abs().clamp_min(1e-8);
    theta_d_ = d_ / d_unit_;
    adam_d_.emplace(theta_d_);
    if (affine_) {
      const at::Tensor oo = offset_.square().sum(1, true).clamp_min(1);
      k_ = (scaled_ * offset_).sum(1, true) / oo;
      c_unit_ = (d_unit_ * ((scaled_ - k_ * offset_).square().sum(1, true) / oo).sqrt()).clamp_min(1e-8);  // moves the block as far
      theta_c_ = (dmin_ + k_ * d_) / c_unit_;
      adam_c_.emplace(theta_c_);
    }
  }

  // gradient: of the loss with respect to the decoded rows. Writes the new ones into W.
  void step(const at::Tensor& gradient, double rate, at::Tensor W) {
    const at::Tensor g = gradient.view({-1, width_});
    const at::Tensor of_c = affine_ ? (g * offset_).sum(1, true) : at::Tensor();
    at::Tensor of_d = (g * scaled_).sum(1, true);
    if (affine_) of_d.addcmul_(k_, of_c, -1);
    adam_d_->step(of_d * d_unit_, rate);
    if (affine_) adam_c_->step(of_c * c_unit_, rate);
    decode(W);
  }

  void add_state(const std::string& name, TuneState::Tensors& state) const {
    adam_d_->add_state(name + " d", state);
    if (affine_) adam_c_->add_state(name + " c", state);
  }
  // After its state was filled in.
  void go_on(int steps, at::Tensor W) {
    adam_d_->took(steps);
    if (affine_) adam_c_->took(steps);
    decode(W);
  }

  QuantizedTensor packed() {
    const std::int64_t per_row = Q_.columns() / width_;
    for (std::int64_t r = 0; r < Q_.rows(); ++r) {
      std::vector<BlockScales> scales = read_scales(Q_.type, row(r), static_cast<std::uint64_t>(Q_.columns()));
      for (std::int64_t b = 0; b < per_row; ++b) {
        scales[static_cast<std::size_t>(b)].d = d_.data_ptr<float>()[r * per_row + b];
        if (affine_) scales[static_cast<std::size_t>(b)].dmin = dmin_.data_ptr<float>()[r * per_row + b];
      }
      const std::size_t stride = Q_.bytes.size() / static_cast<std::size_t>(Q_.rows());
      write_scales(Q_.type, scales, std::span(Q_.bytes).subspan(static_cast<std::size_t>(r) * stride, stride));
    }
    return Q_;
  }

 private:
  // W from what is trained, rounded as the file has it.
  void decode(at::Tensor W) {
    d_ = to_half(theta_d_ * d_unit_);
    at::Tensor values = d_ * scaled_;
    if (affine_) {
      dmin_ = to_half(theta_c_ * c_unit_ - k_ * d_);
      values.addcmul_(dmin_, offset_);
    }
    W.copy_(values.view(W.sizes()));
  }
  ByteView row(std::int64_t r) const {
    const std::size_t stride = Q_.bytes.size() / static_cast<std::size_t>(Q_.rows());
    return ByteView(Q_.bytes).subspan(static_cast<std::size_t>(r) * stride, stride);
  }
  static at::Tensor to_half(const at::Tensor& t) { return t.clamp(-65504.0, 65504.0).to(at::kHalf).to(at::kFloat); }

  QuantizedTensor Q_;
  std::int64_t width_;
  bool affine_;
  at::Tensor scaled_, offset_;                                      // s, o: (blocks, width)
  at::Tensor d_, dmin_, k_, d_unit_, c_unit_, theta_d_, theta_c_;  // (blocks, 1)
  std::optional<Adam> adam_d_, adam_c_;
};

QuantizedTensor rows_of(const QuantizedTensor& Q, std::int64_t begin, std::int64_t count) {
  const std::size_t stride = Q.bytes.size() / static_cast<std::size_t>(Q.rows());
  const auto from = Q.bytes.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(begin) * stride);
  return {Q.type, {count, Q.columns()}, Bytes(from, from + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(count) * stride))};
}

// All that is trained, in pieces that take their steps side by side.
class Trained {
 public:
  Trained(FlatParameters& flat, const Checkpoint& quantized) : flat_(flat) {
    for (const FlatParameters::Slot& slot : flat.slots()) {
      const Tensor& tensor = quantized.at(slot.name);
      const TypeInfo& type = info(tensor.type);
      if (type.quantized && type.grid.group == 0) fail("tune: ", slot.name, " is ", type.name, ", which can only be decoded");
      if (type.quantized && type.grid.levels < 256)
        add_blocks(slot, read_packed(tensor));
      else
        add_floats(slot);
    }
  }

  // With the gradients that `flat` holds.
  void step(double rate) {
    parallel_for(std::ssize(steps_), [&](std::int64_t i) {
      at::set_num_threads(1);  // this setting belongs to the thread
      const at::NoGradGuard no_grad;
      steps_[static_cast<std::size_t>(i)](rate);
    });
  }

  TuneState::Tensors state(const std::string& name) {
    TuneState::Tensors all;
    std::size_t piece = 0;
    if (const auto found = blocks_.find(name); found != blocks_.end())
      for (const BlockParameters& one : found->second) one.add_state(cat(piece++), all);
    else
      for (const Adam& one : floats_.at(name)) one.add_state(cat(piece++), all);
    return all;
  }
  void go_on(int steps) {
    parallel_for(std::ssize(resumes_), [&](std::int64_t i) {
      const at::NoGradGuard no_grad;
      resumes_[static_cast<std::size_t>(i)](steps);
    });
  }

  // original: the tensor as it was; the same type and shape.
  Tensor result(const FlatParameters::Slot& slot, const Tensor& original) {
    if (const auto found = blocks_.find(slot.name); found != blocks_.end()) {
      QuantizedTensor Q{original.type, original.shape, {}};
      for (BlockParameters& piece : found->second) {
        const QuantizedTensor rows = piece.packed();
        Q.bytes.insert(Q.bytes.end(), rows.bytes.begin(), rows.bytes.end());
      }
      return make_tensor(slot.name, std::move(Q));
    }
    const at::Tensor values = flat_.view(flat_.values(), slot);
    std::vector<float> copy(values.data_ptr<float>(), values.data_ptr<float>() + values.numel());
    if (values.dim() < 2 || original.type == Type::kF32) return make_tensor(slot.name, original.shape, std::move(copy));
    return make_tensor(slot.name, rtn(original.type, copy, values.size(0), values.size(1), {}, slot.name));
  }

 private:
  void add_blocks(const FlatParameters::Slot& slot, const QuantizedTensor& Q) {
    const at::Tensor W = flat_.view(flat_.values(), slot), G = flat_.view(flat_.gradients(), slot);
    const std::int64_t rows = std::max<std::int64_t>(1, kPiece / Q.columns());
    for (std::int64_t begin = 0; begin < Q.rows(); begin += rows) {
      const std::int64_t count = std::min(rows, Q.rows() - begin);
      BlockParameters& piece = blocks_[slot.name].emplace_back(rows_of(Q, begin, count));
      steps_.push_back([&piece, G = G.narrow(0, begin, count), W = W.narrow(0, begin, count)](double rate) { piece.step(G, rate, W); });
      resumes_.push_back([&piece, W = W.narrow(0, begin, count)](int steps) { piece.go_on(steps, W); });
    }
  }
  // A norm, a bias, or a matrix of so many bits that it is as good as continuous.
  void add_floats(const FlatParameters::Slot& slot) {
    const at::Tensor values = flat_.values().narrow(0, slot.offset, slot.count), G = flat_.gradients().narrow(0, slot.offset, slot.count);
    const double unit = slot.shape.size() >= 2 ? kMatrixRate : std::max(1e-3, values.square().mean().sqrt().item<double>());
    for (std::int64_t begin = 0; begin < slot.count; begin += kPiece) {
      const std::int64_t count = std::min(kPiece, slot.count - begin);
      Adam& adam = floats_[slot.name].emplace_back(values.narrow(0, begin, count));
      steps_.push_back([&adam, G = G.narrow(0, begin, count), unit](double rate) { adam.step(G, rate * unit); });
      resumes_.push_back([&adam](int steps) { adam.took(steps); });
    }
  }

  FlatParameters& flat_;
  std::map<std::string, std::deque<BlockParameters>> blocks_;  // pieces of each matrix
  std::map<std::string, std::deque<Adam>> floats_;             // of each that is trained as floats
  std::vector<std::function<void(double rate)>> steps_;        // of pieces
  std::vector<std::function<void(int steps)>> resumes_;
};

}  // namespace

namespace {

// Everything that decides the result.
nlohmann::json run_identity(const Checkpoint& teacher, const Checkpoint& quantized, const std::vector<Ids>& chunks, const TuneOptions& options) {
  return {{"the original", checkpoint_hash(teacher)}, {"the quantized model", checkpoint_hash(quantized)}, {"the calibration text", chunks_hash(chunks)},
          {"--tune-steps", options.steps},            {"--tune-batch", options.batch},                      {"--tune-rate", options.rate},
          {"--seed", options.seed}};
}

}  // namespace

fs::path tune_folder(const fs::path& folder) { return folder.string() + ".tune"; }

nlohmann::json to_json(const TuneReport& report) {
  return {{"steps", report.steps}, {"tokens", report.tokens}, {"kl_before", report.kl_before},
          {"kl_after", report.kl_after}, {"seconds", report.seconds}};
}

std::uint64_t tune_memory(const ModelConfig& c, std::int64_t length, std::int64_t batch, int threads) {
  constexpr double kProgram = 500e6;  // libraries, tokenizer, pages of the models' files
  constexpr double kHeld = 5.5;       // both models, the gradient, what is trained, and its packed bytes: floats a weight
  constexpr double kLogits = 5;       // logits and what their gradient needs
  const double v = static_cast<double>(c.vocab_size), table = static_cast<double>(c.hidden_size) * v, weights = weights_of(c);
  const double layers = static_cast<double>(c.layers), tokens = static_cast<double>(length), layer = training_pass(c, tokens);
  const double logits = std::min(tokens, static_cast<double>(logit_rows(at::kCPU, c.vocab_size))) * v;
  const double worker = weights + table + layers * layer + kLogits * logits;  // the table once more: its gradient on the way in
  const double workers = static_cast<double>(std::min<std::int64_t>(threads, batch));
  return static_cast<std::uint64_t>(kProgram + sizeof(float) * (kHeld * weights + workers * worker));
}

Checkpoint tune(const Checkpoint& teacher, const Checkpoint& quantized, const std::vector<Ids>& chunks,
                const TuneOptions& options, TuneReport& report) {
  if (chunks.empty()) fail("tune: needs calibration text");
  report = {};
  if (teacher.config.vocab_size != quantized.config.vocab_size || teacher.config.layers != quantized.config.layers)
    fail("tune: the quantized model is not one of ", teacher.path.string());
  const auto start = std::chrono::steady_clock::now();
  const auto length = std::ssize(chunks.front());
  if (length < 2) fail("tune: chunks of ", length, " tokens; they must have at least 2");
  if (teacher.config.max_positions > 0 && length - 1 > teacher.config.max_positions)
    fail("tune: chunks of ", length, " tokens, but the model sees only ", teacher.config.max_positions);
  const OneTorchThread one_thread;
  const auto T = load_decoder(teacher), S = load_decoder(quantized);
  const auto source = shuffled_chunks({chunks.begin(), chunks.end()}, options.seed);
  FlatParameters flat(*S);
  ChunkGradients gradients(*S, *T, flat, options.batch);
  Trained trained(flat, quantized);
  std::vector<std::string> names;
  for (const FlatParameters::Slot& slot : flat.slots()) names.push_back(slot.name);
  std::optional<TuneState> state;
  if (!options.folder.empty())
    state.emplace(options.folder, run_identity(teacher, quantized, chunks, options), options.resume, names, [&](const std::string& name) { return trained.state(name); });

  const Schedule schedule{options.rate, 0.05, std::min(options.warmup, options.steps - 1), options.steps};
  const std::int64_t tenth = std::max<std::int64_t>(1, options.steps / 10), targets = options.batch * (length - 1);
  Progress progress("tune", static_cast<std::size_t>(options.steps * targets), "tokens");
  std::int64_t step = 0;  // how many were taken
  if (const auto before = state ? state->restore() : std::nullopt) {
    step = before->at("step"), report.kl_before = before->at("kl_before"), report.kl_after = before->at("kl_after");
    trained.go_on(static_cast<int>(step));
    progress.skip(static_cast<std::size_t>(step * targets));
  }
  for (std::int64_t i = 0; i < step * options.batch; ++i) source->next();
  const auto save = [&] { state->save({{"step", step}, {"kl_before", report.kl_before}, {"kl_after", report.kl_after}}); };
  try {
    while (step < options.steps) {
      if (state && step > 0 && state->due()) save();
      check_interrupt();
      std::vector<Chunk> batch;
      for (std::int64_t i = 0; i < options.batch; ++i) batch.push_back(source->next());
      const double kl = gradients.compute(batch).divergence.item<double>() / static_cast<double>(targets);
      if (!std::isfinite(kl)) fail("tune: step ", step + 1, ": the loss is not a finite number; lower --tune-rate");
      trained.step(learning_rate(schedule, step));
      if (step < tenth) report.kl_before += kl / static_cast<double>(tenth);
      if (step >= options.steps - tenth) report.kl_after += kl / static_cast<double>(tenth);
      ++step;
      progress.advance(static_cast<std::size_t>(targets), cat("KL ", kl));
    }
  } catch (const Interrupted&) {
    if (state && step > 0) save();
    throw;
  }

  Checkpoint result = quantized;
  for (const FlatParameters::Slot& slot : flat.slots()) {
    const auto place = std::find_if(result.tensors.begin(), result.tensors.end(),
                                    [&](const Tensor& tensor) { return tensor.name == slot.name; });
    *place = trained.result(slot, *place);
  }
  report.steps = options.steps;
  report.tokens = options.steps * targets;
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace attar
