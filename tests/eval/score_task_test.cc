#include "eval/score_task.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/random.h"
#include "tests/datasets/small_tokenizers.h"
#include "tests/eval/tiny.h"

namespace attar {
namespace {

using test::ThreadCount;

class ScoreTask : public ::testing::Test {
 protected:
  static ModelConfig config(const Tokenizer& tokenizer) { return test::tiny_config(tokenizer.vocab_size()); }

  // The definition: one forward pass over all tokens of one request, log softmax in double.
  double log_likelihood(const Sequence& r) const {
    const at::NoGradGuard no_grad;
    const at::Tensor logits = model_->forward(at::tensor(Ids(r.ids.begin(), r.ids.end() - 1), at::kLong).unsqueeze(0))[0];
    const at::Tensor log_p = at::log_softmax(logits.to(at::kDouble), -1);
    double sum = 0;
    for (auto p = r.begin; p + 1 < static_cast<std::int64_t>(r.ids.size()); ++p)
      sum += log_p[p][r.ids[static_cast<std::size_t>(p) + 1]].item<double>();
    return sum;
  }

  static Task choices(std::int64_t count) {
    Task task;
    task.name = "t";
    Random random(4);
    const auto word = [&](std::uint64_t length) {
      std::string text;
      for (std::uint64_t i = 0; i <= length; ++i) text += static_cast<char>('a' + random.below(3));
      return text;
    };
    for (std::int64_t i = 0; i < count; ++i) {
      TaskItem item{{word(20)}, {}, static_cast<std::int64_t>(random.below(3)), "item " + std::to_string(i)};
      for (int c = 0; c < 3; ++c) item.continuations.push_back(word(random.below(6)) + "ab");
      task.items.push_back(item);
    }
    return task;
  }

  static void expect_same(const std::vector<ItemScore>& a, const std::vector<ItemScore>& b, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i)
      for (std::size_t r = 0; r < a[i].requests.size(); ++r) {
        EXPECT_EQ(a[i].requests[r].log_likelihood, b[i].requests[r].log_likelihood) << i;
        EXPECT_EQ(a[i].requests[r].greedy, b[i].requests[r].greedy);
      }
  }

  Tokenizer tokenizer_{test::small_metaspace_bpe()};
  std::shared_ptr<Decoder> model_ = test::tiny_decoder(1, config(tokenizer_));
  AskOptions options_{.context = 64};
};

TEST_F(ScoreTask, SpacesAtTheContextsEndBelongToTheContinuation) {
  const Sequence r = encode_request(tokenizer_, "ab ", "ab", options_, "x");
  const Ids context = tokenizer_.encode("ab", true);
  EXPECT_EQ(r.ids, tokenizer_.encode("ab ab", true));
  EXPECT_EQ(r.begin, static_cast<std::int64_t>(context.size()) - 1);
  EXPECT_EQ(encode_request(tokenizer_, "ab", " ab", options_, "x").ids, r.ids);
}

TEST_F(ScoreTask, WithoutBosAndWithoutContext) {
  const Sequence bos = encode_request(tokenizer_, "ab", " b", options_, "x");
  const Sequence none = encode_request(tokenizer_, "ab", " b", {.context = 64, .bos = false}, "x");
  EXPECT_EQ(Ids(bos.ids.begin() + 1, bos.ids.end()), none.ids);
  EXPECT_EQ(bos.begin, none.begin + 1);
  const Sequence empty = encode_request(tokenizer_, "", "ab", options_, "x");
  EXPECT_EQ(empty.ids.front(), tokenizer_.data().bos_id);
  EXPECT_EQ(empty.begin, 0);
}

TEST_F(ScoreTask, LongContextsLoseTheirBeginning) {
  std::string context;
  for (int i = 0; i < 100; ++i) context += "acb";
  const Sequence r = encode_request(tokenizer_, context, " cc", options_, "x");
  EXPECT_EQ(r.ids.size(), 65u) << "64 tokens go in, the last one is only told";
  const Ids whole = tokenizer_.encode(context + " cc", true);
  EXPECT_TRUE(std::equal(r.ids.begin(), r.ids.end(), whole.end() - 65));
  EXPECT_THROW(encode_request(tokenizer_, "a", context, options_, "x"), Error) << "the continuation alone is too long";
}

TEST_F(ScoreTask, SumsAreThoseOfWholePasses) {
  const Task task = choices(12);
  const auto scores = score_task(*model_, tokenizer_, task, options_);
  for (std::size_t i = 0; i < task.items.size(); ++i)
    for (std::size_t r = 0; r < 3; ++r) {
      const Sequence request =
          encode_request(tokenizer_, task.items[i].context(r), task.delimiter + task.items[i].continuation(r), options_, "x");
      EXPECT_NEAR(scores[i].requests[r].log_likelihood, log_likelihood(request), 1e-4) << i << " " << r;
    }
}

TEST_F(ScoreTask, TwoContextsAndContinuations) {
  Task task;
  task.kind = TaskKind::kTwoContexts;
  task.items.push_back({{"abca", "abcb"}, {"cab"}, 0, "x"});
  const ItemScore score = score_task(*model_, tokenizer_, task, options_)[0];
  ASSERT_EQ(score.requests.size(), 2u);
  for (std::size_t r = 0; r < 2; ++r)
    EXPECT_NEAR(score.requests[r].log_likelihood,
                log_likelihood(encode_request(tokenizer_, task.items[0].context(r), " cab", options_, "x")), 1e-4);
  EXPECT_EQ(answer(score), score.requests[0].log_likelihood >= score.requests[1].log_likelihood ? 0u : 1u);
}

TEST_F(ScoreTask, SharedExamplesRunOnceAndChangeNothing) {
  Task task = choices(6);
  task.shots = 1;
  for (TaskItem& item : task.items) item.contexts[0] = "abc cab bca\n\n" + item.contexts[0];
  const auto scores = score_task(*model_, tokenizer_, task, options_);
  for (std::size_t i = 0; i < task.items.size(); ++i)
    EXPECT_NEAR(scores[i].requests[1].log_likelihood,
                log_likelihood(encode_request(tokenizer_, task.items[i].context(1), " " + task.items[i].continuation(1), options_, "x")),
                1e-4);
}

TEST_F(ScoreTask, ThreadsAndOtherItemsDoNotChangeABit) {
  const Task task = choices(40);
  std::vector<ItemScore> one;
  {
    const ThreadCount count(1);
    one = score_task(*model_, tokenizer_, task, options_);
  }
  for (const int threads : {2, 3, 8}) {
    const ThreadCount count(threads);
    expect_same(score_task(*model_, tokenizer_, task, options_), one, 40);
  }
  for (const std::size_t size : {1, 2, 3, 5, 17, 39}) {
    Task part = task;
    part.items.resize(size);
    expect_same(score_task(*model_, tokenizer_, part, options_), one, size);
  }
}

TEST_F(ScoreTask, AnglesThatFollowTheLengthAreNotShared) {
  ModelConfig c = config(tokenizer_);
  c.rope.type = RopeType::kDynamic;
  c.rope.factor = 2;
  c.max_positions = 16;  // of training: the items are longer
  model_ = test::tiny_decoder(1, c);
  const Task task = choices(4);
  const auto scores = score_task(*model_, tokenizer_, task, options_);
  for (std::size_t i = 0; i < 4; ++i)
    EXPECT_NEAR(scores[i].requests[2].log_likelihood,
                log_likelihood(encode_request(tokenizer_, task.items[i].context(2), " " + task.items[i].continuation(2), options_, "x")),
                1e-4);
}

TEST_F(ScoreTask, LogitsThatAreNotFiniteAreRefused) {
  {
    const at::NoGradGuard no_grad;
    model_->parameter("model.norm.weight").fill_(std::numeric_limits<float>::quiet_NaN());
  }
  try {
    score_task(*model_, tokenizer_, choices(3), options_);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("not finite"), std::string::npos) << error.what();
  }
}

ItemScore likelihoods(std::initializer_list<double> values) {
  ItemScore score;
  for (const double v : values) score.requests.push_back({v, false});
  return score;
}

double figure(const Task& task, const std::vector<ItemScore>& scores, const std::string& name) {
  for (const TaskMetric& metric : task_metrics(task, scores))
    if (metric.name == name) return metric.samples.value();
  return -1;
}

TEST(TaskMetrics, AccuracyByLengthCountsCharactersOrBytes) {
  Task task;
  // Sums -6, -7, -8; per character -3, -3.5, -2; per byte -3, -1.75, -2.
  task.items.push_back({{"q"}, {"ab", "\xc3\xa9\xc3\xa9", "abcd"}, 0, "x"});
  const std::vector<ItemScore> scores{likelihoods({-6, -7, -8})};
  for (const auto& [gold, name] : {std::pair{0, "acc"}, std::pair{2, "acc_norm"}, std::pair{1, "acc_bytes"}}) {
    task.items[0].gold = gold;
    EXPECT_EQ(figure(task, scores, name), 1) << name;
  }
  task.items[0].gold = 2;
  EXPECT_EQ(figure(task, scores, "acc"), 0);
  EXPECT_EQ(answer(likelihoods({-1, -1})), 0u) << "the first of equals";
}

TEST(TaskMetrics, ContinuationIsRightIfEveryTokenIsTheLikeliest) {
  Task task;
  task.kind = TaskKind::kContinuation;
  task.items = {{{"a"}, {"b"}, 0, "x"}, {{"a"}, {"c"}, 0, "y"}};
  std::vector<ItemScore> scores{likelihoods({-1}), likelihoods({-3})};
  scores[1].requests[0].greedy = true;
  EXPECT_EQ(figure(task, scores, "acc"), 0.5);
  EXPECT_DOUBLE_EQ(figure(task, scores, "perplexity"), std::exp(2));
}

TEST(TaskMetrics, WrittenAnswers) {
  Task task;
  task.kind = TaskKind::kGenerated;
  task.items = {{{"q"}, {"42", "forty-two"}, 0, "x"}};
  const auto right = [&](const std::string& text) {
    ItemScore score;
    score.generated = text;
    return figure(task, {score}, "exact_match") == 1;
  };
  EXPECT_TRUE(right(" 42\n"));
  EXPECT_TRUE(right("forty-two"));
  EXPECT_FALSE(right("Forty-Two."));
  task.ignore_case = task.ignore_punctuation = true;
  EXPECT_TRUE(right("Forty-Two."));
  EXPECT_FALSE(right("it is 42, not 43"));
  task.extract = "([0-9]+)";
  EXPECT_FALSE(right("it is 42, not 43")) << "the last match counts";
  EXPECT_TRUE(right("not 43, it is 42"));
  EXPECT_FALSE(right("nothing"));
}

TEST_F(ScoreTask, GeneratedTextStopsWhereTheTaskSays) {
  Task task;
  task.kind = TaskKind::kGenerated;
  task.max_tokens = 8;
  task.items = {{{"abc"}, {"x"}, 0, "x"}};
  const std::string all = score_task(*model_, tokenizer_, task, options_)[0].generated;
  ASSERT_GT(all.size(), 2u);
  task.stop = {all.substr(1, 1)};
  EXPECT_EQ(score_task(*model_, tokenizer_, task, options_)[0].generated, all.substr(0, all.find(task.stop[0])));
  task.max_tokens = 64;
  EXPECT_THROW(score_task(*model_, tokenizer_, task, options_), Error) << "no room for the question";
}

}  // namespace
}  // namespace attar
