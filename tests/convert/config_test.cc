#include <cmath>

#include "convert/model_config.h"
#include "convert/rope_config.h"
#include "tests/convert/bytes.h"
#include "tests/convert/synthetic.h"

namespace attar {
namespace {

using nlohmann::json;
using test::base_config;

ModelConfig parse(const json& config) { return parse_config(config, "config.json"); }

TEST(Config, DefaultsAreThoseOfEachFamily) {
  const json sizes = {{"hidden_size", 64},
                      {"intermediate_size", 96},
                      {"num_hidden_layers", 12},
                      {"num_attention_heads", 8},
                      {"vocab_size", 300}};
  const auto of = [&](const char* type, const json& more = json::object()) {
    json config = sizes;
    config["model_type"] = type;
    config.update(more);
    return parse(config);
  };
  EXPECT_EQ(of("llama").kv_heads, 8);
  EXPECT_EQ(of("llama").head_dim, 8);
  EXPECT_EQ(of("llama").norm_eps, 1e-6);
  EXPECT_FALSE(of("llama").tied_embeddings);
  EXPECT_FALSE(of("llama").qkv_bias);
  EXPECT_EQ(of("mistral").kv_heads, 8);
  EXPECT_EQ(of("mistral").sliding_window, 4096);
  EXPECT_EQ(of("mistral", {{"sliding_window", nullptr}}).sliding_window, 0);
  EXPECT_TRUE(of("mistral").is_sliding(0));
  EXPECT_EQ(of("phi3").norm_eps, 1e-5);
  EXPECT_TRUE(of("phi3").fused_qkv);
  EXPECT_EQ(of("qwen3", {{"num_key_value_heads", 4}}).head_dim, 128);
  EXPECT_TRUE(of("qwen3", {{"num_key_value_heads", 4}}).qk_norm);
  const ModelConfig qwen2 = of("qwen2", {{"num_key_value_heads", 4}});
  EXPECT_TRUE(qwen2.qkv_bias);
  EXPECT_FALSE(qwen2.output_bias);
  EXPECT_EQ(qwen2.sliding_window, 0);
  const ModelConfig gemma2 = of("gemma2");
  EXPECT_TRUE(gemma2.tied_embeddings && gemma2.norm_adds_one && gemma2.post_norms && gemma2.scaled_embeddings);
  EXPECT_EQ(gemma2.attention_softcap, 50.0);
  EXPECT_EQ(gemma2.final_softcap, 30.0);
  EXPECT_EQ(gemma2.attention_scale, 1.0 / 16);
  EXPECT_EQ(gemma2.activation, Activation::kGeluTanh);
  EXPECT_TRUE(gemma2.is_sliding(0) && !gemma2.is_sliding(1) && gemma2.is_sliding(2));
  EXPECT_EQ(of("gemma2", {{"attn_logit_softcapping", nullptr}}).attention_softcap, 0.0);
  const ModelConfig gemma3 = of("gemma3_text");
  EXPECT_EQ(gemma3.attention_softcap, 0.0);
  EXPECT_EQ(gemma3.rope.theta, 1e6);
  EXPECT_EQ(gemma3.local_rope.theta, 1e4);
  for (int i = 0; i < 12; ++i) EXPECT_EQ(gemma3.is_sliding(i), i != 5 && i != 11) << i;
}

TEST(Config, BothStylesSayTheSame) {
  const json llama3 = {{"rope_type", "llama3"},
                       {"factor", 32.0},
                       {"low_freq_factor", 1.0},
                       {"high_freq_factor", 4.0},
                       {"original_max_position_embeddings", 8192}};
  json four = base_config("llama", {{"rope_theta", 5e5}, {"rope_scaling", llama3}, {"torch_dtype", "bfloat16"}});
  json five = base_config("llama", {{"rope_parameters", llama3}, {"dtype", "bfloat16"}});
  five.erase("rope_theta");
  five["rope_parameters"]["rope_theta"] = 5e5;
  for (const ModelConfig& config : {parse(four), parse(five)}) {
    EXPECT_EQ(config.rope.type, RopeType::kLlama3);
    EXPECT_EQ(config.rope.theta, 5e5);
    EXPECT_EQ(config.rope.factor, 32.0);
    EXPECT_EQ(config.rope.original_max_positions, 8192);
    EXPECT_EQ(config.dtype, "bfloat16");
  }
  json gemma =
      base_config("gemma3_text", {{"rope_parameters",
                                   {{"full_attention", {{"rope_type", "linear"}, {"factor", 8.0}, {"rope_theta", 1e6}}},
                                    {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 1e4}}}}}});
  EXPECT_EQ(parse(gemma).rope.type, RopeType::kLinear);
  EXPECT_EQ(parse(gemma).local_rope.type, RopeType::kDefault);
  EXPECT_EQ(parse(gemma).local_rope.theta, 1e4);
}

TEST(Config, NestedTextConfig) {
  json text = base_config("gemma3_text");
  text.erase("eos_token_id");
  const ModelConfig config = parse({{"model_type", "gemma3"},
                                    {"architectures", {"Gemma3ForConditionalGeneration"}},
                                    {"text_config", text},
                                    {"eos_token_id", {1, 106}},
                                    {"torch_dtype", "bfloat16"}});
  EXPECT_EQ(config.family, Family::kGemma3);
  EXPECT_EQ(config.eos_ids, (std::vector<std::int64_t>{1, 106}));
  EXPECT_EQ(config.dtype, "bfloat16");
}

TEST(Config, QwenWindowStartsAtItsLayer) {
  const ModelConfig config =
      parse(base_config("qwen2", {{"use_sliding_window", true}, {"sliding_window", 16}, {"max_window_layers", 2}}));
  EXPECT_EQ(config.sliding_layers, (std::vector<bool>{false, false, true}));
}

TEST(Config, Longrope) {
  std::vector<double> factors(8, 2.0);
  json config =
      base_config("phi3", {{"original_max_position_embeddings", 32},
                           {"rope_scaling", {{"type", "su"}, {"short_factor", factors}, {"long_factor", factors}}}});
  EXPECT_EQ(parse(config).rope.type, RopeType::kLongrope);
  EXPECT_EQ(parse(config).rope.factor, 4.0);
  config["partial_rotary_factor"] = 0.5;
  EXPECT_ERROR(parse(config), "need 4 numbers each, found 8");
}

TEST(Config, RoundTripKeepsEverything) {
  for (const auto& [name, config] : test::all_variants()) {
    const ModelConfig before = parse(config);
    const json written = config_json(before);
    const ModelConfig after = parse(written);
    EXPECT_EQ(config_json(after), written) << name;
    EXPECT_EQ(after.sliding_layers, before.sliding_layers) << name;
    EXPECT_EQ(after.attention_scale, before.attention_scale) << name;
    EXPECT_EQ(after.rope.type, before.rope.type) << name;
    EXPECT_EQ(after.rope.factor, before.rope.factor) << name;
    EXPECT_EQ(after.local_rope.theta, before.local_rope.theta) << name;
    EXPECT_EQ(after.qkv_bias, before.qkv_bias) << name;
    // transformers checks the types of its fields: a number that was an integer is written as one.
    for (const auto& [key, value] : config.items())
      if (value.is_number_integer() && written.contains(key) && written[key].is_number()) {
        EXPECT_TRUE(written[key].is_number_integer()) << name << " " << key << " " << written[key];
      }
  }
}

TEST(Config, ParametersOfEachFamily) {
  const auto count = [](const json& config) { return parameters(parse(config)).size(); };
  EXPECT_EQ(count(base_config("llama")), 1 + 3 * 9 + 2);
  EXPECT_EQ(count(base_config("llama", {{"attention_bias", true}, {"mlp_bias", true}})), 1 + 3 * 16 + 2);
  EXPECT_EQ(count(base_config("qwen2")), 1 + 3 * 12 + 2);
  EXPECT_EQ(count(base_config("qwen3")), 1 + 3 * 11 + 2);
  EXPECT_EQ(count(base_config("phi3")), 1 + 3 * 6 + 2);
  EXPECT_EQ(count(base_config("gemma2")), 1 + 3 * 11 + 1);
  EXPECT_EQ(count(base_config("gemma3_text")), 1 + 3 * 13 + 1);
}

TEST(Config, NamesWhatIsWrong) {
  for (const char* key :
       {"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"}) {
    json config = base_config("llama");
    config.erase(key);
    EXPECT_ERROR(parse(config), std::string("config.json: the key '") + key + "' is missing");
    config[key] = 0;
    EXPECT_ERROR(parse(config), std::string("'") + key + "' is 0");
    config[key] = "many";
    EXPECT_ERROR(parse(config), "must be a whole number");
    config[key] = std::int64_t{1} << 60;
    EXPECT_ERROR(parse(config), "expected 1 to");
    config[key] = UINT64_MAX;
    EXPECT_ERROR(parse(config), "expected 1 to");
  }
  EXPECT_ERROR(parse(json::array()), "expected a JSON object");
  EXPECT_ERROR(parse({{"a", 1}}), "'model_type' is missing");
  EXPECT_ERROR(parse(base_config("lama")), "did you mean 'llama'?");
  EXPECT_ERROR(parse(base_config("bert-base-cased")), "unknown architecture");
  EXPECT_ERROR(parse(base_config("llama", {{"num_key_value_heads", 3}})), "is not a multiple of");
  EXPECT_ERROR(parse(base_config("llama", {{"rms_norm_eps", -1.0}})), "'rms_norm_eps' is -1");
  EXPECT_ERROR(parse(base_config("llama", {{"hidden_act", "relu"}})), "unknown activation 'relu'");
  EXPECT_ERROR(parse(base_config("llama", {{"tie_word_embeddings", 1}})), "must be true or false");
  EXPECT_ERROR(parse(base_config("llama", {{"rope_scaling", {{"type", "lineal"}, {"factor", 2}}}})),
               "did you mean 'linear'?");
  EXPECT_ERROR(parse(base_config("llama", {{"rope_scaling", {{"type", "linear"}}}})), "'factor' is missing");
  EXPECT_ERROR(parse(base_config("llama", {{"rope_scaling",
                                            {{"type", "llama3"},
                                             {"factor", 8},
                                             {"low_freq_factor", 4},
                                             {"high_freq_factor", 1},
                                             {"original_max_position_embeddings", 8192}}}})),
               "must be above");
  EXPECT_ERROR(parse(base_config("llama", {{"head_dim", 15}})), "even number");
  EXPECT_ERROR(parse(base_config("gemma2", {{"layer_types", {"full_attention"}}, {"sliding_window", 8}})),
               "must list 3 layers");
  EXPECT_ERROR(parse(base_config("llama", {{"eos_token_id", "x"}})), "'eos_token_id'");
  EXPECT_ERROR(parse(base_config("llama", {{"quantization_config", {{"quant_method", "gptq"}}}})), "already packed");
  json split = base_config("llama", {{"hidden_size", 65}});
  split.erase("head_dim");
  EXPECT_ERROR(parse(split), "there is no 'head_dim'");
}

}  // namespace
}  // namespace attar
