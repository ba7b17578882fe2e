// Chunks as the models take them.
#pragma once

#include <ATen/ATen.h>

#include <initializer_list>
#include <vector>

#include "distill/packing.h"
#include "model/decoder.h"

namespace attar {

struct Batch {
  at::Tensor ids, targets;  // (batch, time), (batch * time); a target that does not count is kIgnoredTarget
  Packing packing;
  bool packed = false;      // some chunk holds several texts
};

// chunks: of one length, one token longer than what the models see. Throws Error if they are not.
Batch make_batch(const std::vector<Chunk>& chunks, const at::Device& device);

std::int64_t targets_of(const std::vector<Chunk>& chunks);

// Tells models how a batch is packed for as long as it lives. A model may be null.
class Packed {
 public:
  Packed(const Batch& batch, std::initializer_list<Decoder*> models);
  ~Packed();
  Packed(const Packed&) = delete;
  Packed& operator=(const Packed&) = delete;

 private:
  std::vector<Decoder*> models_;
};

}  // namespace attar
