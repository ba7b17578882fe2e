#include "quantize/allocate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/console.h"
#include "base/error.h"
#include "base/random.h"
#include "base/text.h"
#include "base/threads.h"
#include "quantize/divergence.h"
#include "quantize/imatrix.h"
#include "quantize/rtn.h"
#include "quantize/runtimes.h"
#include "quantize/sensitivity_file.h"
#include "quantize/tensors.h"
#include "tests/model/models.h"
#include "tests/support.h"

namespace attar {
namespace {

std::vector<Sensitivity> random_problem(std::uint64_t seed, std::size_t matrices = 7) {
  Random random(seed);
  std::vector<Sensitivity> problem(matrices);
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

TEST(Allocate, AsFewBytesAsACostAllows) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const std::vector<Sensitivity> problem = random_problem(seed);
    std::uint64_t high = 0;
    for (const Sensitivity& entry : problem) high += entry.candidates.back().bytes;
    const double least = best_by_trying(problem, high);
    for (const double factor : {1.5, 10.0, 60.0}) {
      const Total sum = total(allocate_for_cost(problem, factor * least));
      EXPECT_LE(sum.cost, factor * least);
      // No choice that is smaller by the rounding of sizes is good enough.
      EXPECT_GT(best_by_trying(problem, sum.bytes - 9 * (high / 20000 + 1)), factor * least) << seed << ", " << factor;
    }
    EXPECT_NEAR(total(allocate_for_cost(problem, 0.5 * least)).cost, least, 1e-12 * least) << "the best there is";
  }
}

TEST(Allocate, CurveFallsFromTheSmallestToTheBest) {
  const std::vector<Sensitivity> problem = random_problem(5);
  std::uint64_t low = 0, high = 0;
  for (const Sensitivity& entry : problem) low += entry.candidates.front().bytes, high += entry.candidates.back().bytes;
  std::vector<Total> curve;
  for (const std::vector<Candidate>& choice : cost_curve(problem, 10)) curve.push_back(total(choice));
  ASSERT_GE(curve.size(), 8u);
  EXPECT_EQ(curve.front().bytes, low);
  EXPECT_NEAR(curve.back().cost, best_by_trying(problem, high), 1e-12);
  for (std::size_t i = 1; i < curve.size(); ++i) {
    EXPECT_GT(curve[i].bytes, curve[i - 1].bytes);
    EXPECT_LT(curve[i].cost, curve[i - 1].cost);
  }
}

TEST(Allocate, TrialsReachAMeasuredTarget) {
  // What is measured is another power of what is expected, as after GPTQ.
  for (const double power : {0.8, 1.3})
    for (const double factor : {0.2, 3.0}) {
      const std::vector<Sensitivity> problem = random_problem(7, 30);
      const auto truth = [&](const std::vector<Candidate>& chosen) { return factor * std::pow(total(chosen).cost, power); };
      const double target = truth(allocate_for_cost(problem, 8 * total(allocate_for_cost(problem, 0)).cost));
      const Trials trials = allocate_for_measured(problem, target, 0.4, truth);
      EXPECT_LE(trials.all.size(), 4u);
      const Trial& best = trials.all[trials.best];
      EXPECT_EQ(best.measured, truth(best.chosen));
      EXPECT_EQ(best.expected, total(best.chosen).cost);
      EXPECT_LE(best.measured, target);
      EXPECT_GE(best.measured, 0.95 * target) << "larger than it need be";
      for (const Trial& other : trials.all)
        EXPECT_TRUE(other.measured > target || total(other.chosen).bytes >= total(best.chosen).bytes);
    }
}

TEST(Allocate, TargetOutOfReachSaysWhatTheBestTypesReach) {
  const std::vector<Sensitivity> problem = random_problem(9);
  try {
    allocate_for_measured(problem, 1e-9, 1, [](const std::vector<Candidate>&) { return 0.125; });
    FAIL();
  } catch (const Error& error) {
    const std::string what = error.what();
    std::uint64_t high = 0;
    for (const Sensitivity& entry : problem) high += entry.candidates.back().bytes;
    EXPECT_NE(what.find("out of reach: the best of the types allowed measure 0.125 in " + std::to_string(high)), std::string::npos) << what;
  }
  // Far worse than expected everywhere, yet the best types do reach it.
  const Trials trials = allocate_for_measured(problem, 0.1, 1, [&](const std::vector<Candidate>& chosen) {
    return total(chosen).cost > 1.01 * total(allocate_for_cost(problem, 0)).cost ? 5.0 : 0.09;
  });
  EXPECT_EQ(trials.all[trials.best].measured, 0.09);
}

TEST(Runtimes, NamesAndTypes) {
  EXPECT_EQ(type_list(runtime_from_name("kleidiai").types), "q4_0,q8_0");
  EXPECT_TRUE(is_fast(runtime_from_name("llama.cpp-arm"), Type::kIQ4_NL));
  EXPECT_FALSE(is_fast(runtime_from_name("llama.cpp-arm"), Type::kQ5_0));
  for (const Runtime& runtime : all_runtimes())
    for (const Type type : runtime.types) EXPECT_EQ(runtime.gguf, !group_format(type)) << runtime.name << " " << info(type).name;
  for (const Type type : runtime_from_name("ort").types) EXPECT_NE(group_format(type)->bits, 3);
  try {
    runtime_from_name("kleidi");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("did you mean 'kleidiai'"), std::string::npos) << error.what();
  }
}

ModelConfig small_config() {
  ModelConfig config = test::tiny_config(Family::kLlama, 4, 2, 16);
  config.hidden_size = 64;
  config.intermediate_size = 96;
  return config;
}

std::vector<Ids> random_chunks() {
  Random random(1);
  std::vector<Ids> chunks(8, Ids(32));
  for (Ids& chunk : chunks)
    for (std::int64_t& id : chunk) id = static_cast<std::int64_t>(random.below(61));
  return chunks;
}

TEST(Sensitivities, SeeWhichMatrixMatters) {
  set_verbosity(Verbosity::kQuiet);
  const auto decoder = test::tiny_decoder(small_config());
  {
    // A layer whose output is cut to a thousandth cannot matter.
    const at::NoGradGuard no_grad;
    for (const std::string& name : decoder->parameter_names())
      if (decoder->parameter(name).dim() == 2) decoder->parameter(name).mul_(0.5);
    decoder->parameter("model.layers.1.mlp.down_proj.weight").mul_(1e-3);
  }
  const Checkpoint model = to_checkpoint(*decoder, {});
  const std::vector<Ids> chunks = random_chunks();
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

// What is expected of other types, from q4_0's measured damage, against measuring them too: in a model where a few columns of what
// enters a layer are large, so that errors of weights say little.
TEST(Sensitivities, ForetellWhatOtherTypesCost) {
  set_verbosity(Verbosity::kQuiet);
  const at::NoGradGuard no_grad;
  const auto decoder = test::tiny_decoder(small_config());
  for (const std::string& name : decoder->parameter_names())
    if (decoder->parameter(name).dim() == 2) decoder->parameter(name).mul_(0.3);
  for (int layer = 0; layer < 2; ++layer)
    for (const std::int64_t column : {3, 40}) decoder->parameter(cat("model.layers.", layer, ".post_attention_layernorm.weight"))[column].mul_(10);
  const Checkpoint model = to_checkpoint(*decoder, {});
  const std::vector<Ids> chunks = random_chunks();
  const ImportanceMatrix inputs = measure_imatrix(model, chunks);
  const auto original = load_decoder(model);
  const OneTorchThread one_thread;
  DivergenceMeter divergence(*original, chunks, {0, 32});
  for (const Sensitivity& entry : measure_sensitivities(model, chunks, {Type::kQ4_0, Type::kQ4_1, Type::kIQ4_NL, Type::kQ5_0})) {
    if (entry.name.find("up_proj") == std::string::npos) continue;
    const auto& own = inputs.entries.at(cat("blk.", entry.name.substr(13, 1), ".ffn_up.weight"));
    for (const Candidate& candidate : entry.candidates) {
      const double measured = divergence.with(entry.name, decoded(rtn(candidate.type, model.at(entry.name), own.sums).Q));
      EXPECT_NEAR(candidate.cost / measured, 1, 0.3) << entry.name << " in " << info(candidate.type).name;
    }
  }
  set_verbosity(Verbosity::kNormal);
}

class SensitivityFile : public testing::Test {
 protected:
  std::string refused(const nlohmann::json& key, const std::vector<Type>& types = {Type::kQ4_0}) {
    try {
      read_sensitivities(file_, key, model_, types);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }

  test::TempFolder folder_;
  fs::path file_ = folder_ / "s.json";
  Checkpoint model_ = [] {
    ModelConfig config = test::tiny_config(Family::kLlama, 4, 2, 16);
    config.hidden_size = 64;
    config.intermediate_size = 96;
    return to_checkpoint(*test::tiny_decoder(small_config()), {});
  }();
  nlohmann::json key_ = {{"tokenizer", "t"}, {"model", "m"}, {"context", 32}, {"chunks", 8}, {"text", "x"}, {"protocol", "p"}};
};

TEST_F(SensitivityFile, ComesBackToTheLastBitForFewerTypes) {
  Random random(2);
  const std::vector<Sensitivity> all =
      sensitivities_from(model_, {Type::kQ8_0, Type::kQ4_0, Type::kQ5_1}, [&](const Tensor&, Type) { return random.uniform() / 3; });
  write_sensitivities(all, key_, file_);
  const std::vector<Sensitivity> back = read_sensitivities(file_, key_, model_, {Type::kQ4_0, Type::kQ8_0});
  ASSERT_EQ(back.size(), all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(back[i].name, all[i].name);
    ASSERT_EQ(back[i].candidates.size(), 2u);
    for (const auto& [b, a] : {std::pair{0, 0}, {1, 2}}) {
      EXPECT_EQ(back[i].candidates[b].type, all[i].candidates[a].type);
      EXPECT_EQ(back[i].candidates[b].bytes, all[i].candidates[a].bytes);
      EXPECT_EQ(back[i].candidates[b].cost, all[i].candidates[a].cost);
    }
  }
}

TEST_F(SensitivityFile, OfSomethingElseIsRefusedNamingWhat) {
  const auto expect = [&](const std::string& said, const std::string& wanted) { EXPECT_NE(said.find(wanted), std::string::npos) << said; };
  write_sensitivities(sensitivities_from(model_, {Type::kQ4_0}, [](const Tensor&, Type) { return 1.0; }), key_, file_);
  EXPECT_EQ(refused(key_), "no error");
  for (const auto& [part, wanted] : {std::pair{"tokenizer", "is of another tokenizer (tokenizer \"t\", here \"y\")"},
                                     {"model", "is of another model"}, {"context", "chunks of another --context"},
                                     {"chunks", "another number of chunks"}, {"text", "other calibration text"},
                                     {"protocol", "another way of measuring"}}) {
    nlohmann::json key = key_;
    key[part] = "y";
    expect(refused(key), wanted);
  }
  expect(refused(key_, {Type::kQ8_0}), "has no figure for model.embed_tokens.weight in q8_0");
  auto json = nlohmann::json::parse(read_text_file(file_));
  json["sensitivities"] = 99;
  write_text_file(file_, json.dump());
  expect(refused(key_), "has version 99, this program reads 2");
  json["sensitivities"] = 2;
  json["matrices"][0]["kl"]["q4_0"] = -1;
  write_text_file(file_, json.dump());
  expect(refused(key_), "has no figure for model.embed_tokens.weight");
  json["matrices"][0].erase("kl");
  write_text_file(file_, json.dump());
  expect(refused(key_), "is damaged");
  for (const char* text : {"", "[]", "{\"sensitivities\": 1}", "{\"sensitivities\": 1, \"of\": {}, \"matrices\": 3}", "not json"}) {
    write_text_file(file_, text);
    EXPECT_NE(refused(key_), "no error") << text;
  }
  expect(refused(key_), "is no file of sensitivities");
}

}  // namespace
}  // namespace attar
