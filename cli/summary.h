// The table that ends a run: teacher, student and quantized student side by side, and a sample sentence of each.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "cli/recipe.h"

namespace attar::cli {

// Reads the models and the eval-*.json of a finished run, measures the decoding rate and lets each model write on from
// recipe.prompt. Rows that were not evaluated have no quality figures. Keys: models[] {role, path, parameters, bytes,
// bits_per_weight, perplexity, kl_divergence, same_top, decode_tokens_per_second, sample, samples[] {prompt, how, text}}.
nlohmann::json summarise(const Recipe& recipe, std::uint64_t seed);

// The table as text; "-" where a figure is not known.
std::string summary_table(const nlohmann::json& summary);

}  // namespace attar::cli
