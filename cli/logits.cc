// Golden logits: what the model says of given token ids.
#include <memory>

#include "base/console.h"
#include "cli/command.h"
#include "cli/ids.h"
#include "cli/text_model.h"
#include "convert/safetensors.h"

namespace attar::cli {
namespace {

struct LogitsOptions {
  Common common;
  std::string model, ids, output;
  ModelRun how;
};

int run_logits(const LogitsOptions& options) {
  const std::vector<Ids> rows = read_ids("logits", options.ids);
  const Checkpoint checkpoint = open_checkpoint(options.model);
  const bool kernels = on_kernels("logits", checkpoint, options.how);
  const OpenModel model = open_model(checkpoint, options.how, kernels);
  const auto batch = std::ssize(rows), time = std::ssize(rows.front());
  std::vector<float> values;
  for (const Ids& ids : rows) {
    check_interrupt();
    model.text->clear();
    const std::vector<float> logits = model.text->feed(ids, true);
    values.insert(values.end(), logits.begin(), logits.end());
  }
  const std::int64_t vocab = std::ssize(values) / (batch * time);
  write_safetensors(options.output, {make_tensor("logits", {batch, time, vocab}, std::move(values))});
  note(cat("logits (", batch, ", ", time, ", ", vocab, ") written to ", options.output));
  write_result(options.common, "logits",
               {{"output", options.output}, {"shape", {batch, time, vocab}}, {"device", options.how.device}, {"kernels", kernels}});
  return kDone;
}

}  // namespace

void add_logits(CLI::App* sub) {
  auto options = std::make_shared<LogitsOptions>();
  set_action(*sub, options->common, [options] { return run_logits(*options); });
  sub->add_option("MODEL", options->model, "Folder or .gguf")->required();
  sub->add_option("--ids", options->ids, "safetensors file with input_ids (batch, time) int64")->required();
  sub->add_option("-o,--output", options->output, "safetensors file to write: logits (batch, time, vocab) float32")
      ->required();
  add_float(*sub, options->how.floats);
  add_device(*sub, options->how.device);
}

}  // namespace attar::cli
