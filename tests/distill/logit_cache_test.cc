#include "distill/logit_cache.h"

#include <gtest/gtest.h>

#include <functional>

#include "base/error.h"
#include "distill/trainer.h"
#include "model/tensor.h"
#include "tests/distill/tiny.h"
#include "tests/support.h"

namespace attar {
namespace {

constexpr std::int64_t kLength = 17, kVocab = 256;

class Cache : public ::testing::Test {
 protected:
  Cache() : teacher_(test::tiny_decoder(1)), chunks_(test::tiny_chunks(12, kLength, 3)) {
    const at::NoGradGuard no_grad;
    for (const auto& name : teacher_->parameter_names())  // a teacher with opinions
      teacher_->parameter(name).mul_(teacher_->parameter(name).dim() >= 2 ? 6.0 : 2.0);
    for (auto& parameter : teacher_->parameters()) parameter.set_requires_grad(false);
  }
  static CacheIdentity identity(const std::string& teacher = "t") { return {teacher, "tok", kVocab}; }
  void fill(double temperature = 1.0, std::int64_t batch = 4) {
    LogitCache cache(folder_.path(), identity());
    capture(cache, *teacher_, chunks_, temperature, batch);
    cache.flush();
  }
  fs::path shard() const { return fs::directory_iterator(folder_.path())->path(); }
  at::Tensor teacher_logits(const std::vector<Chunk>& chunks) {
    at::Tensor ids = at::empty({static_cast<std::int64_t>(chunks.size()), kLength - 1}, at::kLong);
    for (std::size_t i = 0; i < chunks.size(); ++i) std::copy_n(chunks[i].ids.begin(), kLength - 1, ids.data_ptr<std::int64_t>() + static_cast<std::int64_t>(i) * (kLength - 1));
    const at::NoGradGuard no_grad;
    return teacher_->forward(ids).reshape({-1, kVocab});
  }

  test::TempFolder folder_;
  std::shared_ptr<Decoder> teacher_;
  std::vector<Chunk> chunks_;
};

// Against the whole distribution: what is kept exactly is exact, and weights are those of a distribution.
TEST_F(Cache, KeepsTheTeachersDistribution) {
  fill(2.0);
  const LogitCache cache(folder_.path(), identity());
  EXPECT_EQ(cache.tokens(), 12u * (kLength - 1));
  const TeacherRows rows = cache.rows(chunks_, 2.0, at::kCPU);
  const at::Tensor log_p = at::log_softmax(teacher_logits(chunks_) / 2.0, -1);
  ASSERT_EQ(rows.ids.size(0), log_p.size(0));
  EXPECT_LT((rows.weight.sum(-1) - 1).abs().max().item<float>(), 1e-5f);
  const at::Tensor kept = rows.weight > 0;
  EXPECT_LT(((rows.log_p - log_p.gather(1, rows.ids)) * kept).abs().max().item<float>(), 3e-3f);
  EXPECT_TRUE(at::equal(rows.ids.select(1, 0), log_p.argmax(-1)));
}

// Two texts in one chunk: the second is asked about as if it stood alone, and the same tokens as one text are another entry.
TEST_F(Cache, TextsOfAPackedChunkDoNotSeeEachOther) {
  const std::int64_t begin = 8;
  Chunk whole = chunks_[0], packed = whole;
  packed.starts = {begin};
  chunks_ = {packed};
  fill();
  const LogitCache cache(folder_.path(), identity());
  EXPECT_TRUE(cache.contains(packed, 1.0));
  EXPECT_FALSE(cache.contains(whole, 1.0));
  const at::Tensor top = cache.rows({packed}, 1.0, at::kCPU).ids.select(1, 0);
  const at::NoGradGuard no_grad;
  const auto alone = [&](std::int64_t from, std::int64_t to) {
    const Ids ids(whole.ids.begin() + from, whole.ids.begin() + to);
    return teacher_->forward(tensor_of(ids).unsqueeze(0)).argmax(-1).flatten();
  };
  EXPECT_TRUE(at::equal(top, at::cat({alone(0, begin), alone(begin, kLength - 1)})));
  EXPECT_FALSE(at::equal(top, alone(0, kLength - 1)));
}

// Draws vary, their mean does not: over many rows the divergence to another model, and its gradient, are those of whole rows.
TEST_F(Cache, DivergencesAreRightOnAverage) {
  chunks_ = test::tiny_chunks(300, kLength, 8);
  fill();
  const LogitCache cache(folder_.path(), identity());
  const TeacherRows kept = cache.rows(chunks_, 1.0, at::kCPU), whole{teacher_logits(chunks_), {}, {}, {}};
  const at::Tensor z = whole.logits + 0.5 * at::randn(whole.logits.sizes(), at::detail::createCPUGenerator(5)), y = at::zeros({z.size(0)}, at::kLong);
  const at::Tensor a = at::empty_like(z), b = at::empty_like(z);
  const double exact = distillation_loss(z, whole, y, {}, a).total.item<double>(), estimate = distillation_loss(z, kept, y, {}, b).total.item<double>();
  EXPECT_NEAR(estimate, exact, 0.02 * exact);
  // Errors of rows that are independent and have no bias add up like their squares.
  EXPECT_LT((b - a).sum(0).norm().item<float>(), 1.5f * (b - a).norm().item<float>());
}

TEST_F(Cache, EntriesGoByContentNotByPlace) {
  fill(1.0, 4);
  const LogitCache cache(folder_.path(), identity());
  const TeacherRows all = cache.rows(chunks_, 1.0, at::kCPU), one = cache.rows({chunks_[7]}, 1.0, at::kCPU);
  const std::int64_t begin = 7 * (kLength - 1), width = one.ids.size(1);
  EXPECT_TRUE(at::equal(all.ids.narrow(0, begin, kLength - 1).narrow(1, 0, width), one.ids));
  Chunk other = chunks_[0];
  other.ids[3] = (other.ids[3] + 1) % 16;
  EXPECT_TRUE(cache.contains(chunks_[0], 1.0));
  EXPECT_FALSE(cache.contains(chunks_[0], 2.0));
  EXPECT_FALSE(cache.contains(other, 1.0));
  EXPECT_NE(test::error_of([&] { cache.rows({other}, 1.0, at::kCPU); }).find("does not hold"), std::string::npos);
}

TEST_F(Cache, RefusesAnotherTeacherOrTokenizer) {
  fill();
  EXPECT_NE(test::error_of([&] { LogitCache(folder_.path(), identity("u")); }).find("another teacher: t, now u"), std::string::npos);
  EXPECT_NE(test::error_of([&] { LogitCache(folder_.path(), {"t", "other", kVocab}); }).find("another tokenizer"), std::string::npos);
  EXPECT_NE(test::error_of([&] { LogitCache(folder_.path(), {"t", "tok", 300}); }).find("another vocabulary"), std::string::npos);
}

// Every byte of a shard matters: whichever is changed, nothing wrong is read.
TEST_F(Cache, DamageIsFound) {
  fill();
  const std::string whole = read_text_file(shard());
  const LogitCache intact(folder_.path(), identity());
  const TeacherRows expected = intact.rows(chunks_, 1.0, at::kCPU);
  Random random(4);
  for (int i = 0; i < 200; ++i) {
    std::string damaged = whole;
    damaged[random.below(damaged.size())] ^= static_cast<char>(1 << random.below(8));
    write_text_file(shard(), damaged);
    try {
      const LogitCache cache(folder_.path(), identity());
      const TeacherRows rows = cache.rows(chunks_, 1.0, at::kCPU);
      EXPECT_TRUE(at::equal(rows.ids, expected.ids) && at::equal(rows.log_p, expected.log_p) && at::equal(rows.weight, expected.weight));
    } catch (const Error&) {
    }
  }
  for (const std::size_t size : {std::size_t{1}, std::size_t{10}, whole.size() / 2, whole.size() - 1}) {
    write_text_file(shard(), whole.substr(0, size));
    EXPECT_THROW(LogitCache(folder_.path(), identity()), Error) << size;
  }
}

TEST_F(Cache, TrainsLikeTheLiveTeacher) {
  const auto heldout = test::tiny_chunks(20, kLength, 99);
  {
    LogitCache cache(folder_.path(), identity());
    capture(cache, *teacher_, test::tiny_chunks(200, kLength, 1), 1.0, 8);
    cache.flush();
  }
  const LogitCache cache(folder_.path(), identity());
  std::vector<double> kl;
  for (const bool cached : {false, true}) {
    const auto student = test::tiny_decoder(2);
    const auto data = shuffled_chunks(test::tiny_chunks(200, kLength, 1), 5);
    TrainerOptions options;
    options.steps = 150, options.batch = 8, options.context = kLength - 1;
    options.schedule.peak = 1e-2;
    Trainer trainer(*student, cached ? nullptr : teacher_.get(), *data, options, cached ? &cache : nullptr);
    while (trainer.done() < options.steps) trainer.step();
    Trainer judge(*student, teacher_.get(), *data, options);  // always by the live teacher
    kl.push_back(judge.evaluate(heldout).kl);
  }
  EXPECT_NEAR(kl[1], kl[0], 0.1 * kl[0]);
}

}  // namespace
}  // namespace attar
