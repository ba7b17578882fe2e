// The tensor-by-tensor view of attar eval --layers.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "eval/evaluate.h"

namespace attar::cli {

// Throws Error unless `model` can have been quantized from `original`: to be called before the long work.
void check_layers(const std::string& original, const std::string& model);

// Compares options.model with `original` on the first chunks of options.data, cut and scored as eval does. Prints the tensors that cost
// most. Throws Error, with `strict` also if one by one the tensors do not say what they cost together.
nlohmann::json compare_layers(const std::string& original, const EvalOptions& options, bool strict);

}  // namespace attar::cli
