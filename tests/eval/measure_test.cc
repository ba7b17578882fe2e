#include "eval/measure.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/random.h"
#include "eval/protocol.h"
#include "tests/eval/tiny.h"

namespace attar {
namespace {

using test::ThreadCount;
using test::tiny_decoder;

std::vector<Sequence> random_sequences(std::int64_t count, std::int64_t length) {
  Random random(9);
  std::vector<Sequence> sequences(static_cast<std::size_t>(count));
  for (Sequence& s : sequences) {
    for (std::int64_t i = 0; i < length; ++i) s.ids.push_back(static_cast<std::int64_t>(random.below(61)));
    s.begin = first_scored(length), s.end = length - 1;
  }
  return sequences;
}

// The definition: whole logits in float32, softmax and divergence in double, one position after the other.
struct Expected {
  double nll, reference_nll, kl, acceptance;
  bool same_top;
};

Expected expected(const at::Tensor& model_row, const at::Tensor& reference_row, std::int64_t target) {
  const at::Tensor q = at::log_softmax(model_row.to(at::kDouble), -1);
  const at::Tensor p = at::log_softmax(reference_row.to(at::kDouble), -1);
  return {-q[target].item<double>(), -p[target].item<double>(), (p.exp() * (p - q)).sum().item<double>(),
          at::minimum(p.exp(), q.exp()).sum().item<double>(),
          q.argmax().item<std::int64_t>() == p.argmax().item<std::int64_t>()};
}

TEST(Measure, AgreesWithTheDefinition) {
  const auto model = tiny_decoder(1), reference = tiny_decoder(2);
  const auto sequences = random_sequences(70, 16);  // three batches of up to 32 chunks
  const TokenScores scores = measure(*model, reference.get(), sequences, "test");
  ASSERT_EQ(scores.size(), 70u * 7);
  const at::NoGradGuard no_grad;
  std::size_t slot = 0;
  for (const Sequence& s : sequences) {
    const at::Tensor ids = at::tensor(s.ids, at::kLong).unsqueeze(0);
    const at::Tensor q = model->forward(ids)[0], p = reference->forward(ids)[0];
    for (std::int64_t position = 8; position < 15; ++position, ++slot) {
      const Expected e = expected(q[position], p[position], s.ids[static_cast<std::size_t>(position) + 1]);
      EXPECT_NEAR(scores.nll[slot], e.nll, 1e-5);
      EXPECT_NEAR(scores.reference_nll[slot], e.reference_nll, 1e-5);
      EXPECT_NEAR(scores.kl[slot], e.kl, 1e-5);
      EXPECT_NEAR(scores.acceptance[slot], e.acceptance, 1e-5);
      EXPECT_EQ(scores.same_top[slot] != 0, e.same_top);
    }
  }
  EXPECT_EQ(slot, scores.size());
}

TEST(Measure, AChunkScoresTheSameHoweverManyAreAsked) {
  const auto model = tiny_decoder(1), reference = tiny_decoder(2);
  const auto sequences = random_sequences(70, 16);
  const TokenScores all = measure(*model, reference.get(), sequences, "test");
  for (std::size_t count = 1; count < 70; count += 3) {
    const TokenScores some = measure(*model, reference.get(), std::span(sequences).first(count), "test");
    ASSERT_EQ(some.size(), 7 * count);
    for (std::size_t i = 0; i < some.size(); ++i) {
      ASSERT_EQ(some.nll[i], all.nll[i]) << "position " << i << " of " << count << " chunks";
      ASSERT_EQ(some.kl[i], all.kl[i]) << "position " << i << " of " << count << " chunks";
    }
  }
}

TEST(Measure, AModelAgainstItselfDoesNotDiverge) {
  const auto model = tiny_decoder(3);
  const auto sequences = random_sequences(5, 20);
  const TokenScores scores = measure(*model, model.get(), sequences, "test");
  for (std::size_t i = 0; i < scores.size(); ++i) {
    EXPECT_EQ(scores.kl[i], 0);
    EXPECT_EQ(scores.acceptance[i], 1);
    EXPECT_EQ(scores.same_top[i], 1);
    EXPECT_EQ(scores.nll[i], scores.reference_nll[i]);
  }
}

TEST(Measure, ThreadsDoNotChangeABit) {
  const auto model = tiny_decoder(4), reference = tiny_decoder(5);
  const auto sequences = random_sequences(100, 32);
  const auto run = [&](int threads) {
    const ThreadCount count(threads);
    return measure(*model, reference.get(), sequences, "test");
  };
  const TokenScores one = run(1);
  for (const int threads : {2, 3, 8}) {
    const TokenScores many = run(threads);
    EXPECT_EQ(many.nll, one.nll) << threads;
    EXPECT_EQ(many.reference_nll, one.reference_nll) << threads;
    EXPECT_EQ(many.kl, one.kl) << threads;
    EXPECT_EQ(many.acceptance, one.acceptance) << threads;
    EXPECT_EQ(many.same_top, one.same_top) << threads;
  }
}

TEST(Measure, TheReferenceDoesNotChangeTheModelsScores) {
  const auto model = tiny_decoder(6), reference = tiny_decoder(7);
  const auto sequences = random_sequences(9, 24);
  EXPECT_EQ(measure(*model, nullptr, sequences, "test").nll, measure(*model, reference.get(), sequences, "test").nll);
}

TEST(Measure, PaddingOfShorterSequencesIsNotSeen) {
  const auto model = tiny_decoder(8);
  auto sequences = random_sequences(3, 30);
  sequences[1].ids.resize(12);
  sequences[1].begin = 4, sequences[1].end = 11;
  const TokenScores together = measure(*model, nullptr, sequences, "test");
  const TokenScores alone = measure(*model, nullptr, std::span(sequences).subspan(1, 1), "test");
  ASSERT_EQ(alone.size(), 7u);
  for (std::size_t i = 0; i < 7; ++i) EXPECT_NEAR(together.nll[14 + i], alone.nll[i], 1e-5);
}

TEST(Measure, LogitsThatAreNotFiniteAreRefused) {
  const auto model = tiny_decoder(9), sound = tiny_decoder(9);
  {
    const at::NoGradGuard no_grad;
    model->parameter("model.norm.weight").fill_(std::numeric_limits<float>::infinity());
  }
  const auto sequences = random_sequences(2, 16);
  EXPECT_THROW(measure(*model, nullptr, sequences, "test"), Error);
  EXPECT_THROW(measure(*sound, model.get(), sequences, "test"), Error);
  EXPECT_NO_THROW(measure(*sound, sound.get(), sequences, "test"));
}

}  // namespace
}  // namespace attar
