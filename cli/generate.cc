// Text from a model.
#include "model/generate.h"

#include <iostream>
#include <memory>

#include "base/console.h"
#include "base/files.h"
#include "base/text.h"
#include "cli/command.h"

namespace attar::cli {
namespace {

struct TextOptions {
  Common common;
  std::string model, prompt, prompt_file, device = "cpu";
  GenerateOptions generate;
  bool ids = false, floats = false;
};

// JSON holds text only: bytes that never became a character are shown as U+FFFD.
std::string as_utf8(std::string text) {
  while (const auto bad = find_invalid_utf8(text)) text.replace(*bad, 1, "\xEF\xBF\xBD");
  return text;
}

int run_generate(TextOptions& options) {
  if (options.prompt.empty() == options.prompt_file.empty()) fail("generate: give either --prompt or --prompt-file");
  const std::string text = options.prompt.empty() ? read_text_file(options.prompt_file) : options.prompt;
  const Checkpoint checkpoint = open_checkpoint(options.model);
  const Tokenizer tokenizer(checkpoint.tokenizer);
  const at::Device device = parse_device(options.device);
  const bool kernels = device.is_cpu() && !options.floats && has_packed_matrices(checkpoint);
  const auto runner = kernels ? std::make_unique<Runner>(checkpoint) : nullptr;
  const auto decoder = kernels ? nullptr : load_decoder(checkpoint, device);
  const Ids prompt = tokenizer.encode(text, true);
  options.generate.seed = options.common.seed;

  if (!options.ids) std::cout << text << std::flush;
  const auto show = [&](std::string_view piece) {
    if (!options.ids) std::cout << piece << std::flush;
  };
  const Generated result = kernels ? generate(*runner, tokenizer, prompt, options.generate, show)
                                   : generate(*decoder, tokenizer, prompt, options.generate, show);
  if (options.ids) std::cout << nlohmann::json(result.ids).dump();
  std::cout << std::endl;

  const auto rate = [](std::size_t count, double seconds) { return static_cast<double>(count) / std::max(seconds, 1e-9); };
  detail(cat(prompt.size(), " prompt tokens at ", rate(prompt.size(), result.prompt_seconds), " tokens/s, ",
             result.ids.size(), " new ones at ", rate(result.ids.size(), result.decode_seconds), " tokens/s, ended by ",
             result.stopped_by));
  write_result(options.common, "generate",
               {{"prompt", {{"text", text}, {"ids", prompt}}},
                {"text", as_utf8(result.text)},
                {"ids", result.ids},
                {"stopped_by", result.stopped_by},
                {"prompt_seconds", result.prompt_seconds},
                {"decode_seconds", result.decode_seconds}});
  return kDone;
}

}  // namespace

void add_generate(CLI::App& app) {
  auto options = std::make_shared<TextOptions>();
  GenerateOptions& g = options->generate;
  CLI::App* sub = add_command(app, "generate", "Continue a text", options->common, [options] { return run_generate(*options); });
  sub->add_option("MODEL", options->model, "Folder or .gguf")->required();
  sub->add_option("--prompt", options->prompt, "Text to continue");
  sub->add_option("--prompt-file", options->prompt_file, "File with the text to continue");
  sub->add_option("--max-tokens", g.max_tokens, "New tokens at most")->check(CLI::NonNegativeNumber);
  sub->add_option("--temperature", g.sampling.temperature, "0: always the likeliest token")->check(CLI::NonNegativeNumber);
  sub->add_option("--top-k", g.sampling.top_k, "Only the k likeliest tokens; 0: all")->check(CLI::NonNegativeNumber);
  sub->add_option("--top-p", g.sampling.top_p, "Only the likeliest tokens that together reach this probability");
  sub->add_option("--stop", g.stop, "Text that ends the answer; may be repeated")->allow_extra_args(false);
  sub->add_flag("--ids", options->ids, "Print the new token ids as one JSON array instead of text");
  sub->add_flag("--float", options->floats, "Compute a quantized model in float32 instead of through the kernels");
  sub->add_option("--device", options->device, "cpu, cuda or cuda:N");
}

}  // namespace attar::cli
