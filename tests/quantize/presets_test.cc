#include "quantize/presets.h"

#include <gtest/gtest.h>

#include <map>

#include "base/error.h"

namespace attar {
namespace {

ModelConfig config_of(std::int64_t hidden, std::int64_t ffn, std::int64_t layers, std::int64_t heads, std::int64_t kv_heads,
                      bool tied) {
  ModelConfig config;
  config.hidden_size = hidden;
  config.intermediate_size = ffn;
  config.layers = layers;
  config.heads = heads;
  config.kv_heads = kv_heads;
  config.head_dim = hidden / heads;
  config.vocab_size = 512;
  config.tied_embeddings = tied;
  return config;
}

std::vector<TensorPlan> plan_of(const ModelConfig& config, const std::string& preset,
                                const std::vector<std::string>& overrides = {}, bool pure = false) {
  PlanOptions options;
  options.preset = &preset_from_name(preset);
  options.pure = pure;
  for (const std::string& text : overrides) options.overrides.push_back(parse_override(text));
  return plan_types(config, parameters(config), options);
}

// By GGUF name without layer: "q4_k" if all layers agree, else runs such as "q6_k 0-1, q4_k 2-19".
std::map<std::string, std::string> types_by_name(const std::vector<TensorPlan>& plan) {
  std::map<std::string, std::vector<std::string>> types;
  for (const TensorPlan& tensor : plan) {
    std::string key = tensor.gguf_name.substr(0, tensor.gguf_name.find(".weight"));
    if (tensor.layer >= 0) key = key.substr(key.rfind('.') + 1);
    types[key].push_back(info(tensor.got).name);
  }
  std::map<std::string, std::string> result;
  for (const auto& [key, all] : types) {
    std::string& text = result[key];
    for (std::size_t i = 0, end; i < all.size(); i = end) {
      for (end = i; end < all.size() && all[end] == all[i];) ++end;
      text += (text.empty() ? "" : ", ") + all[i];
      if (end - i != all.size()) text += " " + std::to_string(i) + (end - i > 1 ? "-" + std::to_string(end - 1) : "");
    }
  }
  return result;
}

// What llama-quantize (build 11669) gave for models of these shapes. rest: q, k, gate and up, which agree.
struct Expected {
  std::string preset;
  std::uint32_t file_type;
  std::string embedding, head, value, output, down, rest;
};

void check(const ModelConfig& config, const std::vector<Expected>& all) {
  for (const Expected& expected : all) {
    SCOPED_TRACE(expected.preset);
    EXPECT_EQ(preset_from_name(expected.preset).file_type, expected.file_type);
    const auto types = types_by_name(plan_of(config, expected.preset));
    EXPECT_EQ(types.at("token_embd"), expected.embedding);
    EXPECT_EQ(types.contains("output") ? types.at("output") : "", expected.head);
    EXPECT_EQ(types.at("attn_v"), expected.value);
    EXPECT_EQ(types.at("attn_output"), expected.output);
    EXPECT_EQ(types.at("ffn_down"), expected.down);
    for (const char* name : {"attn_q", "attn_k", "ffn_gate", "ffn_up"}) EXPECT_EQ(types.at(name), expected.rest) << name;
  }
}

const std::string kMore6Of4 =
    "q6_k 0-1, q4_k 2-3, q6_k 4, q4_k 5-6, q6_k 7, q4_k 8-9, q6_k 10, q4_k 11-12, q6_k 13, q4_k 14-15, q6_k 16-19";
const std::string kMore6Of5 =
    "q6_k 0-1, q5_k 2-3, q6_k 4, q5_k 5-6, q6_k 7, q5_k 8-9, q6_k 10, q5_k 11-12, q6_k 13, q5_k 14-15, q6_k 16-19";

TEST(Presets, MixesOfAModelWithSharedKeyValueHeads) {
  check(config_of(256, 512, 20, 8, 2, false),
        {{"q4_0", 2, "q4_0", "q6_k", "q4_0", "q4_0", "q4_0", "q4_0"},
         {"q4_1", 3, "q4_1", "q6_k", "q4_1", "q4_1", "q4_1", "q4_1"},
         {"q5_0", 8, "q5_0", "q6_k", "q5_0", "q5_0", "q5_0", "q5_0"},
         {"q5_1", 9, "q5_1", "q6_k", "q5_1", "q5_1", "q5_1", "q5_1"},
         {"q8_0", 7, "q8_0", "q8_0", "q8_0", "q8_0", "q8_0", "q8_0"},
         {"q2_k", 10, "q2_k", "q6_k", "q4_k", "q3_k", "q3_k", "q2_k"},
         {"q3_k_s", 11, "q3_k", "q6_k", "q3_k", "q3_k", "q3_k", "q3_k"},
         {"q3_k_m", 12, "q3_k", "q6_k", "q5_k 0-1, q4_k 2-19", "q4_k", "q5_k 0, q4_k 1-19", "q3_k"},
         {"q3_k_l", 13, "q3_k", "q6_k", "q5_k", "q5_k", "q5_k", "q3_k"},
         {"q4_k_s", 14, "q4_k", "q6_k", "q5_k 0-3, q4_k 4-19", "q4_k", "q5_k 0-1, q4_k 2-19", "q4_k"},
         {"q4_k_m", 15, "q4_k", "q6_k", kMore6Of4, "q4_k", kMore6Of4, "q4_k"},
         {"q5_k_s", 16, "q5_k", "q6_k", "q5_k", "q5_k", "q5_k", "q5_k"},
         {"q5_k_m", 17, "q5_k", "q6_k", kMore6Of5, "q5_k", kMore6Of5, "q5_k"},
         {"q6_k", 18, "q6_k", "q6_k", "q6_k", "q6_k", "q6_k", "q6_k"},
         {"iq4_nl", 25, "iq4_nl", "q6_k", "q5_k", "iq4_nl", "q5_k 0-1, iq4_nl 2-19", "iq4_nl"},
         {"iq4_xs", 30, "iq4_xs", "q6_k", "q5_k", "iq4_xs", "q5_k 0-1, iq4_xs 2-19", "iq4_xs"},
         {"f16", 1, "f16", "f16", "f16", "f16", "f16", "f16"},
         {"bf16", 32, "bf16", "bf16", "bf16", "bf16", "bf16", "bf16"},
         {"f32", 0, "f32", "f32", "f32", "f32", "f32", "f32"}});
}

TEST(Presets, TiedEmbeddingsAreTheHead) {
  check(config_of(256, 512, 20, 4, 4, true),
        {{"q4_0", 2, "q6_k", "", "q4_0", "q4_0", "q4_0", "q4_0"},
         {"q8_0", 7, "q8_0", "", "q8_0", "q8_0", "q8_0", "q8_0"},
         {"q2_k", 10, "q6_k", "", "q3_k", "q3_k", "q3_k", "q2_k"},
         {"q4_k_m", 15, "q6_k", "", kMore6Of4, "q4_k", kMore6Of4, "q4_k"},
         {"iq4_nl", 25, "q6_k", "", "iq4_nl", "iq4_nl", "q5_k 0-1, iq4_nl 2-19", "iq4_nl"},
         {"iq4_xs", 30, "q6_k", "", "iq4_xs", "iq4_xs", "q5_k 0-1, iq4_xs 2-19", "iq4_xs"}});
}

TEST(Presets, ShapesThatSuperBlocksDoNotDivide) {
  const ModelConfig config = config_of(288, 768, 6, 6, 6, true);
  check(config, {{"q4_0", 2, "q8_0", "", "q4_0", "q4_0", "q4_0", "q4_0"},
                 {"q2_k", 10, "q8_0", "", "q4_0", "q4_0", "q3_k", "q4_0"},
                 {"q3_k_s", 11, "q8_0", "", "q4_0", "q4_0", "q3_k", "q4_0"},
                 {"q3_k_m", 12, "q8_0", "", "q5_1 0-1, q5_0 2-5", "q5_0", "q4_k", "q4_0"},
                 {"q3_k_l", 13, "q8_0", "", "q5_1", "q5_1", "q5_k", "q4_0"},
                 {"q4_k_s", 14, "q8_0", "", "q5_1 0-3, q5_0 4-5", "q5_0", "q4_k", "q5_0"},
                 {"q4_k_m", 15, "q8_0", "", "q5_0 0-1, q8_0 2, q5_0 3-4, q8_0 5", "q5_0",
                  "q4_k 0-1, q6_k 2, q4_k 3-4, q6_k 5", "q5_0"},
                 {"q5_k_s", 16, "q8_0", "", "q5_1", "q5_1", "q5_k", "q5_1"},
                 {"q5_k_m", 17, "q8_0", "", "q5_1 0-1, q8_0 2, q5_1 3-4, q8_0 5", "q5_1",
                  "q5_k 0-1, q6_k 2, q5_k 3-4, q6_k 5", "q5_1"},
                 {"q6_k", 18, "q8_0", "", "q8_0", "q8_0", "q6_k", "q8_0"},
                 {"iq4_nl", 25, "q8_0", "", "iq4_nl", "iq4_nl", "iq4_nl", "iq4_nl"},
                 {"iq4_xs", 30, "q8_0", "", "iq4_nl", "iq4_nl", "iq4_xs", "iq4_nl"}});
  for (const TensorPlan& tensor : plan_of(config, "q4_k_m")) {
    const bool fell_back = tensor.asked != tensor.got;
    EXPECT_EQ(tensor.reason, fell_back ? "288 columns do not divide into blocks of 256" : "") << tensor.name;
  }
}

TEST(Presets, PlainGroupsShrinkUntilTheyFit) {
  const Type g128 = *type_from_name("int3_g128");
  EXPECT_EQ(fitting_type(g128, 256), g128);
  EXPECT_STREQ(info(fitting_type(g128, 320)).name, "int3_g64");
  EXPECT_STREQ(info(fitting_type(g128, 288)).name, "int3_g32");
  EXPECT_EQ(fitting_type(g128, 100), Type::kF16);
  EXPECT_STREQ(info(fitting_type(*type_from_name("affine4_row"), 288)).name, "affine4_row");
  EXPECT_EQ(fitting_type(*type_from_name("affine4_row"), 100), Type::kF16);
}

TEST(Presets, PlainGroupsGiveTheHeadEightBits) {
  const ModelConfig config = config_of(256, 512, 2, 4, 4, false);
  const auto types = types_by_name(plan_of(config, "int3_g64"));
  EXPECT_EQ(types.at("output"), "int8_g64");
  for (const char* name : {"token_embd", "attn_v", "attn_output", "ffn_down", "ffn_up"}) EXPECT_EQ(types.at(name), "int3_g64") << name;
  EXPECT_EQ(types_by_name(plan_of(config_of(256, 512, 2, 4, 4, true), "affine4_row")).at("token_embd"), "affine8_row");
  EXPECT_EQ(types_by_name(plan_of(config, "int3_g64", {}, true)).at("output"), "int3_g64");
}

TEST(Presets, RowsThatNotEvenSmallBlocksDivide) {
  EXPECT_EQ(fitting_type(Type::kQ4_0, 100), Type::kF16);
  EXPECT_EQ(fitting_type(Type::kQ4_K, 100), Type::kF16);
  EXPECT_EQ(fitting_type(Type::kQ4_K, 512), Type::kQ4_K);
  EXPECT_EQ(fitting_type(Type::kF32, 100), Type::kF32);
}

TEST(Presets, NamesAndSuggestions) {
  EXPECT_STREQ(preset_from_name("Q4_K").name, "q4_k_m");
  EXPECT_STREQ(preset_from_name("Q8_0").name, "q8_0");
  try {
    preset_from_name("q4_k_n");
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("did you mean 'q4_k_"), std::string::npos) << error.what();
  }
}

TEST(Presets, PureGivesEveryMatrixTheSameType) {
  for (const TensorPlan& tensor : plan_of(config_of(256, 512, 8, 4, 4, true), "q4_k_m", {}, true))
    EXPECT_EQ(tensor.got, Type::kQ4_K) << tensor.name;
}

TEST(Presets, OverridesByEitherNameFirstWins) {
  const ModelConfig config = config_of(256, 512, 4, 4, 4, false);
  const auto plan =
      plan_of(config, "q4_k_m", {"layers\\.1\\.mlp=q8_0", "^blk\\.\\d+\\.ffn_(up|gate)=Q5_0", "lm_head=f16"});
  for (const TensorPlan& tensor : plan) {
    Type expected = fitting_type(tensor.asked, 256);
    if (tensor.name.find("layers.1.mlp") != std::string::npos)
      expected = Type::kQ8_0;
    else if (tensor.role == Role::kUp || tensor.role == Role::kGate)
      expected = Type::kQ5_0;
    else if (tensor.role == Role::kHead)
      expected = Type::kF16;
    else
      EXPECT_TRUE(tensor.got == Type::kQ4_K || tensor.got == Type::kQ6_K) << tensor.name;
    EXPECT_EQ(tensor.got, expected) << tensor.name;
  }
}

TEST(Presets, BadOverrides) {
  for (const char* text : {"ffn_down", "=q4_0", "ffn_(=q4_0", "ffn_down=q4_9", "ffn_down=iq2_xxs"})
    EXPECT_THROW(parse_override(text), Error) << text;
  try {
    parse_override("ffn_down=q6k");
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("'q6_k'"), std::string::npos) << error.what();
  }
  const ModelConfig config = config_of(256, 512, 2, 4, 4, false);
  EXPECT_THROW(plan_of(config, "q4_0", {"input_layernorm=q8_0"}), Error);       // only matrices have a type
  EXPECT_THROW(plan_of(config, "q4_0", {"mlp=q8_0", "ffn_down=q6_k"}), Error);  // never reached
}

TEST(Presets, FusedMatricesFollowTheValueRule) {
  ModelConfig config = config_of(256, 512, 20, 8, 8, false);
  config.family = Family::kPhi3;
  config.fused_qkv = config.fused_gate_up = true;
  const auto types = types_by_name(plan_of(config, "q4_k_m"));
  EXPECT_EQ(types.at("attn_qkv"), kMore6Of4);
  EXPECT_EQ(types.at("ffn_up"), "q4_k");
}

}  // namespace
}  // namespace attar
