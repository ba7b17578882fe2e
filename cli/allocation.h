// Types chosen for a target.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/target.h"
#include "convert/checkpoint.h"
#include "datasets/tokenizer.h"
#include "eval/statistics.h"
#include "quantize/allocate.h"

namespace attar::cli {

// What is known of a model before types are chosen. Throws Error for a target that the types allowed do not reach, before it measures.
struct Choices {
  std::vector<Sensitivity> sensitivities;
  std::uint64_t weights = 0;  // of all matrices
  // What the file or folder takes with these types, one for each of `sensitivities`: tokenizer, names, norms and padding included, to the byte.
  std::function<std::uint64_t(const std::vector<Candidate>& types)> output_bytes;
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

// What was chosen, and how.
struct Chosen {
  std::vector<Candidate> types;
  Trials trials;                       // of --target-kld
  std::vector<Estimate> measured;      // one for each trial
  std::int64_t aside = 0;              // chunks measured on
};
// The curve of sizes and divergences with the choice on it, and how it was found.
nlohmann::json curve_json(const Choices& choices, const Chosen& chosen);
void print_curve(const nlohmann::json& allocation);

}  // namespace attar::cli
