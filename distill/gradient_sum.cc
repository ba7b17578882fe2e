#include "distill/gradient_sum.h"

#include <algorithm>

#include "base/error.h"

namespace attar {
namespace {

// Where the matrices of each layer begin: they stand one layer behind the other, and the output projection behind them.
std::vector<std::int64_t> begins_of_layers(const FlatParameters& parameters) {
  std::vector<std::int64_t> begins;
  for (const auto& slot : parameters.slots()) {
    if (slot.offset >= parameters.decayed()) break;
    if (slot.name.starts_with(cat("model.layers.", begins.size(), "."))) begins.push_back(slot.offset);
    if (slot.name == "lm_head.weight") begins.push_back(slot.offset);
  }
  begins.push_back(parameters.decayed());
  return begins;
}

}  // namespace

GradientSum::GradientSum(ProcessGroup& group, FlatParameters& parameters, std::int64_t bucket)
    : group_(group), gradients_(parameters.gradients()), bucket_(bucket), matrices_(parameters.decayed()), unsent_(matrices_),
      layer_begins_(begins_of_layers(parameters)) {}

void GradientSum::layer_done(std::int64_t index) { send_down_to(layer_begins_.at(static_cast<std::size_t>(index))); }

void GradientSum::finish() {
  send_down_to(0);
  for (std::int64_t begin = matrices_; begin < gradients_.numel(); begin += bucket_)
    send(begin, std::min(begin + bucket_, gradients_.numel()));
  for (const auto& wait : waits_) wait();
  waits_.clear();
}

void GradientSum::send_down_to(std::int64_t begin) {
  for (; unsent_ - bucket_ >= begin; unsent_ -= bucket_) send(unsent_ - bucket_, unsent_);
  if (begin > 0 || unsent_ == 0) return;
  send(0, unsent_);
  unsent_ = 0;
}

void GradientSum::send(std::int64_t begin, std::int64_t end) {
  waits_.push_back(group_.start_sum(gradients_.narrow(0, begin, end - begin)));
}

}  // namespace attar
