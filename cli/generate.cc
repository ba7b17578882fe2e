// Text from a model.
#include <iostream>
#include <memory>

#include "base/console.h"
#include "base/files.h"
#include "base/text.h"
#include "cli/batch.h"
#include "cli/command.h"
#include "cli/numbers.h"
#include "cli/text_model.h"

namespace attar::cli {
namespace {

struct TextOptions {
  Common common;
  std::string model, prompt, prompt_file;
  GenerateOptions generate;
  ModelRun how;
  bool ids = false;
  TextBatch batch;
};

int run_batch(TextOptions& options) {
  if (!options.prompt.empty() || !options.prompt_file.empty()) fail("generate: --batch brings its own prompts; leave --prompt out");
  if (options.batch.options.samples > 1 && options.generate.sampling.temperature == 0)
    fail("generate: --samples ", options.batch.options.samples, " at --temperature 0 are the same text so many times; give --temperature, such as 1");
  if (options.batch.output.empty()) fail("generate: --batch needs -o FILE.jsonl to write to");
  refuse_kv_cache(options.how.cache, "generate");
  const Checkpoint checkpoint = open_checkpoint(options.model);
  options.batch.options.generate = options.generate;
  options.batch.options.generate.seed = options.common.seed;
  nlohmann::json result = write_text_batch(options.batch, checkpoint, options.how.device);
  std::cout << result.at("kept") << " of " << result.at("texts") << " texts kept";
  for (const auto& [reason, count] : result.at("dropped").items()) std::cout << ", " << count << " " << reason;
  std::cout << "\n" << options.batch.output << std::endl;
  add_model(result, options.common, "model", options.model);
  write_result(options.common, "generate", result);
  return kDone;
}

int run_generate(TextOptions& options) {
  if (!options.batch.prompts.empty()) return run_batch(options);
  if (options.prompt.empty() == options.prompt_file.empty()) fail("generate: give either --prompt or --prompt-file");
  const Checkpoint checkpoint = open_checkpoint(options.model);
  const bool kernels = on_kernels("generate", checkpoint, options.how);
  const std::string text = options.prompt.empty() ? read_text_file(options.prompt_file) : options.prompt;
  const Tokenizer tokenizer(checkpoint.tokenizer);
  const OpenModel model = open_model(checkpoint, options.how, kernels);
  const Ids prompt = tokenizer.encode(text, true);
  options.generate.seed = options.common.seed;

  if (!options.ids) std::cout << text << std::flush;
  const auto show = [&](std::string_view piece) {
    if (!options.ids) std::cout << piece << std::flush;
  };
  const Generated result = generate(*model.text, tokenizer, prompt, options.generate, show);
  if (options.ids) std::cout << nlohmann::json(result.ids).dump();
  std::cout << std::endl;

  const auto rate = [](std::size_t count, double seconds) { return static_cast<double>(count) / std::max(seconds, 1e-9); };
  detail(cat(prompt.size(), " prompt tokens at ", rate(prompt.size(), result.prompt_seconds), " tokens/s, ",
             result.ids.size(), " new ones at ", rate(result.ids.size(), result.decode_seconds), " tokens/s, ended by ",
             result.stopped_by));
  nlohmann::json json = {{"prompt", {{"text", text}, {"ids", prompt}}},
                         {"how", description(options.generate)},
                         {"text", as_utf8(result.text)},
                         {"ids", result.ids},
                         {"stopped_by", result.stopped_by},
                         {"prompt_seconds", result.prompt_seconds},
                         {"decode_seconds", result.decode_seconds}};
  add_model(json, options.common, "model", options.model);
  write_result(options.common, "generate", std::move(json));
  return kDone;
}

}  // namespace

void add_generate(CLI::App* sub) {
  auto options = std::make_shared<TextOptions>();
  GenerateOptions& g = options->generate;
  set_action(*sub, options->common, [options] { return run_generate(*options); });
  sub->add_option("MODEL", options->model, "Folder or .gguf")->required();
  sub->add_option("--prompt", options->prompt, "Text to continue");
  sub->add_option("--prompt-file", options->prompt_file, "File with the text to continue");
  sub->add_option("--max-tokens", g.max_tokens, "New tokens at most")->check(kNotNegative)->capture_default_str();
  sub->add_option("--temperature", g.sampling.temperature, "0: always the likeliest token; 1: as the model says")->check(kNotNegative)->capture_default_str();
  sub->add_option("--top-k", g.sampling.top_k, "Only the k likeliest tokens; 0: all")->check(kNotNegative)->capture_default_str();
  sub->add_option("--top-p", g.sampling.top_p, "Only the likeliest tokens that together reach this probability")->capture_default_str();
  sub->add_option("--stop", g.stop, "Text that ends the answer; may be repeated")->allow_extra_args(false);
  sub->add_flag("--ids", options->ids, "Print the new token ids as one JSON array instead of text");
  add_kv_cache(*sub, options->how.cache);
  add_float(*sub, options->how.floats);
  TextBatch& batch = options->batch;
  sub->add_option("--batch", batch.prompts,
                  "Write many texts to learn from: lines with \"prompt\" or \"messages\", or texts to be continued from their beginning "
                  "(.txt, .jsonl, builtin:train); computed in float32")
      ->type_name("SOURCE");
  sub->add_option("-o,--output", batch.output, "--batch: the .jsonl file, as distill --data takes it");
  sub->add_option("--samples", batch.options.samples, "--batch: texts for each prompt")->capture_default_str();
  sub->add_option("--prompts", batch.limit, "--batch: use only so many prompts; 0: all")->check(kNotNegative);
  sub->add_option("--prompt-tokens", batch.prompt_tokens, "--batch: tokens taken from the beginning of a text")->capture_default_str();
  sub->add_option("--min-tokens", batch.filter.min_tokens, "--batch: shorter texts are dropped")->capture_default_str();
  sub->add_option("--max-repetition", batch.filter.max_repetition,
                  "--batch: texts are dropped of whose runs of four tokens a larger share was there before")
      ->capture_default_str();
  sub->add_flag("--keep-unfinished", batch.filter.keep_unfinished, "--batch: keep texts that --max-tokens ended");
  sub->add_flag("--resume", batch.resume, "--batch: go on with a run that was ended");
  add_device(*sub, options->how.device);
}

}  // namespace attar::cli
