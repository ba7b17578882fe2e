// A known degradation, noise in one layer of the built-in teacher: what the gate says at several numbers of items agrees with what it
// says it can detect.
#include <gtest/gtest.h>

#include <cmath>

#include "base/random.h"
#include "convert/checkpoint.h"
#include "datasets/corpus.h"
#include "eval/gate.h"
#include "eval/measure.h"
#include "eval/score_task.h"

namespace attar {
namespace {

constexpr std::int64_t kItems = 1000;

class Power : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    checkpoint_ = new Checkpoint(open_checkpoint("builtin:teacher"));
    tokenizer_ = new Tokenizer(checkpoint_->tokenizer);
    task_ = new Task(cloze_task(cloze_items(Split::kHeldout, kItems)));
    sound_ = new Samples(answers(0));
  }
  static void TearDownTestSuite() { delete checkpoint_, delete tokenizer_, delete task_, delete sound_; }

  // noise: its standard deviation, as a share of the weights'.
  static std::shared_ptr<Decoder> spoiled(double noise) {
    const auto decoder = load_decoder(*checkpoint_);
    const at::NoGradGuard no_grad;
    at::manual_seed(1);
    at::Tensor& weight = decoder->parameter("model.layers.1.mlp.down_proj.weight");
    weight.add_(at::randn(weight.sizes()) * weight.std() * noise);
    return decoder;
  }
  static Samples answers(double noise) {
    const auto decoder = spoiled(noise);
    return task_metrics(*task_, score_task(*decoder, *tokenizer_, *task_, {.context = 256}))[0].samples;
  }

  static Samples part(const Samples& all, std::int64_t first, std::int64_t n) {
    const auto cut = [&](const std::vector<double>& v) { return std::vector<double>(v.begin() + first, v.begin() + first + n); };
    return {all.link, cut(all.sums), cut(all.weights)};
  }

  // The loss of each chunk of the held-out text.
  static Samples losses(Decoder& decoder) {
    const Ids ids = tokenize_text(*tokenizer_, read_source("builtin:heldout"), checkpoint_->config.vocab_size, "text");
    const TextPlan plan = plan_chunks(cut_chunks(ids, {.context = 64, .chunks = 400}, chunk_bos(checkpoint_->tokenizer), "text"), *tokenizer_);
    const TokenScores scores = measure(decoder, nullptr, plan.sequences, "test");
    Samples samples{Samples::Link::kExp, {}, {}};
    std::size_t slot = 0;
    for (const Sequence& s : plan.sequences) {
      double sum = 0;
      for (std::int64_t p = s.begin; p < s.end; ++p) sum += scores.nll[slot++];
      samples.sums.push_back(sum), samples.weights.push_back(static_cast<double>(s.end - s.begin));
    }
    return samples;
  }

  static GateCheck judge_perplexity(const Samples& model, const Samples& reference, std::uint64_t seed) {
    EvalResult result;
    result.samples["perplexity.value"] = model;
    result.reference_samples["perplexity.value"] = reference;
    const auto gate = parse_gate("[perplexity.value]\nagainst = \"reference\"\nmax_ratio = 1\nsignificance = 0.05\n", "g");
    return check_gate(gate, result, nullptr, {.seed = seed, .replicates = 400}).checks[0];
  }

  static GateCheck judge(const Samples& model, const Samples& reference) {
    EvalResult result;
    result.samples["tasks.cloze.acc"] = model;
    result.reference_samples["tasks.cloze.acc"] = reference;
    return check_gate(parse_gate("[tasks.cloze.acc]\nagainst = \"reference\"\nmax_decrease = 0\nsignificance = 0.05\n", "g"), result).checks[0];
  }

  static const Checkpoint* checkpoint_;
  static const Tokenizer* tokenizer_;
  static const Task* task_;
  static const Samples* sound_;
};
const Checkpoint* Power::checkpoint_ = nullptr;
const Tokenizer* Power::tokenizer_ = nullptr;
const Task* Power::task_ = nullptr;
const Samples* Power::sound_ = nullptr;

TEST_F(Power, VerdictsComeAsOftenAsPredicted) {
  for (const double noise : {0.3, 1.0, 2.0}) {
    const Samples worse = answers(noise);
    const Discordance all = discordance(worse, *sound_);
    const double drop = static_cast<double>(all.lost - all.won) / kItems, discordant = static_cast<double>(all.lost + all.won) / kItems;
    for (const std::int64_t n : {50, 200, 1000}) {
      double found = 0;
      for (std::int64_t first = 0; first < kItems; first += n) {
        const GateCheck check = judge(part(worse, first, n), part(*sound_, first, n));
        found += check.outcome == Outcome::kWorse;
        if (drop > 2 * check.detectable) {
          EXPECT_EQ(check.outcome, Outcome::kWorse) << noise << " " << n;
        }
      }
      const double times = static_cast<double>(kItems / n), power = mcnemar_power(n, drop, std::max(discordant, drop), 0.05);
      std::printf("noise %.1f  true drop %.3f  n %4ld  called worse %.2f  predicted %.2f\n", noise, drop, static_cast<long>(n), found / times,
                  power);
      EXPECT_NEAR(found / times, power, 3 * std::sqrt(std::max(power * (1 - power), 0.02) / times)) << noise << " " << n;
    }
  }
}

// The chunks at hand are all there is; drawn from with replacement, any number of texts of any length has a known true ratio.
TEST_F(Power, OfPerplexityAsPredicted) {
  const Samples sound = losses(*load_decoder(*checkpoint_));
  Random random(3);
  for (const double noise : {0.1, 0.2, 0.4}) {
    const Samples worse = losses(*spoiled(noise));
    const double change = worse.value() / sound.value() - 1;
    for (const std::int64_t n : {50, 200, 1000}) {
      const int trials = n == 1000 ? 60 : 150;
      double found = 0, predicted = 0;
      for (int trial = 0; trial < trials; ++trial) {
        Samples a{Samples::Link::kExp, {}, {}}, b = a;
        for (std::int64_t i = 0; i < n; ++i) {
          const auto unit = static_cast<std::size_t>(random.below(sound.size()));
          a.sums.push_back(worse.sums[unit]), a.weights.push_back(worse.weights[unit]);
          b.sums.push_back(sound.sums[unit]), b.weights.push_back(sound.weights[unit]);
        }
        const GateCheck check = judge_perplexity(a, b, static_cast<std::uint64_t>(trial));
        found += check.outcome == Outcome::kWorse;
        // A worsening of what is called detectable is seen 4 times in 5, by definition; others as a normal mean would be.
        const double z = (normal_quantile(0.95) + normal_quantile(kPower)) * change / check.detectable - normal_quantile(0.95);
        predicted += 0.5 * std::erfc(-z / std::sqrt(2.0));
      }
      found /= trials, predicted /= trials;
      std::printf("noise %.1f  true ratio %.4f  n %4ld  called worse %.2f  predicted %.2f\n", noise, 1 + change, static_cast<long>(n), found, predicted);
      EXPECT_NEAR(found, predicted, 3 * std::sqrt(std::max(predicted * (1 - predicted), 0.02) / trials) + 0.03) << noise << " " << n;
    }
  }
}

TEST_F(Power, TheSoundModelIsNeverCalledWorse) {
  for (const std::int64_t n : {50, 200, 1000})
    for (std::int64_t first = 0; first < kItems; first += n) {
      const Samples s = part(*sound_, first, n);
      EXPECT_EQ(judge(s, s).outcome, Outcome::kPass);
    }
}

}  // namespace
}  // namespace attar
