#include "convert/rope_config.h"

#include <array>
#include <cmath>
#include <utility>

#include "base/text.h"

namespace attar {
namespace {

constexpr std::int64_t kMaxPositions = std::int64_t{1} << 40;

constexpr std::array<std::pair<const char*, RopeType>, 6> kRopeTypes{{{"default", RopeType::kDefault},
                                                                      {"linear", RopeType::kLinear},
                                                                      {"dynamic", RopeType::kDynamic},
                                                                      {"llama3", RopeType::kLlama3},
                                                                      {"yarn", RopeType::kYarn},
                                                                      {"longrope", RopeType::kLongrope}}};

RopeType rope_type(const std::string& name, const std::string& source) {
  if (name == "su") return RopeType::kLongrope;  // what Phi-3's first files called it
  std::vector<std::string> names;
  for (const auto& [known, type] : kRopeTypes) {
    if (name == known) return type;
    names.emplace_back(known);
  }
  fail(source, ": unknown rope_type '", name.substr(0, 40), "'", suggest(name, names));
}

void parse_longrope(const JsonReader& scaling, const JsonReader& top, ModelConfig& config, Rope& rope) {
  rope.short_factor = scaling.numbers("short_factor");
  rope.long_factor = scaling.numbers("long_factor");
  const auto pairs = static_cast<std::size_t>(rotary_dim(config, rope) / 2);
  for (const auto* factors : {&rope.short_factor, &rope.long_factor}) {
    if (factors->size() != pairs)
      fail(scaling.source(), ": short_factor and long_factor need ", pairs, " numbers each, found ", factors->size());
    for (const double factor : *factors)
      if (!(factor > 0)) fail(scaling.source(), ": longrope factors must be positive, found ", factor);
  }
  // transformers: the ratio of the two lengths where the config knows the original one, else the factor as given.
  const std::int64_t original = top.integer("original_max_position_embeddings", 1, kMaxPositions, 0);
  if (original > 0) {
    rope.original_max_positions = original;
    rope.factor = static_cast<double>(config.max_positions) / static_cast<double>(original);
  } else if (rope.original_max_positions > 0 && !scaling.has("factor")) {
    rope.factor = static_cast<double>(config.max_positions) / static_cast<double>(rope.original_max_positions);
  } else {
    rope.factor = scaling.number("factor", 1e-6, 1e6);
  }
}

// scaling: rope_scaling, rope_parameters or one layer type's part of it; may be the config itself where there is none.
Rope parse_one(const JsonReader& scaling, const JsonReader& top, ModelConfig& config, double theta) {
  Rope rope;
  rope.theta = scaling.number("rope_theta", 1e-3, 1e15, theta);
  rope.partial_rotary_factor =
      scaling.number("partial_rotary_factor", 1e-6, 1.0, top.number("partial_rotary_factor", 1e-6, 1.0, 1.0));
  const std::int64_t turning = rotary_dim(config, rope);
  if (turning < 2 || turning % 2 != 0)
    fail(top.source(), ": partial_rotary_factor ", rope.partial_rotary_factor, " of head_dim ", config.head_dim,
         " turns ", turning, " dimensions; expected an even number of at least 2");
  rope.type = rope_type(scaling.text("rope_type", scaling.text("type", "default")), scaling.source());
  if (rope.type == RopeType::kDefault) return rope;

  rope.original_max_positions = scaling.integer("original_max_position_embeddings", 1, kMaxPositions, 0);
  if (scaling.has("attention_factor")) rope.attention_factor = scaling.number("attention_factor", 1e-6, 1e6);
  if (rope.type == RopeType::kLongrope) {
    parse_longrope(scaling, top, config, rope);
    return rope;
  }
  rope.factor = scaling.number("factor", 1e-6, 1e6);
  if (rope.type == RopeType::kLlama3) {
    rope.low_freq_factor = scaling.number("low_freq_factor", 1e-6, 1e6);
    rope.high_freq_factor = scaling.number("high_freq_factor", 1e-6, 1e6);
    if (rope.high_freq_factor <= rope.low_freq_factor)
      fail(scaling.source(), ": high_freq_factor ", rope.high_freq_factor, " must be above low_freq_factor ",
           rope.low_freq_factor);
    if (rope.original_max_positions == 0)
      fail(scaling.source(), ": the key 'original_max_position_embeddings' is missing");
  }
  if (rope.type == RopeType::kYarn) {
    rope.beta_fast = scaling.number("beta_fast", 1e-6, 1e6, 32.0);
    rope.beta_slow = scaling.number("beta_slow", 1e-6, 1e6, 1.0);
    rope.mscale = scaling.number("mscale", 0, 1e6, 0.0);
    rope.mscale_all_dim = scaling.number("mscale_all_dim", 0, 1e6, 0.0);
    rope.truncate = scaling.boolean("truncate", true);
  }
  return rope;
}

nlohmann::json scaling_json(const Rope& rope) {
  nlohmann::json json = {{"rope_type", rope_type_name(rope.type)}};
  if (rope.type == RopeType::kDefault) return json;
  json["factor"] = rope.factor;
  if (rope.original_max_positions > 0) json["original_max_position_embeddings"] = rope.original_max_positions;
  if (rope.attention_factor) json["attention_factor"] = *rope.attention_factor;
  if (rope.type == RopeType::kLlama3) {
    json["low_freq_factor"] = rope.low_freq_factor;
    json["high_freq_factor"] = rope.high_freq_factor;
  } else if (rope.type == RopeType::kYarn) {
    json["beta_fast"] = rope.beta_fast;
    json["beta_slow"] = rope.beta_slow;
    if (rope.mscale != 0) json["mscale"] = rope.mscale;
    if (rope.mscale_all_dim != 0) json["mscale_all_dim"] = rope.mscale_all_dim;
    json["truncate"] = rope.truncate;
  } else if (rope.type == RopeType::kLongrope) {
    json["short_factor"] = rope.short_factor;
    json["long_factor"] = rope.long_factor;
  }
  return json;
}

nlohmann::json parameters_json(const Rope& rope) {
  nlohmann::json json = scaling_json(rope);
  json["rope_theta"] = rope.theta;
  if (rope.partial_rotary_factor != 1.0) json["partial_rotary_factor"] = rope.partial_rotary_factor;
  return json;
}

}  // namespace

const char* rope_type_name(RopeType type) {
  for (const auto& [name, known] : kRopeTypes)
    if (known == type) return name;
  fail("no such rope type");
}

std::int64_t rotary_dim(const ModelConfig& config, const Rope& rope) {
  return static_cast<std::int64_t>(static_cast<double>(config.head_dim) * rope.partial_rotary_factor);
}

void parse_rope(const JsonReader& json, ModelConfig& config) {
  const bool gemma3 = config.family == Family::kGemma3;
  const double theta = json.number("rope_theta", 1e-3, 1e15, gemma3 ? 1e6 : 1e4);
  const double local_theta = json.number("rope_local_base_freq", 1e-3, 1e15, 1e4);
  if (json.has("rope_parameters")) {
    const JsonReader rope = json.object("rope_parameters");
    if (rope.has("full_attention") || rope.has("sliding_attention")) {
      config.rope = parse_one(rope.object("full_attention"), json, config, theta);
      config.local_rope = rope.has("sliding_attention")
                              ? parse_one(rope.object("sliding_attention"), json, config, local_theta)
                              : config.rope;
      return;
    }
    config.rope = parse_one(rope, json, config, theta);
  } else if (json.has("rope_scaling")) {
    config.rope = parse_one(json.object("rope_scaling"), json, config, theta);
  } else {
    const nlohmann::json none = nlohmann::json::object();
    config.rope = parse_one(JsonReader(none, json.source()), json, config, theta);
  }
  config.local_rope = config.rope;
  if (gemma3) {
    config.local_rope = Rope{};
    config.local_rope.theta = local_theta;
    config.local_rope.partial_rotary_factor = config.rope.partial_rotary_factor;
  }
}

void write_rope(const ModelConfig& config, nlohmann::json& json) {
  json["rope_theta"] = config.rope.theta;
  if (config.rope.type == RopeType::kDefault) {
    json["rope_scaling"] = nullptr;
  } else {
    json["rope_scaling"] = scaling_json(config.rope);
    json["rope_scaling"]["type"] = rope_type_name(config.rope.type);  // what transformers before 4.43 reads
  }
  if (config.rope.partial_rotary_factor != 1.0) json["partial_rotary_factor"] = config.rope.partial_rotary_factor;
  if (config.rope.type == RopeType::kLongrope && config.rope.original_max_positions > 0)
    json["original_max_position_embeddings"] = config.rope.original_max_positions;
  if (config.family == Family::kGemma3) {
    json["rope_local_base_freq"] = config.local_rope.theta;
    json["rope_parameters"] = {{"full_attention", parameters_json(config.rope)},
                               {"sliding_attention", parameters_json(config.local_rope)}};
  } else {
    json["rope_parameters"] = parameters_json(config.rope);
  }
}

}  // namespace attar
