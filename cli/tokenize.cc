#include <charconv>
#include <iostream>
#include <iterator>

#include "base/bytes.h"
#include "base/error.h"
#include "base/files.h"
#include "base/text.h"
#include "cli/command.h"
#include "datasets/tokenizer.h"

namespace attar::cli {
namespace {

struct TokenizeOptions {
  Common common;
  std::string model, file;
  bool ids = false, special = false, decode = false;
};

std::string read_input(const std::string& file) {
  if (file != "-") return read_text_file(file);
  return {std::istreambuf_iterator<char>(std::cin), {}};
}

Ids parse_ids(const std::string& text, const std::string& file) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_array()) fail("decode: ", file, " is not a JSON array of token ids, such as [1, 15043]");
  Ids ids;
  ids.reserve(json.size());
  for (const auto& id : json) {
    const bool fits = id.is_number_integer() && !(id.is_number_unsigned() && id.get<std::uint64_t>() >> 63 != 0);
    if (!fits) fail("decode: ", file, ": entry ", ids.size(), " is ", id.dump().substr(0, 40), ", not a token id");
    ids.push_back(id.get<std::int64_t>());
  }
  return ids;
}

// [1, 15043, 3186]
std::string array_text(const Ids& ids) {
  std::string text = "[";
  char digits[24];
  for (const std::int64_t id : ids) {
    if (text.size() > 1) text += ", ";
    text.append(digits, std::to_chars(digits, digits + sizeof digits, id).ptr);
  }
  return text + "]";
}

int run_tokenize(const TokenizeOptions& options) {
  const Tokenizer tokenizer = load_tokenizer(options.model);
  const std::string input = read_input(options.file);
  const Ids ids = options.decode ? parse_ids(input, options.file) : tokenizer.encode(input, options.special);
  const std::string text = options.decode ? tokenizer.decode(ids, options.special) : input;
  std::cout << (options.decode ? text : array_text(ids) + "\n") << std::flush;
  if (!std::cout) fail("tokenize: cannot write to standard output");
  if (options.common.json.empty()) return kDone;  // the hashes below take a while
  write_result(options.common, "tokenize",
               {{"model", options.model},
                {"tokens", ids.size()},
                {"bytes", text.size()},
                {"vocabulary", tokenizer.vocab_size()},
                {"tokenizer_hash", tokenizer.hash()},
                {"ids_hash", content_hash(std::as_bytes(std::span(ids)))}});
  return kDone;
}

}  // namespace

void add_tokenize(CLI::App* sub) {
  auto options = std::make_shared<TokenizeOptions>();
  set_action(*sub, options->common, [options] { return run_tokenize(*options); });
  sub->add_option("model", options->model, "Model folder, .gguf, tokenizer.json or tokenizer.model")->required();
  sub->add_option("--file", options->file, "The text, or with --decode the JSON array of ids; -: standard input")
      ->required();
  sub->add_flag("--ids", options->ids, "Ids and not text: what is printed anyway, and read with --decode");
  sub->add_flag("--special", options->special,
                "Add BOS and EOS as the model would; with --decode, show special tokens");
  sub->add_flag("--decode", options->decode, "Ids to text");
}

}  // namespace attar::cli
