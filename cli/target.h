// A target as `attar quantize` takes it: --target-size, --target-bpw, --target-kld, --runtime.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/files.h"
#include "cli/command.h"
#include "quantize/presets.h"

namespace attar::cli {

struct Target {
  std::string size, types, runtime, sensitivities;
  double bpw = 0, kld = 0;
  bool given() const { return !size.empty() || bpw > 0 || kld > 0; }
};

void add_target_options(CLI::App& sub, Target& target);
void check_target(const Target& target, const fs::path& output);  // throws Error for options that do not go together

bool is_gguf(const fs::path& output);
// ggml's types live in a .gguf, plain groups in a folder. Throws Error; what: "a matrix".
void check_home(Type type, const fs::path& output, std::string_view what);
// Throws Error naming a matrix that would get a type which the runtime, if one is named, is not fast with.
void check_runtime(const Target& target, const std::vector<TensorPlan>& plan);

// What may be chosen from, and what is where nothing else is said.
std::vector<Type> allowed_types(const Target& target, const fs::path& output);
std::vector<Type> usual_types(const fs::path& output);

// "9300000", "9.3MB", "1.5GB".
std::uint64_t parse_size(const std::string& option, const std::string& text);

}  // namespace attar::cli
