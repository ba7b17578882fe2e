#include "cli/command.h"

#include <algorithm>
#include <iostream>
#include <utility>

#include "base/console.h"
#include "base/error.h"
#include "base/files.h"
#include "base/text.h"
#include "base/threads.h"
#include "cli/describe.h"
#include "cli/hand_over.h"
#include "cli/numbers.h"
#include "convert/checkpoint.h"
#include "model/threads.h"

namespace attar::cli {
namespace {

struct Command {
  const char* name;
  const char* help;
  void (*add)(CLI::App*);
};
// In the order of the help.
constexpr Command kCommands[] = {
    {"run", "Run the whole pipeline from one recipe, on from where it stopped", add_run},
    {"init", "Make a fresh student: a config, and a tokenizer trained from text", add_init},
    {"prune", "Cut a smaller student out of a model", add_prune},
    {"distill", "Train a student to speak like its teacher, or a model on text alone", add_distill},
    {"calibrate", "Measure which columns of each matrix matter: llama.cpp's importance matrix", add_calibrate},
    {"quantize", "Make a model small, 2 to 8 bits a weight: a GGUF for llama.cpp or a folder for MLX", add_quantize},
    {"eval", "Measure perplexity, divergence from a reference and tasks; --gate decides the exit code", add_eval},
    {"compare", "Put models, or results of them, side by side", add_compare},
    {"report", "One page, or Markdown, from the results of other commands", add_report},
    {"convert", "Turn a model into another file format", add_convert},
    {"inspect", "Show a model's config, tokenizer, tensors, types and size", add_inspect},
    {"tokenize", "Text to token ids, printed as one JSON array, and back", add_tokenize},
    {"logits", "Write the logits a model gives for token ids", add_logits},
    {"generate", "Continue a text", add_generate},
    {"bench", "Measure prompt and decode speed, or without a model the kernels", add_bench},
    {"golden", "Golden vectors for a runtime's own tests; other kernels against them", add_golden},
};

void apply(const Common& common) {
  set_verbosity(common.quiet ? Verbosity::kQuiet : common.verbose ? Verbosity::kVerbose : Verbosity::kNormal);
  set_thread_count(common.threads);
  set_up_torch(thread_count());
}

// The arguments of the command that runs. A recipe's stages run inside another one.
const std::vector<std::string>* running = nullptr;

struct Running {
  explicit Running(const std::vector<std::string>& arguments) : before(std::exchange(running, &arguments)) {}
  ~Running() { running = before; }
  const std::vector<std::string>* before;
};

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options())
    for (const auto& name : option->get_lnames()) names.push_back("--" + name);
  return names;
}

// Names the first argument that no option took, with the nearest right one; empty if there is none.
std::string explain_extras(const CLI::App& app) {
  for (const CLI::App* sub : app.get_subcommands())
    for (const auto& word : sub->remaining())
      return cat(word.starts_with("-") ? "unknown option '" : "unexpected argument '", word, "' for attar ",
                 sub->get_name(), suggest(word, option_names(*sub)));
  std::vector<std::string> names;
  for (const CLI::App* sub : app.get_subcommands({})) names.push_back(sub->get_name());
  for (const auto& word : app.remaining()) return cat("unknown command '", word, "'", suggest(word, names));
  return "";
}

std::string describe(const CLI::App& app, const std::string& wanted) {
  if (wanted == "man") return man_page(app);
  if (wanted == "bash") return bash_completion(app);
  if (wanted == "zsh") return zsh_completion(app);
  if (wanted == "fish") return fish_completion(app);
  return app.help();
}

}  // namespace

void set_action(CLI::App& sub, Common& common, std::function<int()> action) {
  sub.add_option("--threads", common.threads, "Threads to use; 0: all cores")->check(kNotNegative);
  sub.add_option("--seed", common.seed, "Seed of everything random");
  sub.add_option("--json", common.json, "Write the result as JSON to this file");
  sub.add_flag("--quiet", common.quiet, "Only results, warnings and errors");
  sub.add_flag("--verbose", common.verbose, "Say more");
  sub.add_flag("--strict", common.strict, "Turn every fallback into an error");
  sub.final_callback([&sub, &common, action = std::move(action)] {
    refuse_nan(sub);
    apply(common);
    if (const int code = action(); code != kDone) throw CLI::RuntimeError(code);
  });
}

std::string command_line(const std::vector<std::string>& arguments) {
  std::string line = "attar";
  for (const std::string& argument : arguments) {
    const bool plain = argument.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=%+,") == std::string::npos;
    if (plain && !argument.empty()) {
      line += " " + argument;
      continue;
    }
    line += " '";
    for (const char c : argument) line += c == '\'' ? std::string("'\\''") : std::string(1, c);
    line += "'";
  }
  return line;
}

std::string json_text(const nlohmann::json& json, int indent) { return json.dump(indent, ' ', false, nlohmann::json::error_handler_t::replace) + "\n"; }

nlohmann::json stamped(const std::string& command, nlohmann::json result) {
  result["attar"] = ATTAR_VERSION;
  result["command"] = command;
  if (running != nullptr) result["command_line"] = command_line(*running);
  if (!result.contains("schema")) result["schema"] = cat("attar.", command, ".1");
  return result;
}

void write_result(const Common& common, const std::string& command, nlohmann::json result) {
  if (!common.json.empty()) write_text_file(common.json, json_text(stamped(command, std::move(result)), 2));
}

void add_model(nlohmann::json& result, const Common& common, const std::string& key, const std::filesystem::path& path) {
  if (common.json.empty()) return;
  result[key] = path.string();
  result[key + "_hash"] = checkpoint_hash(open_checkpoint(path));
}

void check_parent(const std::string& command, const fs::path& output) {
  if (const fs::path folder = fs::absolute(output).parent_path(); !fs::is_directory(folder))
    fail(command, ": cannot write ", output.string(), ": no folder ", folder.string());
}

void refuse_overwriting(const std::string& command, const std::vector<std::string>& inputs, const std::vector<std::string>& outputs) {
  const auto place = [](const std::string& name) {
    std::error_code ignored;
    return fs::weakly_canonical(fs::absolute(name, ignored), ignored);
  };
  for (std::size_t o = 0; o < outputs.size(); ++o) {
    if (outputs[o].empty()) continue;
    const fs::path output = place(outputs[o]);
    std::error_code ignored;
    for (const std::string& name : inputs) {
      if (name.empty()) continue;
      const fs::path input = place(name);
      const bool inside = std::mismatch(output.begin(), output.end(), input.begin(), input.end()).first == output.end();  // of a folder that is replaced
      if (inside || fs::equivalent(output, name, ignored))
        fail(command, ": ", outputs[o], " would be written over ", name, ", which is read; name another file");
    }
    for (std::size_t other = 0; other < o; ++other)
      if (!outputs[other].empty() && place(outputs[other]) == output) fail(command, ": ", outputs[o], " is to be written twice; name two files");
  }
}

void add_all_commands(CLI::App& app) {
  for (const Command& command : kCommands) command.add(app.add_subcommand(command.name, command.help));
}

int run_command_line(const std::vector<std::string>& arguments) {
  CLI::App app("Attar: prune, distill, quantize, check and export language models for phones", "attar");
  app.set_version_flag("--version", "attar " ATTAR_VERSION);
  add_all_commands(app);
  std::string wanted;
  app.add_option("--print", wanted, "Print the manual page or a shell completion, made from this very program")
      ->check(CLI::IsMember({"man", "bash", "zsh", "fish"}));
  const Running as(arguments);
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());  // CLI11 takes them back to front
  try {
    try {
      app.parse(reversed);
      if (app.get_subcommands().empty()) std::cout << describe(app, wanted);
      return kDone;
    } catch (const NeedsTorch&) {
      hand_over(arguments);
    }
  } catch (const CLI::RuntimeError& stop) {
    return stop.get_exit_code();
  } catch (const CLI::Success& success) {  // --help, --version
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    // A misspelt option is the likelier cause of a missing one, so it is named first.
    const std::string extras = explain_extras(app);
    std::cerr << "attar: " << (extras.empty() ? cat(error.what(), "; see attar --help") : extras) << "\n";
  } catch (const Interrupted& stop) {
    std::cerr << "attar: " << stop.what() << "\n";
    return kInterrupted;
  } catch (const std::exception& error) {
    std::cerr << "attar: " << error.what() << "\n";
  }
  return kBadInput;
}

Type plain_type(const std::string& asked, const std::string& name) {
  const std::vector<std::string> names = {"f32", "f16", "bf16"};
  const std::optional<Type> type = type_from_name(name);
  if (type != Type::kF32 && type != Type::kF16 && type != Type::kBF16)
    fail(asked, " '", name, "' is not a plain type", suggest(name, names), "; attar quantize makes the packed ones");
  return *type;
}

}  // namespace attar::cli
