// What a text is written by.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "convert/model_config.h"

namespace attar {

// What continues a context of tokens: the decoder on the kernels (runner.h), or LibTorch's in floats (model/generate.h).
class TextModel {
 public:
  virtual ~TextModel() = default;
  virtual const ModelConfig& config() const = 0;
  virtual std::uint64_t weight_bytes() const = 0;  // held in memory
  virtual void clear() = 0;  // an empty context
  // Continues the context by ids: the logits of the last one (vocab,), or with `all` of each (ids, vocab). Throws Error for ids outside
  // the vocabulary, Interrupted at Ctrl-C.
  virtual std::vector<float> feed(std::span<const std::int64_t> ids, bool all = false) = 0;
};

}  // namespace attar
