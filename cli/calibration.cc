#include "cli/calibration.h"

#include <algorithm>
#include <set>

#include "base/console.h"
#include "base/error.h"
#include "base/text.h"
#include "datasets/corpus.h"
#include "model/self_text.h"

namespace attar::cli {
namespace {

constexpr std::int64_t kMostSelfTokens = 1'000'000'000;
constexpr std::int64_t kColumnsPerToken = 8;  // columns of the inputs that a different token may stand for

Ids take_aside(std::vector<Ids>& documents, const TokenizerData& tokenizer, std::int64_t length) {
  std::size_t all = 0, taken = 0;
  for (const Ids& document : documents) all += document.size();
  const std::size_t enough = std::min(all / 4, static_cast<std::size_t>(kAsideChunks * length));
  std::size_t first = documents.size();
  while (first > 0 && taken + documents[first - 1].size() <= enough) taken += documents[--first].size();
  Ids aside;
  for (std::size_t i = first; i < documents.size(); ++i) {
    std::span<const std::int64_t> ids(documents[i]);
    if (!ids.empty() && ids.front() == tokenizer.bos_id) ids = ids.subspan(1);
    if (!ids.empty() && ids.back() == tokenizer.eos_id) ids = ids.first(ids.size() - 1);
    aside.insert(aside.end(), ids.begin(), ids.end());
  }
  documents.resize(first);
  return aside;
}

}  // namespace

std::vector<Ids> read_calibration(const Calibration& calibration, const Checkpoint& model, const Common& common, Ids* aside) {
  if (calibration.source.empty()) return {};
  if (calibration.context < 2) fail("--context ", calibration.context, ": expected at least 2 tokens");
  const Tokenizer tokenizer(model.tokenizer);
  if (tokenizer.vocab_size() > model.config.vocab_size)
    fail("calibration: the tokenizer has ", tokenizer.vocab_size(), " tokens, the model ", model.config.vocab_size,
         "; it belongs to another model");
  std::int64_t length = calibration.context;
  if (model.config.max_positions > 0) length = std::min(length, model.config.max_positions);
  std::vector<Ids> documents;
  if (calibration.source == kSelf) {
    if (calibration.samples == 0) fail("--samples 0: the model can write without end; say how many chunks");
    if (calibration.samples > kMostSelfTokens / length)
      fail("--samples ", calibration.samples, ": chunks of ", length, " tokens would be more than the ", kMostSelfTokens, " tokens that a model is let write; give fewer");
    documents = write_self_text(model, calibration.samples + (aside != nullptr ? kAsideChunks : 0), length, common.seed);
  } else {
    documents = read_token_documents(tokenizer, calibration.source);
  }
  if (aside != nullptr) *aside = take_aside(documents, model.tokenizer, length);
  std::vector<Ids> chunks = sample_chunks(documents, length, 0, common.seed);
  const auto found = static_cast<std::int64_t>(chunks.size());
  if (calibration.samples > found) {
    const std::string message = cat("--samples ", calibration.samples, ": ", calibration.source, " holds only ", found,
                                    " chunks of ", length, " tokens");
    if (common.strict) fail("calibration: ", message, "; give more text");
    warn(message + "; all are used");
  }
  std::set<std::int64_t> different;
  for (const Ids& chunk : chunks) different.insert(chunk.begin(), chunk.end());
  if (std::ssize(different) * kColumnsPerToken < model.config.hidden_size) {
    const std::string message = cat("calibration: ", calibration.source, " holds ", different.size(), " different tokens, and inputs have ", model.config.hidden_size,
                                    " columns: what the model will meet is mostly not in it, and may be rounded worse than without calibration");
    if (common.strict) fail(message, "; give other text");
    warn(message);
  }
  return chunks;
}

void limit_samples(std::vector<Ids>& chunks, const Calibration& calibration) {
  if (const auto samples = static_cast<std::size_t>(calibration.samples); samples > 0 && chunks.size() > samples)
    chunks.resize(samples);
}

}  // namespace attar::cli
