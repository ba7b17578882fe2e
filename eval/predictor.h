// A model as evaluation asks it: LibTorch's decoder over float weights, or the one on the kernels over packed ones.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "eval/protocol.h"
#include "model/decoder.h"
#include "model/generate.h"
#include "runtime/runner.h"

namespace attar {

constexpr std::int64_t kLogitsOnCpu = std::int64_t{1} << 23;  // floats asked for at a time

// Not for several threads at once.
class Predictor {
 public:
  virtual ~Predictor() = default;
  virtual const ModelConfig& config() const = 0;
  virtual bool on_gpu() const { return false; }

  // Reads texts, each from its beginning, and keeps the final hidden states of their scored positions. `length`: of the longest text
  // there is; shorter ones may be padded to it at their end, where causal attention does not see it.
  virtual void read(std::span<const Sequence> texts, std::int64_t length) = 0;
  // The same for a question's choices, which begin alike: what they share is read once. prefix: what all questions begin with.
  virtual void read_choices(std::span<const Sequence> choices, const Ids& prefix) = 0;
  // Of the scored positions read last, in their order: (count, vocab) float32, valid until the next call.
  virtual const float* logits(std::int64_t begin, std::int64_t count) = 0;

  virtual Generated write(const Tokenizer& tokenizer, const Ids& prompt, const GenerateOptions& options) = 0;

  // Another over the same weights, for another thread.
  virtual std::unique_ptr<Predictor> for_thread() const = 0;
};

std::unique_ptr<Predictor> predictor(std::shared_ptr<Decoder> decoder);
std::unique_ptr<Predictor> predictor(std::unique_ptr<Runner> runner);
// Over a decoder that outlives it.
std::unique_ptr<Predictor> predictor(Decoder& decoder);

}  // namespace attar
