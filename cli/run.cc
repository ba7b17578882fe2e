// attar run: the whole pipeline from one recipe.
#include <iostream>

#include "base/data.h"
#include "base/files.h"
#include "cli/command.h"
#include "cli/stages.h"
#include "cli/summary.h"

namespace attar::cli {
namespace {

struct RunOptions {
  Common common;
  std::string recipe, output;
  bool dry_run = false;
};

// By value: the stages parse their own command lines, which starts every command's options afresh.
int run_recipe(const RunOptions options) {
  const auto file = options.recipe.empty() ? find_data("recipes/demo.toml") : std::filesystem::path(options.recipe);
  const Recipe recipe = read_recipe(file, options.output);
  if (options.dry_run) {
    print_plan(recipe);
    return kDone;
  }
  const int code = run_stages(recipe);
  if (code != kDone && code != kGateFailed) return code;
  const nlohmann::json summary = summarise(recipe, options.common.seed);
  write_text_file(recipe.output / "summary.json", summary.dump(2) + "\n");
  std::cout << "\n" << summary_table(summary);
  if (!recipe.quantized.empty()) std::cout << "\nwritten for llama.cpp: " << recipe.quantized << "\n";
  write_result(options.common, "run", summary);
  return code;
}

}  // namespace

void add_run(CLI::App& app) {
  auto options = std::make_shared<RunOptions>();
  CLI::App* sub = add_command(app, "run", "Run the whole pipeline from one recipe, on from where it stopped", options->common,
                              [options] { return run_recipe(*options); });
  sub->add_option("recipe", options->recipe, "Recipe file; without one, the demo on the built-in teacher and corpus");
  sub->add_option("-o,--output", options->output, "Folder of all results, instead of the recipe's");
  sub->add_flag("--dry-run", options->dry_run, "Print the plan and what is already done, and run nothing");
}

}  // namespace attar::cli
