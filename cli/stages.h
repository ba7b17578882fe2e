// Runs the stages of a recipe, skipping those whose inputs have not changed since they were last done.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/recipe.h"

namespace attar::cli {

// Hash over everything that decides a stage's result: Attar's version, the command line, and the content of every file or
// folder that the command line names (but what the stage itself writes).
std::string stage_hash(const Stage& stage);

// OUTPUT/.stages/NAME.json remembers a finished stage: the hash of its inputs, the hash of what it wrote, its seconds.
bool is_done(const Recipe& recipe, const Stage& stage);

// What is remembered of each stage: [{name, command, inputs, output, seconds}], without hashes for one that has not finished.
nlohmann::json stage_records(const Recipe& recipe);

// Prints the plan: each stage's command line and whether it is done.
void print_plan(const Recipe& recipe);

// Runs what is not done. A stage that was killed starts again, from its own checkpoint if it keeps one. Returns the exit
// code of the first stage that fails, or 0.
int run_stages(const Recipe& recipe);

}  // namespace attar::cli
