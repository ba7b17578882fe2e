// What compare has to measure first.
#pragma once

#include <nlohmann/json.hpp>

#include "eval/evaluate.h"

namespace attar::cli {

// As `attar eval --json` writes it. Throws Error as evaluate() does.
nlohmann::json measure_model(const EvalOptions& options);

}  // namespace attar::cli
