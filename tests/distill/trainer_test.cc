#include "distill/trainer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "base/error.h"
#include "tests/distill/tiny.h"
#include "tests/support.h"

namespace attar {
namespace {

constexpr std::int64_t kContext = 16;

TrainerOptions tiny_options(std::int64_t steps) {
  TrainerOptions options;
  options.steps = steps;
  options.batch = 8;
  options.context = kContext;
  options.schedule.peak = 1e-2;
  options.schedule.warmup = steps > 10 ? 5 : 0;
  options.loss = {2.0, 0.3};
  return options;
}

std::unique_ptr<ChunkSource> tiny_data() { return shuffled_chunks(test::tiny_chunks(200, kContext + 1, 1), 5); }

at::Tensor weights(Trainer& trainer) { return trainer.parameters().values().detach().clone(); }

TEST(Trainer, LearnsTheTextWithoutATeacher) {
  const auto student = test::tiny_decoder(1);
  const auto data = tiny_data();
  TrainerOptions options = tiny_options(150);
  Trainer trainer(*student, nullptr, *data, options);
  const auto heldout = test::tiny_chunks(20, kContext + 1, 99);
  const double before = trainer.evaluate(heldout).cross_entropy;
  for (int i = 0; i < 150; ++i) trainer.step();
  const Evaluation after = trainer.evaluate(heldout);
  EXPECT_NEAR(before, std::log(256.0), 0.1);
  // The text chooses between two tokens each time: ln 2 is the best there is.
  EXPECT_LT(after.cross_entropy, 0.95);
  EXPECT_GT(after.cross_entropy, std::log(2.0) - 0.05);
  EXPECT_EQ(after.tokens, 20 * kContext);
}

TEST(Trainer, StudentApproachesItsTeacher) {
  const auto teacher = test::tiny_decoder(1), student = test::tiny_decoder(2);
  const auto data = tiny_data();
  for (const auto& name : teacher->parameter_names()) {  // a teacher with opinions
    const at::NoGradGuard no_grad;
    if (teacher->parameter(name).dim() >= 2) teacher->parameter(name).mul_(8.0);
  }
  for (auto& parameter : teacher->parameters()) parameter.set_requires_grad(false);
  TrainerOptions options = tiny_options(120);
  options.loss = {1.0, 0.0};
  Trainer trainer(*student, teacher.get(), *data, options);
  const auto heldout = test::tiny_chunks(20, kContext + 1, 99);
  const Evaluation before = trainer.evaluate(heldout);
  for (int i = 0; i < 120; ++i) trainer.step();
  const Evaluation after = trainer.evaluate(heldout);
  EXPECT_LT(after.kl, 0.5 * before.kl);
  EXPECT_GT(after.same_top, before.same_top + 0.1);
  // And a copy of the teacher is at distance zero.
  const auto copy = test::tiny_decoder(3);
  for (const auto& name : copy->parameter_names()) copy->parameter(name).set_data(teacher->parameter(name).detach().clone());
  Trainer same(*copy, teacher.get(), *data, options);
  EXPECT_NEAR(same.evaluate(heldout).kl, 0.0, 1e-6);
  EXPECT_EQ(same.evaluate(heldout).same_top, 1.0);
}

TEST(Trainer, AnEvaluationKnowsTheErrorOfItsDivergence) {
  const auto teacher = test::tiny_decoder(1), student = test::tiny_decoder(2);
  for (const auto& name : teacher->parameter_names()) {
    const at::NoGradGuard no_grad;
    if (teacher->parameter(name).dim() >= 2) teacher->parameter(name).mul_(8.0);
  }
  const auto data = tiny_data();
  Trainer trainer(*student, teacher.get(), *data, tiny_options(1));
  const auto chunks = test::tiny_chunks(20, kContext + 1, 99);
  std::vector<double> each;  // a token is a chunk with all other targets masked
  for (const Chunk& chunk : chunks)
    for (std::size_t place = 1; place < chunk.ids.size(); ++place) {
      Chunk one = chunk;
      one.learn.assign(chunk.ids.size(), 0);
      one.learn[place] = 1;
      each.push_back(trainer.evaluate({one}).kl);
    }
  double mean = 0, squares = 0;
  for (const double kl : each) mean += kl / static_cast<double>(each.size());
  for (const double kl : each) squares += (kl - mean) * (kl - mean);
  const auto n = static_cast<double>(each.size());
  const Evaluation all = trainer.evaluate(chunks);
  EXPECT_EQ(all.tokens, std::ssize(each));
  EXPECT_NEAR(all.kl, mean, 1e-6);
  EXPECT_NEAR(all.kl_uncertainty, std::sqrt(squares / n / (n - 1)), 1e-6);
  EXPECT_GT(all.kl_uncertainty, 1e-3);
}

TEST(Trainer, MicroBatchesGiveTheGradientOfTheWholeBatch) {
  const auto teacher = test::tiny_decoder(1);
  std::vector<at::Tensor> gradients;
  for (const std::int64_t micro : {0, 3}) {
    const auto student = test::tiny_decoder(2);
    const auto data = tiny_data();
    TrainerOptions options = tiny_options(3);
    options.micro_batch = micro;
    Trainer trainer(*student, teacher.get(), *data, options);
    trainer.step();
    gradients.push_back(trainer.parameters().gradients().clone());
  }
  EXPECT_LT((gradients[0] - gradients[1]).norm().item<float>(), 1e-5f * gradients[0].norm().item<float>());
}

TEST(Trainer, ClipsByTheGlobalNorm) {
  const auto student = test::tiny_decoder(2);
  const auto data = tiny_data();
  TrainerOptions options = tiny_options(3);
  options.clip = 1e-3;
  Trainer trainer(*student, nullptr, *data, options);
  const StepReport report = trainer.step();
  EXPECT_GT(report.gradient_norm, 1e-3);
  EXPECT_NEAR(trainer.parameters().gradients().norm().item<float>(), 1e-3, 1e-6);
}

// A run that is stopped after every few steps and resumed in a new process, so to speak, ends in the same bytes.
TEST(Trainer, ResumesExactly) {
  const test::TempFolder folder;
  const nlohmann::json run = {{"steps", 23}};
  const auto teacher = test::tiny_decoder(1);
  at::Tensor whole;
  {
    const auto student = test::tiny_decoder(2);
    const auto data = tiny_data();
    Trainer trainer(*student, teacher.get(), *data, tiny_options(23));
    while (trainer.done() < 23) trainer.step();
    whole = weights(trainer);
  }
  at::Tensor pieces;
  for (const std::int64_t stop : {4, 5, 14, 23}) {
    const auto student = test::tiny_decoder(stop == 4 ? 2 : 77);  // what a resumed student began with does not matter
    const auto data = tiny_data();
    Trainer trainer(*student, teacher.get(), *data, tiny_options(23));
    if (stop != 4) trainer.resume(folder / "state.safetensors", run);
    while (trainer.done() < stop) trainer.step();
    trainer.save(folder / "state.safetensors", run);
    pieces = weights(trainer);
  }
  EXPECT_TRUE(at::equal(whole, pieces));
}

// The average lags behind the weights, is what an evaluation sees, and is resumed like everything else.
TEST(Trainer, AveragesWeights) {
  const test::TempFolder folder;
  const auto heldout = test::tiny_chunks(5, kContext + 1, 99);
  TrainerOptions options = tiny_options(20);
  options.ema = 0.5;
  const auto student = test::tiny_decoder(2), again = test::tiny_decoder(3);
  const auto data = tiny_data(), more = tiny_data();
  Trainer trainer(*student, nullptr, *data, options);
  at::Tensor average = weights(trainer);
  for (int i = 1; i <= 12; ++i) {
    trainer.step();
    const double decay = std::min(0.5, (1.0 + i) / (10.0 + i));
    average = decay * average + (1 - decay) * weights(trainer);
  }
  const at::Tensor now = weights(trainer);
  const double by_average = trainer.evaluate(heldout).cross_entropy;
  EXPECT_TRUE(at::equal(now, weights(trainer)));  // evaluation has put everything back
  trainer.save(folder / "state.safetensors", {});
  trainer.save_weights(folder / "average.safetensors");
  Trainer resumed(*again, nullptr, *more, options);
  resumed.resume(folder / "state.safetensors", {});
  trainer.step(), resumed.step();
  EXPECT_TRUE(at::equal(weights(trainer), weights(resumed)));
  trainer.load_weights(folder / "average.safetensors");
  EXPECT_LT((weights(trainer) - average).abs().max().item<float>(), 1e-6f);
  const auto plain = test::tiny_decoder(4);
  Trainer without(*plain, nullptr, *data, tiny_options(20));
  without.load_weights(folder / "average.safetensors");
  EXPECT_EQ(without.evaluate(heldout).cross_entropy, by_average);
}

TEST(Trainer, RefusesAStateOfAnotherRun) {
  const test::TempFolder folder;
  const auto student = test::tiny_decoder(2);
  const auto data = tiny_data();
  Trainer trainer(*student, nullptr, *data, tiny_options(3));
  trainer.save(folder / "state.safetensors", {{"lr", 0.1}});
  try {
    trainer.resume(folder / "state.safetensors", {{"lr", 0.2}});
    FAIL() << "resumed with another learning rate";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("lr was 0.1"), std::string::npos) << error.what();
  }
  auto other = test::tiny_json();
  other["intermediate_size"] = 96;
  const auto larger = test::tiny_decoder(2, other);
  Trainer second(*larger, nullptr, *data, tiny_options(3));
  EXPECT_THROW(second.resume(folder / "state.safetensors", {{"lr", 0.1}}), Error);
  write_text_file(folder / "state.safetensors", "not a state");
  EXPECT_THROW(trainer.resume(folder / "state.safetensors", {{"lr", 0.1}}), Error);
}

TEST(Trainer, SkipsStepsThatAreNotFiniteAndStopsAfterMany) {
  const auto student = test::tiny_decoder(2);
  const auto data = tiny_data();
  TrainerOptions options = tiny_options(20);
  options.bad_steps = 3;
  Trainer trainer(*student, nullptr, *data, options);
  trainer.step();
  {
    const at::NoGradGuard no_grad;
    student->parameter("model.norm.weight")[0] = std::numeric_limits<float>::quiet_NaN();
  }
  const at::Tensor before = weights(trainer);
  EXPECT_TRUE(trainer.step().skipped);
  EXPECT_TRUE(trainer.step().skipped);
  EXPECT_EQ(trainer.done(), 3);
  const at::Tensor now = weights(trainer);
  EXPECT_TRUE(at::equal(before.isnan(), now.isnan()));
  EXPECT_TRUE(at::equal(before.nan_to_num(), now.nan_to_num()));
  EXPECT_THROW(trainer.step(), Error);
}

TEST(Trainer, RefusesOptionsThatMakeNoSense) {
  const auto student = test::tiny_decoder(2);
  const auto data = tiny_data();
  const auto refused = [&](auto change) {
    TrainerOptions options = tiny_options(10);
    change(options);
    EXPECT_THROW(Trainer(*student, nullptr, *data, options), Error);
  };
  refused([](TrainerOptions& o) { o.steps = 0; });
  refused([](TrainerOptions& o) { o.batch = 0; });
  refused([](TrainerOptions& o) { o.loss.temperature = 0; });
  refused([](TrainerOptions& o) { o.loss.alpha = 1.5; });
  refused([](TrainerOptions& o) { o.schedule.peak = std::numeric_limits<double>::quiet_NaN(); });
  refused([](TrainerOptions& o) { o.schedule.warmup = 10; });
  refused([](TrainerOptions& o) { o.clip = -1; });
  refused([](TrainerOptions& o) { o.ema = 1; });
  refused([](TrainerOptions& o) { o.context = 65; });  // the model sees 64
}

TEST(ShuffledChunks, EveryEpochHasEveryChunkInAnotherOrder) {
  const auto chunks = test::tiny_chunks(10, 4, 1);
  const auto data = shuffled_chunks(chunks, 9);
  const auto epoch = [&] {
    std::vector<Chunk> all;
    for (int i = 0; i < 10; ++i) all.push_back(data->next());
    return all;
  };
  auto first = epoch(), second = epoch();
  EXPECT_NE(first, second);
  auto sorted = chunks;
  std::sort(sorted.begin(), sorted.end());
  std::sort(first.begin(), first.end());
  std::sort(second.begin(), second.end());
  EXPECT_EQ(first, sorted);
  EXPECT_EQ(second, sorted);
}

TEST(ShuffledChunks, SeekGoesAnywhere) {
  const auto data = shuffled_chunks(test::tiny_chunks(10, 4, 1), 9);
  for (int i = 0; i < 10; ++i) data->next();  // to the very end of an epoch
  const auto place = data->position();
  std::vector<Chunk> rest;
  for (int i = 0; i < 15; ++i) rest.push_back(data->next());
  const auto again = shuffled_chunks(test::tiny_chunks(10, 4, 1), 9);
  again->seek(place);
  for (const Chunk& chunk : rest) EXPECT_EQ(again->next(), chunk);
  EXPECT_THROW(again->seek({{"epoch", 0}, {"index", 11}}), Error);
  EXPECT_THROW(shuffled_chunks({}, 1), Error);
}

TEST(StoryChunks, AreReproducibleSeekableAndNew) {
  const test::TempFolder folder;
  test::write_tiny_folder(folder.path());
  const Tokenizer tokenizer(read_tokenizer_data(folder.path()));
  const auto data = open_chunks("builtin:train", tokenizer, {513, 4});
  std::set<Chunk> seen;
  nlohmann::json place;
  std::vector<Chunk> after;
  for (int i = 0; i < 3000; ++i) {  // several blocks
    if (i == 2500) place = data->position();
    const Chunk chunk = data->next();
    EXPECT_EQ(chunk.ids.size(), 513u);
    seen.insert(chunk);
    if (i >= 2500) after.push_back(chunk);
  }
  EXPECT_GT(seen.size(), 2990u);
  EXPECT_GT(place.at("block").get<int>(), 0);
  const auto again = open_chunks("builtin:train", tokenizer, {513, 4});
  again->seek(place);
  for (const Chunk& chunk : after) ASSERT_EQ(again->next(), chunk);
  EXPECT_FALSE(seen.contains(open_chunks("builtin:train", tokenizer, {513, 5})->next()));
}

}  // namespace
}  // namespace attar
