#include "distill/adamw.h"

#include <algorithm>
#include <cmath>

namespace attar {
namespace {

constexpr std::int64_t kAlign = 16;                        // floats: every parameter begins at a cache line
constexpr std::int64_t kBlockOnCpu = std::int64_t{1} << 17;  // floats: the update's passes stay in the cache

}  // namespace

FlatParameters::FlatParameters(Decoder& decoder, const NamedTensors& beside) {
  NamedTensors all = beside;
  for (const auto& name : decoder.parameter_names()) all.emplace_back(name, decoder.parameter(name));
  std::vector<at::Tensor> in_order;
  std::int64_t total = 0;
  for (const bool matrices : {true, false}) {
    for (const auto& [name, parameter] : all) {
      if ((parameter.dim() >= 2) != matrices) continue;
      slots_.push_back({name, total, parameter.sizes().vec(), parameter.numel()});
      in_order.push_back(parameter);
      total += (parameter.numel() + kAlign - 1) / kAlign * kAlign;
    }
    if (matrices) decayed_ = total;
  }
  const at::NoGradGuard no_grad;
  const auto options = all.back().second.options().dtype(at::kFloat).requires_grad(false);
  values_ = at::zeros({total}, options);
  gradients_ = at::zeros({total}, options);
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    at::Tensor& parameter = in_order[i];  // shares what it is with the owner's
    at::Tensor place = view(values_, slot);
    place.copy_(parameter.detach());
    parameter.set_data(place);
    parameter.set_requires_grad(true);
    parameter.mutable_grad() = view(gradients_, slot);
  }
}

at::Tensor FlatParameters::view(const at::Tensor& flat, const Slot& slot) const {
  return flat.narrow(0, slot.offset, slot.count).view(slot.shape);
}

AdamW::AdamW(FlatParameters& parameters, const AdamWOptions& options)
    : AdamW(parameters, options, 0, parameters.values().numel()) {}

AdamW::AdamW(FlatParameters& parameters, const AdamWOptions& options, std::int64_t begin, std::int64_t end)
    : m(at::zeros({end - begin}, parameters.values().options())), v(at::zeros_like(m)), parameters_(parameters),
      options_(options), begin_(begin), end_(end) {}

void AdamW::step(double learning_rate, double gradient_scale) {
  const at::NoGradGuard no_grad;
  ++steps;
  const std::int64_t decayed = std::clamp(parameters_.decayed(), begin_, end_);
  const std::int64_t block = parameters_.values().is_cpu() ? kBlockOnCpu : std::max<std::int64_t>(1, end_ - begin_);
  for (std::int64_t begin = begin_; begin < decayed; begin += block)
    update(begin, std::min(begin + block, decayed), options_.weight_decay, learning_rate, gradient_scale);
  for (std::int64_t begin = decayed; begin < end_; begin += block)
    update(begin, std::min(begin + block, end_), 0.0, learning_rate, gradient_scale);
}

void AdamW::update(std::int64_t begin, std::int64_t end, double weight_decay, double alpha, double gradient_scale) {
  const auto part = [&](const at::Tensor& flat) { return flat.narrow(0, begin, end - begin); };
  const auto count = static_cast<double>(steps);
  const double correction1 = 1 - std::pow(options_.beta1, count), correction2 = 1 - std::pow(options_.beta2, count);
  const auto moment = [&](const at::Tensor& own) { return own.narrow(0, begin - begin_, end - begin); };
  at::Tensor theta = part(parameters_.values()), g = part(parameters_.gradients()), m_t = moment(m), v_t = moment(v);
  if (gradient_scale != 1.0) g.mul_(gradient_scale);
  if (weight_decay != 0.0) theta.mul_(1 - alpha * weight_decay);
  m_t.lerp_(g, 1 - options_.beta1);                                         // line 7
  v_t.mul_(options_.beta2).addcmul_(g, g, 1 - options_.beta2);              // line 8
  const at::Tensor denominator = v_t.sqrt().div_(std::sqrt(correction2)).add_(options_.epsilon);
  theta.addcdiv_(m_t, denominator, -alpha / correction1);                   // line 12
}

}  // namespace attar
