// Rotary position embeddings as config.json describes them, in the style of transformers 4 (rope_theta, rope_scaling)
// and 5 (rope_parameters).
#pragma once

#include "convert/json.h"
#include "convert/model_config.h"

namespace attar {

// Fills config.rope and config.local_rope; everything else of the config is known.
void parse_rope(const JsonReader& json, ModelConfig& config);
// Writes both styles over what `json` holds.
void write_rope(const ModelConfig& config, nlohmann::json& json);

const char* rope_type_name(RopeType type);
// Dimensions of a head that turn: head_dim * partial_rotary_factor.
std::int64_t rotary_dim(const ModelConfig& config, const Rope& rope);

}  // namespace attar
