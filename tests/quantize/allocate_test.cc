#include "quantize/allocate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "base/console.h"
#include "base/error.h"
#include "base/random.h"
#include "base/threads.h"
#include "tests/model/models.h"

namespace attar {
namespace {

std::vector<Sensitivity> random_problem(std::uint64_t seed) {
  Random random(seed);
  std::vector<Sensitivity> problem(7);
  for (Sensitivity& entry : problem) {
    const std::uint64_t weights = 1000 * (1 + random.below(50));
    const double weight = random.uniform();
    for (const auto& [type, bits] : {std::pair{Type::kQ2_K, 2}, {Type::kQ3_K, 3}, {Type::kQ4_K, 4}, {Type::kQ6_K, 6}})
      entry.candidates.push_back({type, weights * static_cast<std::uint64_t>(bits) / 8, weight * std::pow(4.0, -bits) * (0.5 + random.uniform())});
  }
  return problem;
}

// All 4^7 choices.
double best_by_trying(const std::vector<Sensitivity>& problem, std::uint64_t budget) {
  double best = 1e9;
  const std::function<void(std::size_t, std::uint64_t, double)> go = [&](std::size_t i, std::uint64_t bytes, double cost) {
    if (bytes > budget) return;
    if (i == problem.size()) {
      best = std::min(best, cost);
      return;
    }
    for (const Candidate& c : problem[i].candidates) go(i + 1, bytes + c.bytes, cost + c.cost);
  };
  go(0, 0, 0);
  return best;
}

TEST(Allocate, FindsTheBestOfAllChoices) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const std::vector<Sensitivity> problem = random_problem(seed);
    std::uint64_t low = 0, high = 0;
    for (const Sensitivity& entry : problem) low += entry.candidates.front().bytes, high += entry.candidates.back().bytes;
    for (const std::uint64_t budget : {low + (high - low) / 3, low + 2 * (high - low) / 3, 2 * high}) {
      std::uint64_t bytes = 0;
      double cost = 0;
      for (const Candidate& c : allocate(problem, budget)) bytes += c.bytes, cost += c.cost;
      EXPECT_LE(bytes, budget);
      // Sizes are rounded up: what a budget smaller by that rounding allows is reached for certain.
      EXPECT_LE(cost, best_by_trying(problem, budget - 7 * (budget / 20000 + 1)) * (1 + 1e-12));
      EXPECT_GE(cost, best_by_trying(problem, budget) * (1 - 1e-12));
    }
  }
}

TEST(Allocate, SmallestIsReachedAndBelowItIsAnError) {
  const std::vector<Sensitivity> problem = random_problem(3);
  std::uint64_t low = 0;
  for (const Sensitivity& entry : problem) low += entry.candidates.front().bytes;
  for (const Candidate& c : allocate(problem, low)) EXPECT_EQ(c.type, Type::kQ2_K);
  try {
    allocate(problem, low - 1);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(std::to_string(low)), std::string::npos) << error.what();
  }
}

TEST(Sensitivities, SeeWhichMatrixMatters) {
  set_verbosity(Verbosity::kQuiet);
  ModelConfig config = test::tiny_config(Family::kLlama, 4, 2, 16);
  config.hidden_size = 64;
  config.intermediate_size = 96;
  const auto decoder = test::tiny_decoder(config);
  {
    // A layer whose output is cut to a thousandth cannot matter.
    const torch::NoGradGuard no_grad;
    for (const std::string& name : decoder->parameter_names())
      if (decoder->parameter(name).dim() == 2) decoder->parameter(name).mul_(0.5);
    decoder->parameter("model.layers.1.mlp.down_proj.weight").mul_(1e-3);
  }
  const Checkpoint model = to_checkpoint(*decoder, {});
  Random random(1);
  std::vector<Ids> chunks(8, Ids(32));
  for (Ids& chunk : chunks)
    for (std::int64_t& id : chunk) id = static_cast<std::int64_t>(random.below(61));
  const std::vector<Type> types = {Type::kQ4_0, Type::kQ8_0, Type::kQ6_K};
  const int before = thread_count();
  std::vector<std::vector<Sensitivity>> all;
  for (const int threads : {1, 3}) {
    set_thread_count(threads);
    all.push_back(measure_sensitivities(model, chunks, types));
  }
  set_thread_count(before);
  set_verbosity(Verbosity::kNormal);
  ASSERT_EQ(all[0].size(), 2u + 3 * 7);
  std::map<std::string, double> cost;
  for (std::size_t i = 0; i < all[0].size(); ++i) {
    const Sensitivity& entry = all[0][i];
    ASSERT_EQ(entry.candidates.size(), 2u) << "256 does not divide 64 or 96";
    EXPECT_EQ(entry.candidates[0].type, Type::kQ4_0);
    EXPECT_LE(entry.candidates[1].cost, 0.02 * entry.candidates[0].cost) << entry.name;
    EXPECT_EQ(entry.candidates[0].cost, all[1][i].candidates[0].cost) << "depends on the number of threads";
    cost[entry.name] = entry.candidates[0].cost;
  }
  EXPECT_LT(cost["model.layers.1.mlp.down_proj.weight"], 1e-2 * cost["model.layers.0.mlp.down_proj.weight"]);
  EXPECT_THROW(measure_sensitivities(model, {}, types), Error);
  EXPECT_THROW(measure_sensitivities(model, chunks, {Type::kQ6_K}), Error);
}

}  // namespace
}  // namespace attar
