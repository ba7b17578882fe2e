#include "distill/tune.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <optional>

#include "base/console.h"
#include "base/error.h"
#include "base/half.h"
#include "base/threads.h"
#include "distill/trainer.h"
#include "kernels_ref/types.h"
#include "quantize/rtn.h"

namespace attar {
namespace {

// Adam without decay over a tensor of any shape.
class Adam {
 public:
  explicit Adam(at::Tensor values) : values_(std::move(values)), m_(at::zeros_like(values_)), v_(at::zeros_like(values_)) {}
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

// The scales of a matrix in a block format: w = d s + dmin o, with s = sc * level(code) and o = -m fixed.
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

  // gradient: of the loss with respect to the decoded matrix. Writes the new matrix into W.
  void step(const at::Tensor& gradient, double rate, at::Tensor W) {
    const at::Tensor g = gradient.view({-1, width_});
    const at::Tensor of_c = affine_ ? (g * offset_).sum(1, true) : at::Tensor();
    at::Tensor of_d = (g * scaled_).sum(1, true);
    if (affine_) of_d.addcmul_(k_, of_c, -1);
    adam_d_->step(of_d * d_unit_, rate);
    d_ = to_half(theta_d_ * d_unit_);
    at::Tensor values = d_ * scaled_;
    if (affine_) {
      adam_c_->step(of_c * c_unit_, rate);
      dmin_ = to_half(theta_c_ * c_unit_ - k_ * d_);
      values.addcmul_(dmin_, offset_);
    }
    W.copy_(values.view(W.sizes()));
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

// A norm, a bias, or a matrix of so many bits that it is as good as continuous.
struct Free {
  at::Tensor values;
  Adam adam;
  double unit;  // what the rate is relative to
};

}  // namespace

nlohmann::json to_json(const TuneReport& report) {
  return {{"steps", report.steps}, {"tokens", report.tokens}, {"kl_before", report.kl_before},
          {"kl_after", report.kl_after}, {"seconds", report.seconds}};
}

Checkpoint tune(const Checkpoint& teacher, const Checkpoint& quantized, const std::vector<Ids>& chunks,
                const TuneOptions& options, TuneReport& report) {
  if (chunks.empty()) fail("tune: needs calibration text");
  report = {};
  if (teacher.config.vocab_size != quantized.config.vocab_size || teacher.config.layers != quantized.config.layers)
    fail("tune: the quantized model is not one of ", teacher.path.string());
  const auto start = std::chrono::steady_clock::now();
  const auto T = load_decoder(teacher), S = load_decoder(quantized);
  for (auto& parameter : T->parameters()) parameter.set_requires_grad(false);
  const auto source = shuffled_chunks({chunks.begin(), chunks.end()}, options.seed);
  TrainerOptions trainer_options;
  trainer_options.steps = options.steps;
  trainer_options.batch = options.batch;
  trainer_options.context = static_cast<std::int64_t>(chunks.front().size()) - 1;
  Trainer trainer(*S, T.get(), *source, trainer_options);
  FlatParameters& flat = trainer.parameters();

  std::map<std::string, BlockParameters> blocks;
  std::map<std::string, Free> matrices, vectors;
  for (const FlatParameters::Slot& slot : flat.slots()) {
    const Tensor& tensor = quantized.at(slot.name);
    const TypeInfo& type = info(tensor.type);
    const at::Tensor values = flat.view(flat.values(), slot);
    if (type.quantized && type.grid.group == 0)
      fail("tune: ", slot.name, " is ", type.name, ", which can only be decoded");
    if (type.quantized && type.grid.levels < 256)
      blocks.try_emplace(slot.name, read_packed(tensor));
    else if (values.dim() >= 2)
      matrices.try_emplace(slot.name, Free{values, Adam(values), 1.0});
    else
      vectors.try_emplace(slot.name, Free{values, Adam(values), std::max(1e-3, values.square().mean().sqrt().item<double>())});
  }

  const Schedule schedule{options.rate, 0.05, std::min(options.warmup, options.steps - 1), options.steps};
  const std::int64_t tenth = std::max<std::int64_t>(1, options.steps / 10), targets = trainer.step_tokens();
  Progress progress("tune", static_cast<std::size_t>(options.steps * targets), "tokens");
  for (std::int64_t step = 0; step < options.steps; ++step) {
    check_interrupt();
    flat.gradients().zero_();
    std::vector<Chunk> batch;
    for (std::int64_t i = 0; i < options.batch; ++i) batch.push_back(source->next());
    const LossSums sums = trainer.accumulate(batch, targets);
    const double kl = sums.divergence.item<double>() / static_cast<double>(targets);
    if (!std::isfinite(kl)) fail("tune: step ", step + 1, ": the loss is not a finite number; lower --tune-rate");
    if (step < tenth) report.kl_before += kl / static_cast<double>(tenth);
    if (step >= options.steps - tenth) report.kl_after += kl / static_cast<double>(tenth);
    const at::NoGradGuard no_grad;
    const double rate = learning_rate(schedule, step);
    for (const FlatParameters::Slot& slot : flat.slots()) {
      const at::Tensor gradient = flat.view(flat.gradients(), slot);
      if (const auto found = blocks.find(slot.name); found != blocks.end())
        found->second.step(gradient, rate, flat.view(flat.values(), slot));
      else if (const auto matrix = matrices.find(slot.name); matrix != matrices.end())
        matrix->second.adam.step(gradient, 0.02 * rate);
      else
        vectors.at(slot.name).adam.step(gradient, rate * vectors.at(slot.name).unit);
    }
    progress.advance(static_cast<std::size_t>(targets), cat("KL ", kl));
  }

  Checkpoint result = quantized;
  for (const FlatParameters::Slot& slot : flat.slots()) {
    const at::NoGradGuard no_grad;
    const auto place = std::find_if(result.tensors.begin(), result.tensors.end(),
                                    [&](const Tensor& tensor) { return tensor.name == slot.name; });
    if (const auto found = blocks.find(slot.name); found != blocks.end()) {
      *place = make_tensor(slot.name, found->second.packed());
      continue;
    }
    const at::Tensor values = flat.view(flat.values(), slot).contiguous();
    std::vector<float> copy(values.data_ptr<float>(), values.data_ptr<float>() + values.numel());
    if (values.dim() >= 2 && place->type != Type::kF32) {
      QuantizedTensor Q = rtn(place->type, copy, values.size(0), values.size(1), {}, slot.name);
      *place = make_tensor(slot.name, std::move(Q));
    } else {
      *place = make_tensor(slot.name, place->shape, std::move(copy));
    }
  }
  report.steps = options.steps;
  report.tokens = options.steps * targets;
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace attar
