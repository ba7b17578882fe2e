// Calibration text as `attar quantize` and `attar calibrate` take it.
#pragma once

#include <string>
#include <vector>

#include "cli/command.h"
#include "convert/checkpoint.h"
#include "datasets/tokenizer.h"

namespace attar::cli {

struct Calibration {
  std::string source;  // empty: none
  std::int64_t samples = 128, context = 512;
};

void add_calibration_options(CLI::App& sub, Calibration& calibration, const std::string& name, bool required);

// All chunks of the text, in the order the seed gives; none without a source. Throws Error; warns, or with --strict fails, if
// there are fewer than `samples`.
std::vector<Ids> read_calibration(const Calibration& calibration, const Checkpoint& model, const Common& common);
void limit_samples(std::vector<Ids>& chunks, const Calibration& calibration);

}  // namespace attar::cli
