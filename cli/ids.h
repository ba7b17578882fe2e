// Token ids that a user gives in a file.
#pragma once

#include <ATen/ATen.h>

#include <string>

namespace attar::cli {

// The tensor input_ids (batch, time) int64 of a safetensors file. Throws Error that begins with the command's name.
at::Tensor read_ids(const std::string& command, const std::string& path);

}  // namespace attar::cli
