// Decoders for work on all cores, one for each thread at a time: a decoder keeps tables of its own while it runs. They hold no
// weights but those they are lent.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "model/decoder.h"

namespace attar {

class DecoderPool {
 public:
  using Weights = std::map<std::string, at::Tensor>;

  explicit DecoderPool(const ModelConfig& config) : config_(config) {}

  void with(const Weights& weights, const std::function<void(Decoder&)>& work) {
    std::unique_ptr<Decoder> decoder = take();
    for (const auto& [name, value] : weights) decoder->parameter(name).set_data(value);
    work(*decoder);
    for (const auto& [name, value] : weights) decoder->parameter(name).set_data(at::empty({0}));
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(decoder));
  }

 private:
  std::unique_ptr<Decoder> take() {
    {
      const std::lock_guard lock(mutex_);
      if (!idle_.empty()) {
        std::unique_ptr<Decoder> decoder = std::move(idle_.back());
        idle_.pop_back();
        return decoder;
      }
    }
    auto decoder = std::make_unique<Decoder>(config_);
    for (const std::string& name : decoder->parameter_names()) {
      decoder->parameter(name).set_data(at::empty({0}));
      decoder->parameter(name).set_requires_grad(false);
    }
    return decoder;
  }

  const ModelConfig& config_;
  std::vector<std::unique_ptr<Decoder>> idle_;
  std::mutex mutex_;
};

}  // namespace attar
