#include <utility>

#include "base/console.h"
#include "quantize/imatrix.h"
#include "quantize/presets.h"
#include "quantize/round.h"
#include "quantize/streams.h"

namespace attar {

ImportanceMatrix measure_imatrix(const Checkpoint& model, const std::vector<Ids>& chunks, const fs::path& spill) {
  const OneTorchThread one_thread;
  const at::NoGradGuard no_grad;
  PlanOptions options;
  options.preset = &preset_from_name("f16");
  std::map<std::string, TensorPlan> plan;
  for (TensorPlan& entry : plan_types(model, options)) plan.emplace(entry.name, std::move(entry));

  ImportanceMatrix result;
  result.chunks = static_cast<std::int64_t>(chunks.size());
  result.chunk_tokens = static_cast<std::int64_t>(chunks.front().size());
  const auto tokens = static_cast<double>(result.chunks * result.chunk_tokens);
  const auto add = [&](const std::string& name, const std::vector<float>& mean_squares) {
    ImportanceMatrix::Entry entry{mean_squares, tokens};
    for (float& value : entry.sums) value = static_cast<float>(value * tokens);
    result.entries.emplace(plan.at(name).gguf_name, std::move(entry));
  };

  Progress progress("calibrate", static_cast<std::size_t>(model.config.layers), "layers");
  Streams streams(model, chunks, {.spill = spill});
  streams.start(model.at("model.embed_tokens.weight"));
  for (std::int64_t layer = 0; layer < model.config.layers; ++layer) {
    int input = -1;
    std::vector<float> mean_squares;
    for (const Half half : {Half::kAttention, Half::kMlp}) {
      streams.enter(layer, half);
      for (const std::string& name : streams.linear_weights()) {
        if (const int own = input_of(plan.at(name).role); own != std::exchange(input, own)) mean_squares = streams.mean_squares(name);
        check_inputs(mean_squares, name);
        add(name, mean_squares);
      }
      streams.leave();
    }
    progress.advance(1);
  }
  if (plan.contains("lm_head.weight")) add("lm_head.weight", streams.final_mean_squares());
  return result;
}

}  // namespace attar
