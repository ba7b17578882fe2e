// quantize() on a small random model.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "base/console.h"
#include "base/random.h"
#include "model/tensor.h"
#include "quantize/pipeline.h"
#include "tests/model/models.h"

namespace attar::test {

inline ModelConfig small_config(Family family) {
  ModelConfig config = tiny_config(family, 4, 2, 16);
  config.hidden_size = 64;
  config.intermediate_size = 96;
  return config;
}

inline std::vector<Ids> chunks_of(const ModelConfig& config, std::int64_t count, std::uint64_t seed) {
  Random random(seed);
  std::vector<Ids> chunks(static_cast<std::size_t>(count), Ids(32));
  for (Ids& chunk : chunks)
    for (std::int64_t& id : chunk) id = static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(config.vocab_size)));
  return chunks;
}

inline std::vector<Bytes> all_bytes(const Checkpoint& model) {
  std::vector<Bytes> bytes;
  for (const Tensor& tensor : model.tensors) bytes.push_back(read_packed(tensor).bytes);
  return bytes;
}

class SmallModel : public ::testing::Test {
 protected:
  void SetUp() override {
    set_verbosity(Verbosity::kQuiet);
    make(Family::kLlama);
  }
  void TearDown() override { set_verbosity(Verbosity::kNormal); }

  void make(Family family) {
    const at::NoGradGuard no_grad;
    decoder = tiny_decoder(small_config(family));
    // tiny_decoder's weights are large enough to saturate attention; milder ones leave errors small and comparable.
    for (const std::string& name : decoder->parameter_names())
      if (decoder->parameter(name).dim() == 2) decoder->parameter(name).mul_(0.5);
    model = to_checkpoint(*decoder, {});
    options.plan.preset = &preset_from_name("q4_0");
    options.calibration = chunks_of(model.config, 64, 1);
    options.method = Method::kGptq;
  }

  // Mean squared difference of logits on text that was not calibrated on.
  double damage(const Checkpoint& quantized) {
    const at::NoGradGuard no_grad;
    const auto other = load_decoder(quantized);
    double sum = 0;
    for (const Ids& chunk : chunks_of(model.config, 16, 2)) {
      const at::Tensor ids = tensor_of(chunk).unsqueeze(0);
      sum += (decoder->forward(ids) - other->forward(ids)).square().mean().item<double>();
    }
    return sum;
  }

  std::shared_ptr<Decoder> decoder;
  Checkpoint model;
  QuantizeOptions options;
  QuantizeReport report;
};

}  // namespace attar::test
