// attar init: a fresh student. Its config is given, its tokenizer is trained from text, its weights come from the seed when
// `attar distill` trains it.
#include <iostream>

#include "base/console.h"
#include "base/files.h"
#include "cli/command.h"
#include "convert/checkpoint.h"
#include "datasets/corpus.h"
#include "datasets/train_bpe.h"

namespace attar::cli {
namespace {

struct InitOptions {
  Common common;
  std::string config, output, data = "builtin:train";
};

int run_init(const InitOptions& options) {
  const auto json = nlohmann::json::parse(read_text_file(options.config), nullptr, false);
  if (json.is_discarded()) fail(options.config, ": not valid JSON");
  ModelConfig config = parse_config(json, options.config);
  const auto documents = read_documents(options.data);
  const TokenizerData tokenizer = train_bpe(documents, config.vocab_size);
  config.hf["bos_token_id"] = tokenizer.bos_id;
  config.hf["eos_token_id"] = tokenizer.eos_id;

  OutputFolder folder(options.output);
  write_text_file(folder.folder() / "config.json", config_json(parse_config(config.hf, options.config)).dump(2) + "\n");
  write_tokenizer_files(tokenizer, folder.folder());
  folder.commit();
  std::cout << options.output << ": config and a tokenizer of " << tokenizer.size() << " tokens, trained on "
            << documents.size() << " documents\n";
  write_result(options.common, "init", {{"output", options.output}, {"vocab_size", tokenizer.size()}, {"documents", documents.size()}});
  return kDone;
}

}  // namespace

void add_init(CLI::App& app) {
  auto options = std::make_shared<InitOptions>();
  CLI::App* sub = add_command(app, "init", "Make a fresh student: a config, and a tokenizer trained from text", options->common,
                              [options] { return run_init(*options); });
  sub->add_option("--config", options->config, "config.json of the student; vocab_size is the tokenizer's size")->required();
  sub->add_option("-o,--output", options->output, "Folder to write")->required();
  sub->add_option("--data", options->data, "Text to train the tokenizer on: a file, or builtin:train")->capture_default_str();
}

}  // namespace attar::cli
