// Measured sensitivities in a file, so that they are measured once and used for many targets. docs/methods/allocation.md describes it.
#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "base/files.h"
#include "quantize/allocate.h"

namespace attar {

// What sensitivities depend on: hashes of the tokenizer, the model and the chunks, and how they are measured.
nlohmann::json sensitivity_key(const Checkpoint& model, const std::vector<Ids>& chunks);

void write_sensitivities(const std::vector<Sensitivity>& sensitivities, const nlohmann::json& key, const fs::path& file);

// Of every matrix of the model, for those of `types` that its shape allows, to the last bit what was written. Throws Error: no such
// file, of another version, measured on something else (names what), without a figure for a matrix and type.
std::vector<Sensitivity> read_sensitivities(const fs::path& file, const nlohmann::json& key, const Checkpoint& model,
                                            const std::vector<Type>& types);

}  // namespace attar
