#include "distill/gradient_sum.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <thread>
#include <tuple>

#include "base/error.h"
#include "distill/trainer.h"
#include "tests/cli/free_port.h"
#include "tests/distill/tiny.h"
#include "tests/support.h"

namespace attar {
namespace {

constexpr std::int64_t kContext = 16;

TrainerOptions options_for(std::int64_t bucket) {
  TrainerOptions options;
  options.steps = 20;
  options.batch = 8;
  options.micro_batch = 3;
  options.context = kContext;
  options.schedule.peak = 2e-3;
  options.schedule.warmup = 5;
  options.clip = 0;
  options.bucket = bucket;
  return options;
}

std::unique_ptr<ChunkSource> tiny_data() { return shuffled_chunks(test::tiny_chunks(200, kContext + 1, 1), 5); }

// The first of two processes, the other of which adds nothing: remembers what goes out, and how far the gradients were then.
class Recorder : public ProcessGroup {
 public:
  Recorder() : ProcessGroup(0, 2) {}
  std::function<void()> start_sum(const at::Tensor& values) override {
    if (!gradients.defined() || values.storage().data() != gradients.storage().data()) return [] {};
    messages.push_back({values.storage_offset(), values.clone(), gradients.clone()});
    return [this] { ++waited; };
  }
  void broadcast(at::Tensor&, std::int64_t) override {}

  struct Message {
    std::int64_t begin;
    at::Tensor values, all;
  };
  at::Tensor gradients;
  std::vector<Message> messages;
  std::size_t waited = 0;
};

struct Case {
  bool tied, checkpoints;
  double match;
};
class GradientSums : public ::testing::TestWithParam<Case> {};

TEST_P(GradientSums, GoOutWhileTheRestIsComputed) {
  const auto [tied, checkpoints, match] = GetParam();
  auto json = test::tiny_json();
  json["tie_word_embeddings"] = tied;
  const auto teacher = test::tiny_decoder(1);
  auto narrow = json;
  narrow["hidden_size"] = match > 0 ? 24 : 32;
  const auto student = test::tiny_decoder(2, narrow);
  const auto data = tiny_data();
  TrainerOptions options = options_for(1000);
  options.checkpoint_activations = checkpoints;
  options.match.hidden = match;
  Recorder group;
  Trainer trainer(*student, teacher.get(), *data, options, nullptr, &group);
  FlatParameters& parameters = trainer.parameters();
  group.gradients = parameters.gradients();
  trainer.step();

  const auto& messages = group.messages;
  const std::int64_t matrices = parameters.decayed(), total = group.gradients.numel();
  EXPECT_EQ(group.waited, messages.size());
  EXPECT_EQ(std::ssize(messages), (matrices + 999) / 1000 + (total - matrices + 999) / 1000);
  // From the last matrix to the first, then the vectors: everything once, and final when it goes.
  std::int64_t end = matrices, of_layers = 0;
  for (const auto& [begin, values, all] : messages) {
    if (end == 0) end = total;
    const bool vectors = begin >= matrices;
    if (!vectors) {
      EXPECT_EQ(begin + values.numel(), end);
      end = begin;
    }
    EXPECT_TRUE(at::equal(values, group.gradients.narrow(0, begin, values.numel()))) << begin;
    if (!at::equal(all, group.gradients)) ++of_layers;
  }
  std::int64_t layers = 0;  // elements of all layers' matrices but the first one's
  for (const auto& slot : parameters.slots())
    if (slot.offset < matrices && (slot.name.starts_with("model.layers.1.") || slot.name.starts_with("model.layers.2."))) layers += slot.count;
  EXPECT_GE(of_layers, layers / 1000);
  if (!tied) {  // the output projection goes before the last layer has its gradients
    const auto& slots = parameters.slots();
    const auto last = std::find_if(slots.begin(), slots.end(), [](const auto& slot) { return slot.name == "model.layers.2.mlp.down_proj.weight"; });
    EXPECT_FALSE(at::equal(parameters.view(messages.front().all, *last), parameters.view(group.gradients, *last)));
  }
}

INSTANTIATE_TEST_SUITE_P(All, GradientSums,
                         ::testing::Values(Case{true, false, 0}, Case{false, false, 0}, Case{true, true, 0}, Case{false, true, 1.0}));

// Processes as threads, with real messages between them.
class Ranks : public ::testing::TestWithParam<std::tuple<int, std::int64_t>> {};

TEST_P(Ranks, TrainAsOne) {
  const int size = std::get<0>(GetParam());
  const std::int64_t bucket = std::get<1>(GetParam());
  const auto train = [bucket](ProcessGroup* group) {
    const auto teacher = test::tiny_decoder(1), student = test::tiny_decoder(2);
    const auto data = tiny_data();
    for (auto& parameter : teacher->parameters()) {
      const at::NoGradGuard no_grad;
      if (parameter.dim() >= 2) parameter.mul_(6.0);  // a loss that is no small difference
      parameter.set_requires_grad(false);
    }
    Trainer trainer(*student, teacher.get(), *data, options_for(bucket), nullptr, group);
    std::vector<StepReport> reports;
    while (trainer.done() < 20) reports.push_back(trainer.step());
    return std::pair(reports, trainer.parameters().values().detach().clone());
  };
  const auto alone = train(nullptr);
  std::vector<decltype(train(nullptr))> results(static_cast<std::size_t>(size));
  std::vector<std::string> errors(results.size());
  const int port = test::free_port();
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < size; ++rank)
      threads.emplace_back([&, rank] {
        const auto place = static_cast<std::size_t>(rank);
        errors[place] = test::error_of([&] {
          const auto group = join_process_group({rank, size, 0, "127.0.0.1", port}, at::kCPU);
          results[place] = train(group.get());
          group->wait_for_all();
        });
      });
  }
  if (errors[0].find("made without LibTorch's collectives") != std::string::npos) GTEST_SKIP() << errors[0];
  for (std::size_t rank = 0; rank < results.size(); ++rank) {
    ASSERT_EQ(errors[rank], "no error");
    EXPECT_TRUE(at::equal(results[rank].second, results[0].second)) << rank;
    for (std::size_t i = 0; i < 20; ++i) {
      EXPECT_NEAR(results[rank].first[i].loss, alone.first[i].loss, 1e-5 * alone.first[i].loss) << i;
      EXPECT_NEAR(results[rank].first[i].gradient_norm, alone.first[i].gradient_norm, 1e-5 * alone.first[i].gradient_norm) << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, Ranks, ::testing::Combine(::testing::Values(2, 4), ::testing::Values(std::int64_t{777}, std::int64_t{1} << 22)));

}  // namespace
}  // namespace attar
