// What all subcommands share. Each command is one file: an options struct, add_<cmd>(sub), run_<cmd>(options).
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "kernels_ref/types.h"

namespace attar::cli {

constexpr int kDone = 0, kGateFailed = 1, kBadInput = 2, kInterrupted = 130;

struct Common {
  int threads = 0;
  std::uint64_t seed = 0;
  std::string json;         // path for the machine-readable result; empty: none
  bool quiet = false, verbose = false, strict = false;
};

// Adds the common options to a subcommand and wires its action; the action's return value is the exit code.
void set_action(CLI::App& sub, Common& common, std::function<int()> action);

// Arguments as one line of a shell, after the program's name.
std::string command_line(const std::vector<std::string>& arguments);
// Adds "attar": version, "command", "command_line": what runs, and "schema": "attar.COMMAND.1".
nlohmann::json stamped(const std::string& command, nlohmann::json result);
// Writes the result, stamped, to --json if it was asked for.
void write_result(const Common& common, const std::string& command, nlohmann::json result);

// As it stands in a file; bytes of names and paths that are not UTF-8 become U+FFFD.
std::string json_text(const nlohmann::json& json, int indent);

// Adds KEY: path and KEY_hash: of the checkpoint there, to a result that --json asks for; without it nothing, as a hash reads all of a model.
void add_model(nlohmann::json& result, const Common& common, const std::string& key, const std::filesystem::path& path);

// Throws Error if a file to be written is one that is read, or is to be written twice. Empty names are none.
void refuse_overwriting(const std::string& command, const std::vector<std::string>& inputs, const std::vector<std::string>& outputs);
// Throws Error if there is no folder for an output, a file or a folder, to stand in.
void check_parent(const std::string& command, const std::filesystem::path& output);

// One per subcommand: adds its options and its action. cli/command.cc lists them in the one table, cli/light.cc those that need LibTorch.
void add_init(CLI::App* sub);
void add_inspect(CLI::App* sub);
void add_convert(CLI::App* sub);
void add_tokenize(CLI::App* sub);
void add_logits(CLI::App* sub);
void add_generate(CLI::App* sub);
void add_calibrate(CLI::App* sub);
void add_quantize(CLI::App* sub);
void add_prune(CLI::App* sub);
void add_distill(CLI::App* sub);
void add_eval(CLI::App* sub);
void add_bench(CLI::App* sub);
void add_golden(CLI::App* sub);
void add_report(CLI::App* sub);
void add_compare(CLI::App* sub);
void add_run(CLI::App* sub);

// Builds the whole program's parser. Used by main and by the recipe runner, which parses each stage as a command line.
void add_all_commands(CLI::App& app);
// Parses and runs one command line (without the program name); returns the exit code, prints errors to stderr.
int run_command_line(const std::vector<std::string>& arguments);

// f32, f16 or bf16. Throws Error that begins with what was asked, as "convert: --type".
Type plain_type(const std::string& asked, const std::string& name);

}  // namespace attar::cli
