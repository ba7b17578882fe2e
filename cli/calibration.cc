#include "cli/calibration.h"

#include <algorithm>

#include "base/console.h"
#include "base/error.h"
#include "datasets/corpus.h"

namespace attar::cli {

void add_calibration_options(CLI::App& sub, Calibration& calibration, const std::string& name, bool required) {
  sub.add_option(name, calibration.source, "Text that shows what the model meets: .txt, .jsonl, or builtin:calibration")
      ->required(required)
      ->type_name("SOURCE");
  sub.add_option("--samples", calibration.samples, "Chunks of calibration text, picked by --seed; 0: all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  sub.add_option("--context", calibration.context, "Tokens in a chunk, at most what the model was made for")
      ->capture_default_str();
}

std::vector<Ids> read_calibration(const Calibration& calibration, const Checkpoint& model, const Common& common) {
  if (calibration.source.empty()) return {};
  if (calibration.context < 2) fail("--context ", calibration.context, ": expected at least 2 tokens");
  const Tokenizer tokenizer(model.tokenizer);
  if (tokenizer.vocab_size() > model.config.vocab_size)
    fail("calibration: the tokenizer has ", tokenizer.vocab_size(), " tokens, the model ", model.config.vocab_size,
         "; it belongs to another model");
  std::int64_t length = calibration.context;
  if (model.config.max_positions > 0) length = std::min(length, model.config.max_positions);
  std::vector<Ids> chunks = sample_chunks(tokenizer, read_documents(calibration.source), length, 0, common.seed);
  const auto found = static_cast<std::int64_t>(chunks.size());
  if (calibration.samples > found) {
    const std::string message = cat("--samples ", calibration.samples, ": ", calibration.source, " holds only ", found,
                                    " chunks of ", length, " tokens");
    if (common.strict) fail("calibration: ", message, "; give more text");
    warn(message + "; all are used");
  }
  return chunks;
}

void limit_samples(std::vector<Ids>& chunks, const Calibration& calibration) {
  if (const auto samples = static_cast<std::size_t>(calibration.samples); samples > 0 && chunks.size() > samples)
    chunks.resize(samples);
}

}  // namespace attar::cli
