// A known degradation, noise in one layer of the built-in teacher: what the gate says at several numbers of items agrees with what it
// says it can detect.
#include <gtest/gtest.h>

#include <cmath>

#include "convert/checkpoint.h"
#include "eval/gate.h"
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
  static Samples answers(double noise) {
    const auto decoder = load_decoder(*checkpoint_);
    if (noise > 0) {
      const at::NoGradGuard no_grad;
      at::manual_seed(1);
      at::Tensor& weight = decoder->parameter("model.layers.1.mlp.down_proj.weight");
      weight.add_(at::randn(weight.sizes()) * weight.std() * noise);
    }
    return task_metrics(*task_, score_task(*decoder, *tokenizer_, *task_, {.context = 256}))[0].samples;
  }

  static Samples part(const Samples& all, std::int64_t first, std::int64_t n) {
    const auto cut = [&](const std::vector<double>& v) { return std::vector<double>(v.begin() + first, v.begin() + first + n); };
    return {all.link, cut(all.sums), cut(all.weights)};
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
        if (drop > 2 * check.detectable) EXPECT_EQ(check.outcome, Outcome::kWorse) << noise << " " << n;
      }
      const double times = static_cast<double>(kItems / n), power = mcnemar_power(n, drop, std::max(discordant, drop), 0.05);
      std::printf("noise %.1f  true drop %.3f  n %4ld  called worse %.2f  predicted %.2f\n", noise, drop, static_cast<long>(n), found / times,
                  power);
      EXPECT_NEAR(found / times, power, 3 * std::sqrt(std::max(power * (1 - power), 0.02) / times)) << noise << " " << n;
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
