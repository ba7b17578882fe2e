// How fast a model reads a prompt and writes tokens.
#include <iomanip>
#include <iostream>
#include <memory>

#include "base/text.h"
#include "base/threads.h"
#include "cli/command.h"
#include "model/generate.h"

namespace attar::cli {
namespace {

struct BenchOptions {
  Common common;
  std::string model, device = "cpu";
  std::int64_t prompt = 128, decode = 64;
  bool floats = false;
};

int run_bench(const BenchOptions& options) {
  const Checkpoint checkpoint = open_checkpoint(options.model);
  const torch::Device device = parse_device(options.device);
  const bool kernels = device.is_cpu() && !options.floats && has_packed_matrices(checkpoint);
  const auto decoder = kernels ? load_decoder_packed(checkpoint) : load_decoder(checkpoint, device);
  const DecodeRate rate = measure_rates(*decoder, options.prompt, options.decode);
  std::cout << std::fixed << std::setprecision(1) << "prompt  " << rate.prompt() << " tokens/s (" << rate.prompt_tokens
            << " tokens)\n"
            << "decode  " << rate.decode() << " tokens/s (" << rate.decode_tokens << " tokens, "
            << size_text(decoder->weight_bytes()) << " of weights in memory"
            << (kernels ? ", through the kernels" : ", in float32") << ")\n";
  const auto part = [](std::int64_t tokens, double seconds, double per_second) {
    return nlohmann::json{{"tokens", tokens}, {"seconds", seconds}, {"tokens_per_second", per_second}};
  };
  write_result(options.common, "bench",
               {{"model", options.model},
                {"threads", thread_count()},
                {"weight_bytes", decoder->weight_bytes()},
                {"kernels", kernels},
                {"prompt", part(rate.prompt_tokens, rate.prompt_seconds, rate.prompt())},
                {"decode", part(rate.decode_tokens, rate.decode_seconds, rate.decode())}});
  return kDone;
}

}  // namespace

void add_bench(CLI::App& app) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* sub = add_command(app, "bench", "Measure prompt and decode speed", options->common,
                              [options] { return run_bench(*options); });
  sub->add_option("MODEL", options->model, "Folder or .gguf")->required();
  sub->add_option("--prompt", options->prompt, "Tokens of the prompt")->check(CLI::PositiveNumber);
  sub->add_option("--decode", options->decode, "Tokens decoded one by one")->check(CLI::PositiveNumber);
  sub->add_flag("--float", options->floats, "Compute a quantized model in float32 instead of through the kernels");
  sub->add_option("--device", options->device, "cpu, cuda or cuda:N");
}

}  // namespace attar::cli
