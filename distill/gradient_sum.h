// The gradients of all processes are added up while the rest of them is still being computed.
//
// S. Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel Training", 2020, https://arxiv.org/abs/2006.15704,
// section 3.2.3. The way back goes from the last layer to the first, and so do the matrices in the flat buffer from its end: what is
// final is always one piece that grows towards the beginning. It goes out in buckets, in the same order everywhere whatever is ready
// when. There a hook at every parameter counts what a bucket still waits for; a decoder that goes back layer by layer needs none, and
// a parameter without a gradient holds nothing up.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "distill/adamw.h"
#include "distill/process_group.h"

namespace attar {

class GradientSum {
 public:
  // bucket: elements of a message. Both others live longer than this.
  GradientSum(ProcessGroup& group, FlatParameters& parameters, std::int64_t bucket);

  // Layer `index` and all behind it have their gradients; index config().layers: what stands behind the last layer has them.
  void layer_done(std::int64_t index);
  void finish();  // all have: sends the rest, and waits until everything is added up

 private:
  void send(std::int64_t begin, std::int64_t end);
  void send_down_to(std::int64_t begin);  // whole buckets only, unless it is the beginning

  ProcessGroup& group_;
  at::Tensor gradients_;
  std::int64_t bucket_, matrices_, unsent_;  // matrices [unsent_, matrices_) are on their way
  std::vector<std::int64_t> layer_begins_;   // of each layer's matrices, and of those behind the last
  std::vector<std::function<void()>> waits_;
};

}  // namespace attar
