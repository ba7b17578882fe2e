// Types chosen for a target.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/target.h"
#include "convert/checkpoint.h"
#include "datasets/tokenizer.h"
#include "eval/statistics.h"
#include "quantize/allocate.h"

namespace attar::cli {

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
