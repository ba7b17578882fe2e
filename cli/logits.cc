// Golden logits: what the model says of given token ids.
#include <functional>
#include <memory>

#include "base/console.h"
#include "cli/command.h"
#include "cli/ids.h"
#include "convert/safetensors.h"
#include "model/decoder.h"
#include "runtime/runner.h"

namespace attar::cli {
namespace {

struct LogitsOptions {
  Common common;
  std::string model, ids, output, device = "cpu";
  bool floats = false;
};

// ids: (1, time). Returns (time, vocab).
using Logits = std::function<std::vector<float>(const at::Tensor& ids)>;

Logits logits_of(const Checkpoint& checkpoint, const at::Device& device, bool kernels) {
  if (kernels) {
    return [runner = std::make_shared<Runner>(checkpoint)](const at::Tensor& ids) {
      runner->clear();
      return runner->feed({ids.data_ptr<std::int64_t>(), static_cast<std::size_t>(ids.numel())}, true);
    };
  }
  return [decoder = load_decoder(checkpoint, device), device](const at::Tensor& ids) {
    const at::NoGradGuard no_grad;
    const at::Tensor logits = decoder->forward(ids.to(device)).to(at::kCPU).contiguous();
    return std::vector<float>(logits.data_ptr<float>(), logits.data_ptr<float>() + logits.numel());
  };
}

int run_logits(const LogitsOptions& options) {
  const at::Tensor ids = read_ids("logits", options.ids);
  const at::Device device = parse_device(options.device);
  const Checkpoint checkpoint = open_checkpoint(options.model);
  const bool kernels = runs_on_kernels(checkpoint, device, options.floats);
  const Logits logits = logits_of(checkpoint, device, kernels);
  std::vector<float> values;
  std::int64_t vocab = 0;
  for (std::int64_t row = 0; row < ids.size(0); ++row) {
    check_interrupt();
    const std::vector<float> own = logits(ids.narrow(0, row, 1).contiguous());
    vocab = std::ssize(own) / ids.size(1);
    values.insert(values.end(), own.begin(), own.end());
  }
  write_safetensors(options.output, {make_tensor("logits", {ids.size(0), ids.size(1), vocab}, std::move(values))});
  note(cat("logits (", ids.size(0), ", ", ids.size(1), ", ", vocab, ") written to ", options.output));
  write_result(options.common, "logits",
               {{"output", options.output}, {"shape", {ids.size(0), ids.size(1), vocab}}, {"device", options.device}, {"kernels", kernels}});
  return kDone;
}

}  // namespace

void add_logits(CLI::App& app) {
  auto options = std::make_shared<LogitsOptions>();
  CLI::App* sub = add_command(app, "logits", "Write the logits a model gives for token ids", options->common,
                              [options] { return run_logits(*options); });
  sub->add_option("MODEL", options->model, "Folder or .gguf")->required();
  sub->add_option("--ids", options->ids, "safetensors file with input_ids (batch, time) int64")->required();
  sub->add_option("-o,--output", options->output, "safetensors file to write: logits (batch, time, vocab) float32")
      ->required();
  sub->add_flag("--float", options->floats, "Compute a quantized model in float32 instead of through the kernels");
  sub->add_option("--device", options->device, "cpu, cuda or cuda:N");
}

}  // namespace attar::cli
