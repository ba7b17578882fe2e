// Calibration text as `attar quantize` and `attar calibrate` take it.
#pragma once

#include <string>
#include <vector>

#include "cli/command.h"
#include "convert/checkpoint.h"
#include "datasets/tokenizer.h"

namespace attar::cli {

inline constexpr const char* kSelf = "self";  // a source: what the model writes

struct Calibration {
  std::string source;  // empty: none; "self": what the model writes
  std::int64_t samples = 128, context = 512;

  std::string file() const { return source == kSelf ? "" : source; }  // that is read, if one is
};

void add_calibration_options(CLI::App& sub, Calibration& calibration, const std::string& name, bool required);

// All chunks of the text, in the order the seed gives, or `samples` that the model writes; none without a source. aside: if given,
// the tokens of the last documents, up to kAsideChunks chunks and a quarter of all, which then are in none of the chunks; without
// BOS and EOS around documents, as attar eval reads text. Throws Error; warns, or with --strict fails, if there are fewer chunks
// than `samples`.
constexpr std::int64_t kAsideChunks = 128;
std::vector<Ids> read_calibration(const Calibration& calibration, const Checkpoint& model, const Common& common, Ids* aside = nullptr);
void limit_samples(std::vector<Ids>& chunks, const Calibration& calibration);

}  // namespace attar::cli
