// Token ids that a user gives in a file.
#pragma once

#include <string>
#include <vector>

#include "datasets/tokenizer.h"

namespace attar::cli {

// The rows of the tensor input_ids (batch, time) int64 of a safetensors file, at least one id in each. Throws Error that begins with the
// command's name.
std::vector<Ids> read_ids(const std::string& command, const std::string& path);

}  // namespace attar::cli
