// attar init: a fresh student. Its config is given, its tokenizer is trained from text or taken from another model, its weights
// come from the seed: here, or when `attar distill` trains it.
#include <iostream>

#include "base/console.h"
#include "base/error.h"
#include "base/files.h"
#include "cli/command.h"
#include "convert/checkpoint.h"
#include "datasets/corpus.h"
#include "datasets/train_bpe.h"
#include "model/decoder.h"

namespace attar::cli {
namespace {

struct InitOptions {
  Common common;
  std::string config, output, data = "builtin:train", tokenizer, weights;
};

TokenizerData make_tokenizer(const InitOptions& options, const ModelConfig& config) {
  if (options.tokenizer.empty()) return train_bpe(read_documents(options.data), config.vocab_size);
  TokenizerData tokenizer = read_tokenizer_data(options.tokenizer);
  if (tokenizer.kind == TokenizerKind::kNone) fail(options.tokenizer, ": no tokenizer.json or tokenizer.model");
  if (static_cast<std::int64_t>(tokenizer.size()) > config.vocab_size)
    fail(options.tokenizer, ": ", tokenizer.size(), " tokens, but ", options.config, " has a vocab_size of ", config.vocab_size);
  return tokenizer;
}

int run_init(const InitOptions& options) {
  const auto json = nlohmann::json::parse(read_text_file(options.config), nullptr, false);
  if (json.is_discarded()) fail(options.config, ": not valid JSON");
  ModelConfig config = parse_config(json, options.config);
  const TokenizerData tokenizer = make_tokenizer(options, config);
  config.hf["bos_token_id"] = tokenizer.bos_id;
  config.hf["eos_token_id"] = tokenizer.eos_id;

  config = parse_config(config.hf, options.config);
  if (options.weights.empty()) {
    OutputFolder folder(options.output);
    write_text_file(folder.folder() / "config.json", config_json(config).dump(2) + "\n");
    write_tokenizer_files(tokenizer, folder.folder());
    folder.commit();
  } else {
    Decoder decoder(config);
    initialise(decoder, options.common.seed);
    write_hf(to_checkpoint(decoder, tokenizer), options.output, {plain_type("init: --weights", options.weights)});
  }
  std::cout << options.output << ": config, a tokenizer of " << tokenizer.size() << " tokens"
            << (options.weights.empty() ? "" : " and random weights in " + options.weights) << '\n';
  write_result(options.common, "init", {{"output", options.output}, {"vocab_size", tokenizer.size()}});
  return kDone;
}

}  // namespace

void add_init(CLI::App* sub) {
  auto options = std::make_shared<InitOptions>();
  set_action(*sub, options->common, [options] { return run_init(*options); });
  sub->add_option("--config", options->config, "config.json of the student; vocab_size is the tokenizer's size")->required();
  sub->add_option("-o,--output", options->output, "Folder to write")->required();
  auto* data = sub->add_option("--data", options->data, "Text to train the tokenizer on: a file, or builtin:train")->capture_default_str();
  sub->add_option("--tokenizer", options->tokenizer, "Take the tokenizer of this model or file instead")->excludes(data);
  sub->add_option("--weights", options->weights, "Write random weights from --seed too, as f32, f16 or bf16; takes 8 bytes of memory each");
}

}  // namespace attar::cli
