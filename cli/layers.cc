#include "cli/layers.h"

#include <algorithm>
#include <iostream>

#include "base/console.h"
#include "datasets/corpus.h"
#include "quantize/layer_view.h"

namespace attar::cli {
namespace {

constexpr std::int64_t kLayerChunks = 8;  // one run of the model on them for each tensor
constexpr std::size_t kShown = 10;

}  // namespace

void check_layers(const std::string& original, const std::string& model) {
  require_same_tensors(open_checkpoint(original), open_checkpoint(model));
}

nlohmann::json compare_layers(const std::string& original, const EvalOptions& options, bool strict) {
  const Checkpoint before = open_checkpoint(original), after = open_checkpoint(options.model);
  const Tokenizer tokenizer(after.tokenizer);
  const Ids ids = tokenize_text(tokenizer, read_source(options.data), after.config.vocab_size, options.data);
  ChunkOptions few = options.chunking;
  few.chunks = few.chunks > 0 ? std::min(few.chunks, kLayerChunks) : kLayerChunks;
  std::vector<Ids> chunks = cut_chunks(ids, few, chunk_bos(tokenizer.data()), options.data);
  const LayerView view = view_layers(before, after, chunks, {first_scored(few.context), few.context - 1});
  std::cout << "\n" << table_text(view, kShown);
  if (!view.separable()) {
    const std::string message = cat("layers: the tensors of ", options.model, " make up for each other, as rotated, scaled or tuned weights do: one by one they add up to a divergence of ",
                                    view.kl_sum, ", together they have ", view.kl_together, "; what one costs alone says little");
    if (strict) fail(message);
    warn(message);
  }
  nlohmann::json json = to_json(view);
  json["original"] = {{"path", original}, {"hash", checkpoint_hash(before)}};
  json["chunks"] = chunks.size();
  json["positions"] = static_cast<std::int64_t>(chunks.size()) * scored_per_chunk(few.context);
  return json;
}

}  // namespace attar::cli
