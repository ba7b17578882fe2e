// What a run of quantize() was asked, and what it says of the result, as JSON: in its work folder and in the report.
#pragma once

#include <nlohmann/json.hpp>

#include "quantize/pipeline.h"

namespace attar {

// Everything that decides the bytes, under the names of the command line.
nlohmann::json run_identity(const Checkpoint& model, const QuantizeOptions& options);

// What was measured of a tensor, and back.
nlohmann::json outcome(const TensorReport& tensor);
void read_outcome(const nlohmann::json& from, TensorReport& tensor);

}  // namespace attar
