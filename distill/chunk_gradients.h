// The gradient of a batch whose chunks run side by side, each forward and back on one thread: the same to the bit at any number of threads.
//
// A matrix product that is spread over threads rounds by how many there are. Here a chunk is what is spread: its gradient is computed by
// itself, from nothing, and gradients are added up in the order of the chunks.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "distill/adamw.h"
#include "distill/losses.h"
#include "distill/packing.h"
#include "model/decoder.h"

namespace attar {

class ChunkGradients {
 public:
  // parameters: the student's. All live longer than this, on the CPU; LibTorch is set to one thread (OneTorchThread). Holds a gradient of the
  // whole model for each of thread_count() threads, but not for more than `batch`, the chunks that are asked for at a time.
  ChunkGradients(Decoder& student, Decoder& teacher, FlatParameters& parameters, std::int64_t batch);

  // Sets the parameters' gradients to those of the mean divergence from the teacher over the targets of these chunks. Returns sums. Throws
  // Interrupted.
  LossSums compute(const std::vector<Chunk>& chunks);

 private:
  struct Worker {  // over the shared weights
    std::shared_ptr<Decoder> student, teacher;
    at::Tensor gradients;  // of the parameters' layout
  };
  void add_up(std::int64_t count);

  FlatParameters& parameters_;
  std::vector<Worker> workers_;
};

}  // namespace attar
