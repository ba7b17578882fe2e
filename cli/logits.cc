// Golden logits: what the model says of given token ids.
#include <memory>

#include "base/console.h"
#include "cli/command.h"
#include "cli/ids.h"
#include "convert/safetensors.h"
#include "model/decoder.h"

namespace attar::cli {
namespace {

struct LogitsOptions {
  Common common;
  std::string model, ids, output, device = "cpu";
};

int run_logits(const LogitsOptions& options) {
  const at::Device device = parse_device(options.device);
  const at::Tensor ids = read_ids("logits", options.ids);
  const auto decoder = load_decoder(open_checkpoint(options.model), device);
  const at::NoGradGuard no_grad;
  std::vector<float> values;
  std::int64_t vocab = 0;
  for (std::int64_t row = 0; row < ids.size(0); ++row) {
    check_interrupt();
    const at::Tensor logits = decoder->forward(ids.narrow(0, row, 1).to(device)).to(at::kCPU).contiguous();
    vocab = logits.size(2);
    values.insert(values.end(), logits.data_ptr<float>(), logits.data_ptr<float>() + logits.numel());
  }
  write_safetensors(options.output, {make_tensor("logits", {ids.size(0), ids.size(1), vocab}, std::move(values))});
  note(cat("logits (", ids.size(0), ", ", ids.size(1), ", ", vocab, ") written to ", options.output));
  write_result(options.common, "logits",
               {{"output", options.output}, {"shape", {ids.size(0), ids.size(1), vocab}}, {"device", options.device}});
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
  sub->add_option("--device", options->device, "cpu, cuda or cuda:N");
}

}  // namespace attar::cli
