#include "distill/on_policy.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "base/error.h"
#include "distill/trainer.h"
#include "tests/distill/tiny.h"

namespace attar {
namespace {

TEST(OnPolicy, ChoosesItsShare) {
  int chosen = 0;
  for (std::int64_t step = 0; step < 500; ++step)
    for (std::int64_t i = 0; i < 8; ++i) chosen += is_on_policy({0.3, 9, {}}, step, i);
  EXPECT_NEAR(chosen / 4000.0, 0.3, 0.03);  // four standard deviations
  EXPECT_FALSE(is_on_policy({0.0, 9, {}}, 1, 1));
  EXPECT_TRUE(is_on_policy({1.0, 9, {}}, 1, 1));
}

TEST(OnPolicy, BeginningsStayAndTheRestIsTheStudents) {
  const auto student = test::tiny_decoder(1);
  const Chunk text = test::tiny_chunks(1, 33, 4)[0];
  Chunk chat = text;
  chat.learn.assign(33, 0);
  chat.learn[12] = chat.learn[13] = 1;
  Chunk a = text, b = chat;
  write_own_texts(*student, {1.0, 7, {}}, 3, {0, 1}, {&a, &b});
  for (const auto& [chunk, prompt] : {std::pair(a, 8), std::pair(b, 12)}) {
    EXPECT_TRUE(std::equal(text.ids.begin(), text.ids.begin() + prompt, chunk.ids.begin()));
    EXPECT_NE(chunk.ids, text.ids);
    for (int i = 0; i < 33; ++i) EXPECT_EQ(chunk.learn[static_cast<std::size_t>(i)], i >= prompt) << i;
  }
  // The same place gives the same words, another step others.
  Chunk again = text, other = text;
  write_own_texts(*student, {1.0, 7, {}}, 3, {0}, {&again});
  write_own_texts(*student, {1.0, 7, {}}, 4, {0}, {&other});
  EXPECT_EQ(again, a);
  EXPECT_NE(other.ids, a.ids);
}

TEST(OnPolicy, SilentAfterTheEnd) {
  const auto student = test::tiny_decoder(1);
  std::vector<std::int64_t> half;
  for (std::int64_t id = 0; id < 128; ++id) half.push_back(id);
  Chunk chunk = test::tiny_chunks(1, 33, 4)[0];
  write_own_texts(*student, {1.0, 7, half}, 0, {0}, {&chunk});
  const auto first = std::find(chunk.learn.begin(), chunk.learn.end(), 1);
  const auto end = std::find(first, chunk.learn.end(), 0);
  ASSERT_NE(end, chunk.learn.end());
  EXPECT_LT(chunk.ids[static_cast<std::size_t>(end - chunk.learn.begin()) - 1], 128);
  EXPECT_EQ(std::find(end, chunk.learn.end(), 1), chunk.learn.end());
}

// What is sampled follows the student's distribution: first words of many samples against its probabilities.
TEST(OnPolicy, SamplesTheStudentsDistribution) {
  const auto student = test::tiny_decoder(1);
  const at::NoGradGuard no_grad;
  for (const auto& name : student->parameter_names())
    if (student->parameter(name).dim() >= 2) student->parameter(name).mul_(8.0);
  const Chunk text = test::tiny_chunks(1, 9, 4)[0];
  constexpr int kSamples = 4000;
  std::vector<Chunk> chunks(kSamples, text);
  std::vector<Chunk*> pointers;
  std::vector<std::int64_t> indices;
  for (int i = 0; i < kSamples; ++i) pointers.push_back(&chunks[static_cast<std::size_t>(i)]), indices.push_back(i);
  write_own_texts(*student, {1.0, 7, {}}, 0, indices, pointers);
  std::map<std::int64_t, int> seen;
  for (const Chunk& chunk : chunks) ++seen[chunk.ids[2]];
  const at::Tensor p = at::softmax(
      student->forward(at::tensor({text.ids[0], text.ids[1]}, at::kLong).unsqueeze(0)).select(1, 1).flatten().to(at::kDouble), 0);
  for (std::int64_t id = 0; id < 256; ++id) {
    const double expected = p[id].item<double>();
    EXPECT_NEAR(seen[id] / static_cast<double>(kSamples), expected, 5 * std::sqrt(expected / kSamples) + 1e-3) << id;
  }
}

TEST(OnPolicy, TrainingApproachesTheTeacherAndResumesExactly) {
  const auto teacher = test::tiny_decoder(1);
  for (auto& parameter : teacher->parameters()) parameter.set_requires_grad(false);
  const auto heldout = test::tiny_chunks(20, 17, 99);
  TrainerOptions options;
  options.steps = 40, options.batch = 4, options.context = 16;
  options.schedule.peak = 1e-2;
  options.on_policy = {0.5, 3, {}};
  std::vector<at::Tensor> ends;
  for (int round = 0; round < 2; ++round) {
    const auto student = test::tiny_decoder(2);
    const auto data = shuffled_chunks(test::tiny_chunks(50, 17, 1), 5);
    Trainer trainer(*student, teacher.get(), *data, options);
    const double before = trainer.evaluate(heldout).kl;
    for (int i = 0; i < 40; ++i) trainer.step();
    EXPECT_LT(trainer.evaluate(heldout).kl, before);
    ends.push_back(trainer.parameters().values().clone());
  }
  EXPECT_TRUE(at::equal(ends[0], ends[1]));
  const auto student = test::tiny_decoder(2);
  const auto data = shuffled_chunks(test::tiny_chunks(50, 17, 1), 5);
  EXPECT_THROW(Trainer(*student, nullptr, *data, options), Error);  // nobody to judge
  options.loss.alpha = 0.5;
  EXPECT_THROW(Trainer(*student, teacher.get(), *data, options), Error);
}

}  // namespace
}  // namespace attar
