#include "distill/matching.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/error.h"
#include "distill/trainer.h"
#include "tests/distill/tiny.h"
#include "tests/support.h"

namespace attar {
namespace {

constexpr std::int64_t kContext = 16;

// Two layers of two heads and another width, under a teacher of three layers and four heads.
nlohmann::json small_json() {
  auto json = test::tiny_json();
  json.update({{"num_hidden_layers", 2}, {"hidden_size", 24}, {"num_attention_heads", 2}, {"num_key_value_heads", 1}});
  return json;
}

std::shared_ptr<Decoder> tiny_teacher() {
  const auto teacher = test::tiny_decoder(1);
  for (auto& parameter : teacher->parameters()) {
    const at::NoGradGuard no_grad;
    if (parameter.dim() >= 2) parameter.mul_(6.0);  // opinions
    parameter.set_requires_grad(false);
  }
  return teacher;
}

// Some of several texts, some with tokens that are not learnt.
std::vector<Chunk> packed_chunks(std::int64_t count) {
  std::vector<Chunk> chunks = test::tiny_chunks(count, kContext + 1, 3);
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    if (i % 2 == 0) chunks[i].starts = {0, 5, 11};
    if (i % 3 == 0) chunks[i].learn.assign(kContext + 1, 1), chunks[i].learn[4] = chunks[i].learn[12] = 0;
  }
  return chunks;
}

TrainerOptions options_for(const std::string& map, double hidden, double attention) {
  TrainerOptions options;
  options.steps = 12;
  options.batch = 6;
  options.context = kContext;
  options.schedule.peak = 1e-2;
  options.match.hidden = hidden;
  options.match.attention = attention;
  options.match.map = parse_layer_map(map);
  return options;
}

// The same as a chain of LibTorch's own operations. states: by layer.
at::Tensor by_autograd(const MatchOptions& o, const Matching& matching, const std::vector<LayerStates>& student,
                       const std::vector<LayerStates>& teacher, const at::Tensor& W, const std::vector<at::Tensor>& weights,
                       std::int64_t heads, const Batch& batch) {
  const at::Tensor counts = batch.targets.ne(kIgnoredTarget);
  const auto relations = [&](const at::Tensor& X) {
    const at::Tensor cut = X.view({X.size(0), X.size(1), heads, -1}).transpose(1, 2);
    const at::Tensor scores = at::matmul(cut, cut.transpose(2, 3)) / std::sqrt(static_cast<double>(cut.size(3)));
    const at::Tensor &document = batch.packing.document, others = document.unsqueeze(2).ne(document.unsqueeze(1)).unsqueeze(1);
    return at::log_softmax(scores.masked_fill(others.logical_or(at::ones({X.size(1), X.size(1)}, at::kBool).triu(1)), -1e9), -1);
  };
  at::Tensor total = at::zeros({});
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const LayerStates &s = student[static_cast<std::size_t>(matching.pairs()[i].first)],
                      &t = teacher[static_cast<std::size_t>(matching.pairs()[i].second)];
    const at::Tensor a = at::matmul(s.hidden.flatten(0, 1), W), b = t.hidden.flatten(0, 1);
    const at::Tensor D_hidden = o.measure == HiddenMeasure::kMse ? (a - b).square().mean(-1)
                                                                 : 1 - (a * b).sum(-1) / (a.norm(2, -1) * b.norm(2, -1));
    at::Tensor D_attention = at::zeros({});
    for (const auto part : {&LayerStates::q, &LayerStates::k, &LayerStates::v}) {
      const at::Tensor R_T = relations(t.*part), R_S = relations(s.*part);
      D_attention = D_attention + ((R_T.exp() * (R_T - R_S)).sum(-1).mean(1).flatten() * counts).sum() / 3;
    }
    total = total + weights[i] * (o.hidden * (D_hidden * counts).sum() + o.attention * D_attention);
  }
  return total;
}

std::vector<LayerStates> all_layers(Decoder& decoder, const Batch& batch) {
  std::vector<LayerStates> states;
  const Packed packed(batch, {&decoder});
  at::Tensor x = decoder.embed(batch.ids);
  for (std::int64_t i = 0; i < decoder.config().layers; ++i) states.push_back(run_layer(decoder, i, x, true)), x = states.back().hidden;
  return states;
}

struct Case {
  const char* map;
  HiddenMeasure measure;
  double hidden, attention;
};
class MatchingGradients : public ::testing::TestWithParam<Case> {};

TEST_P(MatchingGradients, AreThoseOfAutograd) {
  const auto [map, measure, hidden, attention] = GetParam();
  const auto teacher = tiny_teacher();
  const std::vector<Chunk> chunks = packed_chunks(6);
  const Batch batch = make_batch(chunks, at::kCPU);
  const auto data = shuffled_chunks(chunks, 1);
  const std::int64_t targets = targets_of(chunks);
  std::vector<at::Tensor> of_the_loss, matched, checkpointed;
  std::vector<std::string> names;
  at::Tensor W = at::eye(32), theta, W_gradient, theta_gradient;
  std::vector<LayerPair> pairs;
  LossSums sums;
  for (const int run : {0, 1, 2}) {  // without matching, with it, and with layers computed again
    const auto student = test::tiny_decoder(2, small_json());
    TrainerOptions options = options_for(map, hidden, attention);
    options.match.measure = measure;
    options.checkpoint_activations = run == 2;
    if (run == 0) options.match = {};
    Trainer trainer(*student, teacher.get(), *data, options);
    if (run > 0 && map == std::string("learned")) {  // not all alike
      const at::NoGradGuard no_grad;
      trainer.matching()->parameters().back().second.copy_(at::randn({6}, at::detail::createCPUGenerator(5)) * 0.01);
    }
    trainer.parameters().gradients().zero_();
    sums = trainer.accumulate(chunks, targets);
    auto& gradients = run == 0 ? of_the_loss : run == 1 ? matched : checkpointed;
    for (const auto& parameter : student->parameters()) gradients.push_back(parameter.grad().clone());
    if (run != 1) {
      if (run == 2) {
        for (std::size_t i = 0; i < matched.size(); ++i) EXPECT_TRUE(at::equal(matched[i], checkpointed[i])) << i;
      }
      continue;
    }
    const Matching& matching = *trainer.matching();
    for (const auto& [name, parameter] : matching.parameters()) (name == "matching.map" ? theta : W) = parameter;
    if (hidden == 0) W = at::ones({24, 32});
    std::vector<at::Tensor> weights;
    if (theta.defined()) {
      const at::Tensor w = (at::softmax(theta.view({2, 3}) * 100, -1) / 2).flatten();
      for (std::int64_t i = 0; i < w.numel(); ++i) weights.push_back(w[i]);
    } else {
      for (const double w : matching.weights()) weights.push_back(at::full({}, w));
    }
    const at::Tensor before = trainer.parameters().gradients().clone();
    trainer.parameters().gradients().zero_();
    const at::Tensor total = by_autograd(options.match, matching, all_layers(*student, batch), all_layers(*teacher, batch), W, weights, 4, batch);
    (total / static_cast<double>(targets)).backward();
    const auto expect_near = [](const at::Tensor& a, const at::Tensor& b, const std::string& name) {
      EXPECT_LT((a - b).norm().item<double>(), 1e-4 * b.norm().item<double>() + 1e-9) << name;
    };
    std::size_t i = 0;
    for (const auto& name : student->parameter_names()) {
      expect_near(matched[i] - of_the_loss[i], student->parameter(name).grad(), name);
      ++i;
    }
    for (const auto& slot : trainer.parameters().slots()) {
      if (!slot.name.starts_with("matching.")) continue;
      const at::Tensor expected = trainer.parameters().view(trainer.parameters().gradients(), slot);
      expect_near(trainer.parameters().view(before, slot), expected, slot.name);
      EXPECT_GT(expected.norm().item<double>(), 0) << slot.name;
    }
    EXPECT_NEAR(hidden * sums.hidden.item<double>() + attention * sums.attention.item<double>(), total.item<double>(),
                1e-4 * total.item<double>());
    EXPECT_NEAR(sums.total.item<double>(), sums.divergence.item<double>() + total.item<double>(), 1e-4 * total.item<double>());
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, MatchingGradients,
    ::testing::Values(Case{"uniform", HiddenMeasure::kCosine, 0.5, 2.0}, Case{"uniform", HiddenMeasure::kMse, 0.3, 0},
                      Case{"last", HiddenMeasure::kCosine, 0, 1.0}, Case{"0:2,1:0", HiddenMeasure::kMse, 1.0, 0.1},
                      Case{"learned", HiddenMeasure::kCosine, 0.5, 2.0}));

// Every part of the loss comes down, and what was trained along is no part of the student.
TEST(Matching, BringsTheLayersTogether) {
  const auto teacher = tiny_teacher(), student = test::tiny_decoder(2, small_json());
  const auto data = shuffled_chunks(packed_chunks(40), 5);
  TrainerOptions options = options_for("learned", 1.0, 1.0);
  options.steps = 60;
  Trainer trainer(*student, teacher.get(), *data, options);
  const StepReport first = trainer.step();
  StepReport last;
  while (trainer.done() < 60) last = trainer.step();
  EXPECT_LT(last.hidden, 0.7 * first.hidden);
  EXPECT_LT(last.attention, 0.8 * first.attention);
  EXPECT_LT(last.divergence, first.divergence);
  EXPECT_NEAR(last.loss, last.divergence + last.hidden + last.attention, 1e-9);
  double sum = 0;
  for (const double weight : trainer.matching()->weights()) sum += weight;
  EXPECT_NEAR(sum, 1, 1e-9);
  const Checkpoint written = to_checkpoint(*student, {});
  EXPECT_EQ(written.tensors.size(), student->parameter_names().size());
}

TEST(Matching, MicroBatchesGiveTheGradientOfTheWholeBatch) {
  const auto teacher = tiny_teacher();
  std::vector<at::Tensor> gradients;
  for (const std::int64_t micro : {0, 4}) {
    const auto student = test::tiny_decoder(2, small_json());
    const auto data = shuffled_chunks(packed_chunks(40), 5);
    TrainerOptions options = options_for("learned", 1.0, 1.0);
    options.micro_batch = micro;
    Trainer trainer(*student, teacher.get(), *data, options);
    trainer.step();
    gradients.push_back(trainer.parameters().gradients().clone());
  }
  EXPECT_LT((gradients[0] - gradients[1]).norm().item<float>(), 1e-5f * gradients[0].norm().item<float>());
}

TEST(Matching, ResumesExactly) {
  const test::TempFolder folder;
  const auto teacher = tiny_teacher();
  std::vector<at::Tensor> ends;
  for (const std::vector<std::int64_t>& stops : {std::vector<std::int64_t>{12}, {3, 4, 12}}) {
    std::int64_t begin = 0;
    for (const std::int64_t stop : stops) {
      const auto student = test::tiny_decoder(begin == 0 ? 2 : 77, small_json());
      const auto data = shuffled_chunks(packed_chunks(40), 5);
      TrainerOptions options = options_for("learned", 1.0, 1.0);
      options.match.seed = begin == 0 ? 1 : 99;  // what the projection began with does not matter either
      options.ema = 0.9;
      Trainer trainer(*student, teacher.get(), *data, options);
      if (begin > 0) trainer.resume(folder / "state.safetensors", {});
      while (trainer.done() < stop) trainer.step();
      trainer.save(folder / "state.safetensors", {});
      begin = stop;
      if (stop == 12) ends.push_back(trainer.parameters().values().detach().clone());
    }
  }
  EXPECT_TRUE(at::equal(ends[0], ends[1]));
}

TEST(Matching, RefusesWhatMakesNoSense) {
  const auto teacher = tiny_teacher(), student = test::tiny_decoder(2, small_json());
  const auto data = shuffled_chunks(packed_chunks(10), 5);
  const auto refused = [&](auto change, Decoder* of = nullptr) {
    TrainerOptions options = options_for("uniform", 1.0, 1.0);
    change(options.match);
    return test::error_of([&] { Trainer(*student, of, *data, options); });
  };
  EXPECT_HAS(refused([](MatchOptions&) {}), "a teacher that runs along; there is none");
  EXPECT_HAS(refused([](MatchOptions& o) { o.map = parse_layer_map("0:3"); }, teacher.get()), "the teacher has no layer 3; its layers are 0 to 2");
  EXPECT_HAS(refused([](MatchOptions& o) { o.relation_heads = 3; }, teacher.get()),
             "3 relation heads do not divide the queries (16 and 32 wide) and the keys (8 and 16) of student and teacher; a divisor of 8 does");
  EXPECT_HAS(refused([](MatchOptions& o) { o.hidden = -1; }, teacher.get()), "match-hidden is -1");
  EXPECT_HAS(refused([](MatchOptions& o) { o.attention = std::numeric_limits<double>::infinity(); }, teacher.get()), "match-attention is inf");
  EXPECT_HAS(refused([](MatchOptions& o) { o = {}, o.map = parse_layer_map("last"); }), "it needs match-hidden or match-attention above 0");
  EXPECT_HAS(refused([](MatchOptions& o) { o.hidden = 0, o.measure = HiddenMeasure::kMse; }), "it needs match-hidden above 0");
  EXPECT_HAS(refused([](MatchOptions& o) { o.attention = 0, o.relation_heads = 2; }), "it needs match-attention above 0");
}

}  // namespace
}  // namespace attar
