#include "distill/chunk_gradients.h"

#include <gtest/gtest.h>

#include "base/threads.h"
#include "distill/trainer.h"
#include "tests/distill/tiny.h"

namespace attar {
namespace {

// The trainer takes the batch as one: up to rounding the gradient is the same, whatever the threads; and between them to the bit.
TEST(ChunkGradients, AreThoseOfTheWholeBatch) {
  constexpr std::int64_t kBatch = 5, kContext = 12;
  const int before = thread_count();
  const auto chunks = test::tiny_chunks(kBatch, kContext + 1, 3);
  const auto teacher = test::tiny_decoder(1), whole = test::tiny_decoder(2);
  for (at::Tensor& parameter : teacher->parameters()) parameter.set_requires_grad(false);
  const auto source = shuffled_chunks(chunks, 0);
  TrainerOptions options;
  options.batch = kBatch, options.context = kContext, options.schedule.warmup = 0;
  Trainer trainer(*whole, teacher.get(), *source, options);
  trainer.parameters().gradients().zero_();
  const double expected = trainer.accumulate(chunks, kBatch * kContext).divergence.item<double>();
  at::Tensor first;
  for (const int threads : {1, 2, 3, 8}) {
    set_thread_count(threads);
    const OneTorchThread one_thread;
    const auto student = test::tiny_decoder(2);
    FlatParameters parameters(*student);
    ChunkGradients gradients(*student, *teacher, parameters, kBatch);
    parameters.gradients().fill_(1);  // is not added to
    for (int again = 0; again < 2; ++again) {
      const double divergence = gradients.compute(chunks).divergence.item<double>();
      EXPECT_NEAR(divergence, expected, 1e-6 * expected);
      const at::Tensor difference = parameters.gradients() - trainer.parameters().gradients();
      EXPECT_LT(difference.norm().item<double>(), 1e-5 * trainer.parameters().gradients().norm().item<double>());
      if (!first.defined()) first = parameters.gradients().clone();
      EXPECT_TRUE(first.equal(parameters.gradients())) << threads << " threads";
    }
  }
  set_thread_count(before);
}

// What the optimizer writes into the student's weights is what the next gradients are of.
TEST(ChunkGradients, FollowTheStudent) {
  const OneTorchThread one_thread;
  const auto chunks = test::tiny_chunks(4, 9, 3);
  const auto teacher = test::tiny_decoder(1), student = test::tiny_decoder(2);
  FlatParameters parameters(*student);
  ChunkGradients gradients(*student, *teacher, parameters, 4);
  double last = gradients.compute(chunks).divergence.item<double>();
  for (int step = 0; step < 5; ++step) {
    const at::NoGradGuard no_grad;
    parameters.values().add_(parameters.gradients(), -0.5);
    const at::AutoGradMode with_grad(true);
    const double now = gradients.compute(chunks).divergence.item<double>();
    EXPECT_LT(now, last);
    last = now;
  }
}

}  // namespace
}  // namespace attar
