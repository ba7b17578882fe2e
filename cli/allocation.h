// Types chosen for a target, as `attar quantize` takes it: --target-size, --target-bpw, --target-kld, --runtime.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/files.h"
#include "cli/command.h"
#include "convert/checkpoint.h"
#include "datasets/tokenizer.h"
#include "eval/statistics.h"
#include "quantize/allocate.h"
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

// "9300000", "9.3MB", "1.5GB".
std::uint64_t parse_size(const std::string& option, const std::string& text);

// What is known of a model before types are chosen.
struct Choices {
  std::vector<Sensitivity> sensitivities;
  std::uint64_t weights = 0;      // of all matrices
  std::uint64_t other_bytes = 0;  // of a .gguf: tokenizer, names, norms, padding; at most
};
Choices measure_choices(const Target& target, const std::vector<TypeOverride>& overrides, const Checkpoint& model, const fs::path& output,
                        const std::vector<Ids>& chunks);

// For --target-size and --target-bpw.
std::vector<Candidate> choose(const Target& target, const Choices& choices);
void assign(const Choices& choices, const std::vector<Candidate>& chosen, PlanOptions& plan);

// For --target-kld: the tokens kept aside, cut as attar eval cuts text. Throws Error if they are too few.
std::vector<Ids> aside_chunks(const Ids& aside, const TokenizerData& tokenizer, std::int64_t context);
// Mean KL of `quantized` from `original` as attar eval measures it.
Estimate divergence_on(const std::vector<Ids>& aside, const Checkpoint& original, const Checkpoint& quantized);

// The curve of sizes and divergences with the choice on it, and how it was found.
struct Chosen {
  std::vector<Candidate> types;
  Trials trials;                       // of --target-kld
  std::vector<Estimate> measured;      // one for each trial
  std::int64_t aside = 0;              // chunks measured on
};
void print_curve(const Choices& choices, const Chosen& chosen);
nlohmann::json curve_json(const Choices& choices, const Chosen& chosen);

}  // namespace attar::cli
