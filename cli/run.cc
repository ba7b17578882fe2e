// attar run: the whole pipeline from one recipe.
#include <iostream>

#include "base/data.h"
#include "base/files.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/stages.h"
#include "cli/summary.h"
#include "convert/json.h"
#include "distill/train_log.h"
#include "eval/gate.h"
#include "eval/report/page.h"

namespace attar::cli {
namespace {

struct RunOptions {
  Common common;
  std::string recipe, output;
  bool dry_run = false;
};

// OUTPUT/report.html, from what the stages have written.
fs::path write_report(const Recipe& recipe) {
  std::vector<std::string> files = {(recipe.output / "summary.json").string()};
  for (const Stage& stage : recipe.stages) {
    const fs::path log = stage.output / kTrainLog;
    if (stage.name != "init") files.push_back(stage.result.string());
    if (fs::exists(log)) files.push_back(log.string());
  }
  const fs::path page = recipe.output / "report.html";
  write_text_file(page, html_page(read_results(files)));
  return page;
}

// Whether the stage that run_stages stopped at is an evaluation that measured, but whose gate could not decide.
bool stopped_undecided(const Recipe& recipe) {
  for (const Stage& stage : recipe.stages) {
    if (is_done(recipe, stage)) continue;
    if (stage.arguments.front() != "eval" || !fs::exists(stage.result)) return false;
    const nlohmann::json result = parse_json(read_text_file(stage.result), stage.result.string());
    return result.value(nlohmann::json::json_pointer("/gate/outcome"), "") == word(Outcome::kUndecided);
  }
  return false;
}

// By value: the stages parse their own command lines, which starts every command's options afresh.
int run_recipe(const RunOptions options) {
  const auto file = options.recipe.empty() ? find_data("recipes/demo.toml") : std::filesystem::path(options.recipe);
  const Recipe recipe = read_recipe(file, options.output);
  if (options.dry_run) {
    print_plan(recipe);
    return kDone;
  }
  // Of an earlier run: nothing may look like a pass if this one breaks off.
  for (const fs::path& old : {recipe.output / "report.html", recipe.output / "summary.json", fs::path(options.common.json)}) {
    std::error_code ignored;
    if (fs::is_regular_file(old, ignored)) fs::remove(old, ignored);
  }
  const int code = run_stages(recipe);
  if (code != kDone && code != kGateFailed && !stopped_undecided(recipe)) return code;
  nlohmann::json summary = summarise(recipe, options.common.seed);
  const std::string text = read_text_file(file);
  summary["recipe"] = {{"path", file.string()}, {"hash", content_hash(as_bytes(text))}, {"text", text}};
  summary["stages"] = stage_records(recipe);
  write_text_file(recipe.output / "summary.json", json_text(stamped("run", summary), 2));
  const fs::path page = write_report(recipe);
  std::cout << "\n" << summary_table(summary);
  if (!recipe.quantized.empty()) std::cout << "\nwritten for llama.cpp: " << recipe.quantized << "\n";
  std::cout << (recipe.quantized.empty() ? "\n" : "") << "the report: " << page.string() << "\n";
  write_result(options.common, "run", summary);
  return code;
}

}  // namespace

void add_run(CLI::App* sub) {
  auto options = std::make_shared<RunOptions>();
  set_action(*sub, options->common, [options] { return run_recipe(*options); });
  sub->add_option("recipe", options->recipe, "Recipe file; without one, the demo on the built-in teacher and corpus");
  sub->add_option("-o,--output", options->output, "Folder of all results, instead of the recipe's");
  sub->add_flag("--dry-run", options->dry_run, "Print the plan and what is already done, and run nothing");
}

}  // namespace attar::cli
