#include "cli/stages.h"

#include <algorithm>
#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/console.h"
#include "base/data.h"
#include "base/files.h"
#include "base/text.h"
#include "cli/command.h"

namespace attar::cli {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Name and content of a file, or of every file under a folder in sorted order. Temporary files are left out.
void add_content(ContentHash& hash, const fs::path& path) {
  if (fs::is_regular_file(path)) {
    hash.add(path.filename().string() + "\n");
    if (fs::file_size(path) > 0) hash.add(MappedFile(path).bytes());
    return;
  }
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(path))
    if (entry.is_regular_file() && entry.path().string().find(".partial-") == std::string::npos)
      files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  for (const auto& file : files) add_content(hash, file);
}

// Of what a stage has written.
std::string content_of(const Stage& stage) {
  ContentHash hash;
  if (fs::exists(stage.output)) add_content(hash, stage.output);
  if (stage.result != stage.output && fs::exists(stage.result)) add_content(hash, stage.result);
  return hash.hex();
}

fs::path state_file(const Recipe& recipe, const Stage& stage) {
  return recipe.output / ".stages" / (stage.name + ".json");
}

json read_state(const fs::path& file) {
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return json::object();
  return json::parse(read_text_file(file), nullptr, false);  // unreadable: discarded, the stage runs again
}

}  // namespace

std::string stage_hash(const Stage& stage) {
  ContentHash hash;
  hash.add(ATTAR_VERSION "\n");
  std::error_code ignored;
  for (const auto& argument : stage.arguments) {
    hash.add(argument + "\n");
    const fs::path path = argument == "builtin:teacher" ? model_path(argument) : fs::path(argument);
    if (path != stage.output && path != stage.result && !argument.starts_with("-") && fs::exists(path, ignored)) add_content(hash, path);
  }
  return hash.hex();
}

bool is_done(const Recipe& recipe, const Stage& stage) {
  const json state = read_state(state_file(recipe, stage));
  if (!state.is_object() || !state.contains("inputs") || !state.contains("output") || !fs::exists(stage.output)) return false;
  return state["inputs"] == stage_hash(stage) && state["output"] == content_of(stage);
}

json stage_records(const Recipe& recipe) {
  json records = json::array();
  for (const Stage& stage : recipe.stages) {
    json record = {{"name", stage.name}, {"command", command_line(stage.arguments)}};
    const json state = read_state(state_file(recipe, stage));
    for (const char* key : {"inputs", "output", "seconds"})
      if (state.is_object() && state.contains("output") && state.contains(key)) record[key] = state[key];
    records.push_back(std::move(record));
  }
  return records;
}

void print_plan(const Recipe& recipe) {
  bool stale = false;  // what follows a stage that will run reads its new output
  for (const auto& stage : recipe.stages) {
    stale = stale || !is_done(recipe, stage);
    std::cout << (stale ? "to do  " : "done   ") << stage.name << "\n         " << command_line(stage.arguments) << "\n";
  }
}

int run_stages(const Recipe& recipe) {
  fs::create_directories(recipe.output / ".stages");
  for (std::size_t i = 0; i < recipe.stages.size(); ++i) {
    const Stage& stage = recipe.stages[i];
    const std::string title = cat("[", i + 1, "/", recipe.stages.size(), "] ", stage.name);
    if (is_done(recipe, stage)) {
      note(title + ": nothing changed, kept");
      continue;
    }
    note(title + ": " + command_line(stage.arguments));
    const fs::path state = state_file(recipe, stage);
    const std::string inputs = stage_hash(stage);
    const json before = read_state(state);
    Stage started = stage;
    if (stage.resumable && before.is_object() && before.value("started", "") == inputs) started.arguments.push_back("--resume");
    write_text_file(state, json{{"started", inputs}}.dump() + "\n");
    const auto start = std::chrono::steady_clock::now();
    const int code = run_command_line(started.arguments);
    if (code != kDone) return code;
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    write_text_file(state, json_text({{"inputs", inputs}, {"output", content_of(stage)}, {"seconds", seconds}, {"command", command_line(stage.arguments)}}, 2));
  }
  return kDone;
}

}  // namespace attar::cli
