// A recipe: the whole pipeline in one TOML file. Each stage is a subcommand, its keys are that command's options, so the
// recipe needs no names of its own. docs/recipes.md describes the file.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace attar::cli {

// One command line of the plan.
struct Stage {
  std::string name;                    // "prune", "eval-student"
  std::vector<std::string> arguments;  // as after the word `attar`
  std::filesystem::path output;        // the file or folder that it makes
  std::filesystem::path result;        // its --json
  bool resumable = false;              // understands --resume
};

struct Recipe {
  std::filesystem::path output;    // the folder that holds every stage's result
  std::string teacher;             // path, or "builtin:teacher"; empty: a student trained from text alone
  std::string student, quantized;  // the models that the stages end in; empty: not made
  std::string prompt = "Once upon a time";  // of the summary's samples
  std::vector<Stage> stages;
};

// Reads a recipe and plans its stages. output: overrides [run] output if not empty. Throws Error naming the file, table
// and key for what it does not know, with the nearest right name.
Recipe read_recipe(const std::filesystem::path& file, const std::string& output);
// The same from TOML text; `source` names it in errors.
Recipe parse_recipe(const std::string& toml, const std::string& source, const std::string& output);

// "$NAME", "${NAME}" and "${NAME:-default}" replaced by environment variables. Throws Error for one that is not set.
std::string expand_variables(const std::string& text);

}  // namespace attar::cli
