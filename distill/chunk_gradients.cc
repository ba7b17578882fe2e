#include "distill/chunk_gradients.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "base/console.h"
#include "base/threads.h"
#include "distill/training_pass.h"

namespace attar {

ChunkGradients::ChunkGradients(Decoder& student, Decoder& teacher, FlatParameters& parameters, std::int64_t batch)
    : parameters_(parameters), workers_(static_cast<std::size_t>(std::min<std::int64_t>(thread_count(), batch))) {
  for (Worker& worker : workers_) {
    worker = {share_weights(student), share_weights(teacher), at::empty_like(parameters.gradients())};
    for (const FlatParameters::Slot& slot : parameters.slots()) {
      at::Tensor& parameter = worker.student->parameter(slot.name);
      parameter.set_requires_grad(true);
      parameter.mutable_grad() = parameters.view(worker.gradients, slot);
    }
  }
}

LossSums ChunkGradients::compute(const std::vector<Chunk>& chunks) {
  const double scale = 1.0 / static_cast<double>(targets_of(chunks));
  const auto count = std::ssize(chunks), wave = std::ssize(workers_);
  std::vector<LossSums> sums(chunks.size());
  parameters_.gradients().zero_();
  for (std::int64_t begin = 0; begin < count; begin += wave) {
    const std::int64_t now = std::min(wave, count - begin);
    parallel_for(now, [&](std::int64_t k) {
      check_interrupt();
      at::set_num_threads(1);  // this setting belongs to the thread
      Worker& worker = workers_[static_cast<std::size_t>(k)];
      const auto chunk = static_cast<std::size_t>(begin + k);
      worker.gradients.zero_();
      const Batch batch = make_batch({chunks[chunk]}, at::kCPU);
      const Packed packed(batch, {worker.student.get(), worker.teacher.get()});
      const auto teacher = [&] {
        const at::NoGradGuard no_grad;
        return teacher_of(*worker.teacher, worker.teacher->hidden_states(batch.ids));
      }();
      Backbone backbone(*worker.student, /*checkpoints=*/false);
      sums[chunk] = training_pass(*worker.student, backbone, batch, teacher, {}, scale);
    });
    add_up(now);
  }
  LossSums total = zero_sums(at::device(at::kCPU));
  for (const LossSums& one : sums) total += one;
  return total;
}

// Piece by piece, so that a piece of the sum stays in the cache while the workers' are added to it.
void ChunkGradients::add_up(std::int64_t count) {
  constexpr std::int64_t kPiece = std::int64_t{1} << 16;  // floats
  const std::int64_t total = parameters_.gradients().numel();
  parallel_for((total + kPiece - 1) / kPiece, [&](std::int64_t i) {
    const std::int64_t begin = i * kPiece, length = std::min(kPiece, total - begin);
    at::Tensor sum = parameters_.gradients().narrow(0, begin, length);
    for (std::int64_t k = 0; k < count; ++k) sum.add_(workers_[static_cast<std::size_t>(k)].gradients.narrow(0, begin, length));
  });
}

}  // namespace attar
