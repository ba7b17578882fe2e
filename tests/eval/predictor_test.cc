#include "eval/predictor.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "eval/measure.h"
#include "tests/eval/tiny.h"

namespace attar {
namespace {

ModelConfig config() {
  ModelConfig c = test::tiny_config();
  c.hidden_size = 64, c.intermediate_size = 96, c.head_dim = 16;
  return c;
}

Checkpoint packed(std::uint64_t seed) {
  Checkpoint checkpoint = to_checkpoint(*test::tiny_decoder(seed, config()), {});
  for (Tensor& tensor : checkpoint.tensors)
    if (tensor.shape.size() == 2) tensor = make_tensor(tensor.name, tensor.shape, read_floats(tensor), Type::kQ8_0);
  return checkpoint;
}

// A question's choices: the same beginning, of which the last tokens differ.
std::vector<Sequence> choices(std::int64_t question) {
  std::vector<Sequence> all;
  for (std::int64_t c = 0; c < 3; ++c) {
    Sequence s;
    for (std::int64_t i = 0; i < 8; ++i) s.ids.push_back(i < 3 ? i : (question * 5 + i) % 61);  // the first three are every question's
    s.begin = std::ssize(s.ids) - 1;
    for (std::int64_t i = 0; i <= c; ++i) s.ids.push_back((question + 11 * c + i) % 61);
    s.end = std::ssize(s.ids) - 1;
    all.push_back(s);
  }
  return all;
}

std::vector<float> logits_of(Predictor& model, std::int64_t count) {
  const float* values = model.logits(0, count);
  return {values, values + count * model.config().vocab_size};
}

void expect_near(const std::vector<float>& a, const std::vector<float>& b, float tolerance) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], tolerance) << i;
}

class Predictors : public testing::TestWithParam<bool> {
 protected:
  static std::unique_ptr<Predictor> make() {
    if (GetParam()) return predictor(std::make_unique<Runner>(packed(1)));
    return predictor(test::tiny_decoder(1, config()));
  }
  // Rounded activations jump where a last digit tips one over.
  static float tolerance() { return GetParam() ? 0.15f : 1e-4f; }
};

TEST_P(Predictors, ChoicesThatShareTheirBeginningAreTextsOfTheirOwn) {
  const auto model = make();
  for (std::int64_t question = 0; question < 3; ++question) {
    const std::vector<Sequence> all = choices(question);
    model->read_choices(all, {0, 1, 2});
    const std::vector<float> together = logits_of(*model, 6);
    std::vector<float> alone;
    for (const Sequence& s : all) {
      model->read(std::span(&s, 1), std::ssize(s.ids));
      const std::vector<float> own = logits_of(*model, s.end - s.begin);
      alone.insert(alone.end(), own.begin(), own.end());
    }
    expect_near(together, alone, tolerance());
  }
}

TEST_P(Predictors, LogitsComeInSlices) {
  const auto model = make();
  const std::vector<Sequence> all = choices(4);
  model->read(all, 12);
  const std::vector<float> whole = logits_of(*model, 6);
  const std::int64_t vocab = model->config().vocab_size;
  const float* part = model->logits(2, 3);
  expect_near({part, part + 3 * vocab}, {whole.begin() + 2 * vocab, whole.begin() + 5 * vocab}, tolerance());
}

INSTANTIATE_TEST_SUITE_P(All, Predictors, testing::Bool(), [](const auto& p) { return p.param ? "packed" : "floats"; });

// Each thread has a context of its own, over the same weights.
TEST(PackedPredictor, MeasuredAgainstItsDecodedWeights) {
  const Checkpoint checkpoint = packed(1);
  std::vector<Sequence> sequences;
  for (std::int64_t n = 0; n < 20; ++n) {
    Sequence s;
    for (std::int64_t i = 0; i < 16; ++i) s.ids.push_back((n * 13 + i * i) % 61);
    s.begin = 8, s.end = 15;
    sequences.push_back(s);
  }
  const auto decoded = predictor(load_decoder(checkpoint));
  const auto run = [&](int threads, std::span<const Sequence> some) {
    const test::ThreadCount count(threads);
    return measure(*predictor(std::make_unique<Runner>(checkpoint)), Against{.model = decoded.get()}, some, "test");
  };
  const TokenScores one = run(1, sequences), three = run(3, sequences), part = run(3, std::span(sequences).first(7));
  EXPECT_EQ(one.nll, three.nll);
  EXPECT_EQ(one.kl, three.kl);
  EXPECT_EQ(part.nll, std::vector<double>(one.nll.begin(), one.nll.begin() + 7 * 7)) << "a chunk's score depends on how many are asked for";
  double mean = 0;
  for (const double kl : one.kl) mean += kl / static_cast<double>(one.kl.size());
  EXPECT_GT(mean, 1e-9) << "not through the integer kernels";
  EXPECT_LT(mean, 0.01);
}

}  // namespace
}  // namespace attar
