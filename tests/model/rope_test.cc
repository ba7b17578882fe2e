#include "runtime/rope.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"
#include "tests/support.h"

namespace attar {
namespace {

// tests/model/rope_goldens.json names the program and version that computed it.
nlohmann::json goldens() {
  const char* source = std::getenv("ATTAR_SOURCE");
  return nlohmann::json::parse(read_text_file(fs::path(source != nullptr ? source : ".") / "tests/model/rope_goldens.json"));
}

Rope rope_of(const nlohmann::json& golden) {
  const nlohmann::json& json = golden["rope"];
  Rope rope;
  const std::string type = json["rope_type"];
  rope.type = type == "linear"     ? RopeType::kLinear
              : type == "dynamic"  ? RopeType::kDynamic
              : type == "llama3"   ? RopeType::kLlama3
              : type == "yarn"     ? RopeType::kYarn
              : type == "longrope" ? RopeType::kLongrope
                                   : RopeType::kDefault;
  rope.theta = json["rope_theta"];
  rope.partial_rotary_factor = json.value("partial_rotary_factor", 1.0);
  rope.original_max_positions = json.value("original_max_position_embeddings", 0);
  const double ratio =
      rope.original_max_positions > 0 ? golden["max_position_embeddings"].get<double>() / rope.original_max_positions : 1.0;
  rope.factor = json.value("factor", ratio);
  rope.low_freq_factor = json.value("low_freq_factor", 1.0), rope.high_freq_factor = json.value("high_freq_factor", 4.0);
  rope.beta_fast = json.value("beta_fast", 32.0), rope.beta_slow = json.value("beta_slow", 1.0);
  rope.mscale = json.value("mscale", 0.0), rope.mscale_all_dim = json.value("mscale_all_dim", 0.0);
  rope.truncate = json.value("truncate", true);
  if (json.contains("attention_factor")) rope.attention_factor = json["attention_factor"].get<double>();
  rope.short_factor = json.value("short_factor", std::vector<double>{});
  rope.long_factor = json.value("long_factor", std::vector<double>{});
  return rope;
}

TEST(Rope, MatchesTransformers) {
  const nlohmann::json file = goldens();
  ASSERT_EQ(file["cases"].size(), 18u);
  for (const auto& golden : file["cases"]) {
    SCOPED_TRACE(golden["name"].get<std::string>());
    const RopeFrequencies got =
        rope_frequencies(rope_of(golden), golden["head_dim"], golden["max_position_embeddings"], golden["length"]);
    const std::vector<double> expected = golden["inv_freq"];
    ASSERT_EQ(got.theta.size(), expected.size());
    // Theirs is computed in float32 throughout, ours rounded to it once.
    for (std::size_t j = 0; j < expected.size(); ++j) EXPECT_NEAR(got.theta[j] / expected[j], 1.0, 2e-6) << "pair " << j;
    EXPECT_NEAR(got.attention_factor, golden["attention_factor"].get<double>(), 1e-12);
  }
}

TEST(Rope, RefusesWhatHasNoAngles) {
  Rope rope;
  EXPECT_THROW(rotary_dims(rope, 7), Error);
  rope.partial_rotary_factor = 0.01;
  EXPECT_THROW(rotary_dims(rope, 32), Error);
  rope = Rope{};
  rope.type = RopeType::kLongrope;
  rope.short_factor = rope.long_factor = {1.0, 2.0};
  EXPECT_THROW(rope_frequencies(rope, 32, 512, 64), Error);  // 16 pairs
  rope = Rope{};
  rope.type = RopeType::kLinear;
  rope.factor = 0.0;
  EXPECT_THROW(rope_frequencies(rope, 32, 512, 64), Error);
}

}  // namespace
}  // namespace attar
