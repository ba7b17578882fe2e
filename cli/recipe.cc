#include "cli/recipe.h"

#include <toml++/toml.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <cstdlib>

#include "base/error.h"
#include "base/files.h"
#include "base/text.h"
#include "cli/command.h"

namespace attar::cli {
namespace {

namespace fs = std::filesystem;

// The stages in the order in which they run. A table [NAME] of the recipe asks for the stage.
const std::vector<std::string> kStages = {"init", "prune", "distill", "quantize", "eval"};
const std::vector<std::string> kRunKeys = {"output", "teacher", "prompt", "seed", "threads"};

std::string place(const std::string& source, const toml::node& node) {
  return cat(source, ":", node.source().begin.line);
}

std::string text_of(const toml::node& node, const std::string& where) {
  if (const auto* text = node.as_string()) return expand_variables(text->get());
  if (const auto* integer = node.as_integer()) return std::to_string(integer->get());
  if (const auto* real = node.as_floating_point()) return nlohmann::json(real->get()).dump();  // shortest exact form
  fail(where, ": expected a text, a number, true or false, or a list of these");
}

// Turns the keys of a stage's table into options of its command, checked against that command's parser.
class OptionReader {
 public:
  explicit OptionReader(std::string source) : source_(std::move(source)) { add_all_commands(app_); }

  std::vector<std::string> read(const std::string& command, const toml::table& table,
                                const std::vector<std::string>& reserved) {
    const CLI::App* sub = app_.get_subcommand(command);
    std::vector<std::string> arguments, known;
    for (const CLI::Option* option : sub->get_options())
      for (const auto& name : option->get_lnames())
        if (name != "help" && !contains(reserved, name)) known.push_back(name);
    for (const auto& [key, node] : table) {
      const std::string name(key.str()), where = cat(place(source_, node), ": [", command, "] ", name);
      if (contains(reserved, name)) fail(where, ": the recipe sets this itself; remove the key");
      if (!contains(known, name)) fail(where, ": unknown key", suggest(name, known));
      append(arguments, "--" + name, node, where);
    }
    return arguments;
  }

  static bool contains(const std::vector<std::string>& list, const std::string& word) {
    return std::find(list.begin(), list.end(), word) != list.end();
  }

 private:
  static void append(std::vector<std::string>& arguments, const std::string& option, const toml::node& node,
                     const std::string& where) {
    if (const auto* flag = node.as_boolean()) {
      if (flag->get()) arguments.push_back(option);
    } else if (const auto* list = node.as_array()) {
      for (const auto& item : *list) append(arguments, option, item, where);
    } else {
      arguments.push_back(option);
      arguments.push_back(text_of(node, where));
    }
  }

  CLI::App app_;
  std::string source_;
};

class Planner {
 public:
  Planner(const toml::table& recipe, const std::string& source, const std::string& output)
      : tables_(recipe), source_(source), options_(source) {
    check_tables();
    const toml::table empty;
    const toml::table& run = table("run") != nullptr ? *table("run") : empty;
    for (const auto& [key, node] : run) {
      const std::string name(key.str()), value = text_of(node, cat(place(source_, node), ": [run] ", name));
      if (!OptionReader::contains(kRunKeys, name))
        fail(place(source_, node), ": [run] ", name, ": unknown key", suggest(name, kRunKeys));
      if (name == "output") plan_.output = value;
      if (name == "teacher") plan_.teacher = value;
      if (name == "prompt") plan_.prompt = value;
      if (name == "seed" || name == "threads") everywhere_.emplace_back("--" + name, value);
    }
    if (!output.empty()) plan_.output = output;
    if (plan_.output.empty()) fail(source_, ": [run] output is missing; name a folder, or give -o FOLDER");
    if (plan_.teacher.empty() && table("init") == nullptr)
      fail(source_, ": [run] teacher is missing; name a model, or \"builtin:teacher\"");
  }

  Recipe plan() {
    std::string student = plan_.teacher;
    if (const auto* init = table("init")) {
      student = out("init");
      add("init", "init", *init, {"-o", student}, {"output"}, student);
    }
    if (const auto* prune = table("prune")) {
      require_teacher("prune");
      add("prune", "prune", *prune, {plan_.teacher, "-o", out("pruned")}, {"output", "resume"}, out("pruned"));
      plan_.stages.back().resumable = true;
      student = out("pruned");
    }
    if (const auto* distill = table("distill")) {
      std::vector<std::string> fixed = {"--student", student, "-o", out("student")};
      if (!plan_.teacher.empty()) fixed.insert(fixed.end(), {"--teacher", plan_.teacher});
      add("distill", "distill", *distill, fixed, {"output", "teacher", "student", "resume"}, out("student"));
      plan_.stages.back().resumable = true;
      student = out("student");
    }
    if (student != plan_.teacher) plan_.student = student;
    if (const auto* quantize = table("quantize")) {
      plan_.quantized = out("student.gguf");
      add("quantize", "quantize", *quantize, {student, "-o", plan_.quantized}, {"output", "resume"}, plan_.quantized);
      plan_.stages.back().resumable = true;
    }
    if (const auto* eval = table("eval")) plan_eval(*eval);
    return std::move(plan_);
  }

 private:
  void check_tables() const {
    std::vector<std::string> names = kStages;
    names.insert(names.begin(), "run");
    for (const auto& [key, node] : tables_) {
      const std::string name(key.str());
      if (!OptionReader::contains(names, name)) fail(place(source_, node), ": unknown table [", name, "]", suggest(name, names));
      if (!node.is_table()) fail(place(source_, node), ": ", name, " must be a table: [", name, "]");
    }
  }

  const toml::table* table(const std::string& name) const { return tables_[name].as_table(); }
  std::string out(const std::string& name) const { return (plan_.output / name).string(); }

  void require_teacher(const std::string& stage) const {
    if (plan_.teacher.empty()) fail(source_, ": [", stage, "] needs a teacher; set [run] teacher");
  }

  void add(const std::string& name, const std::string& command, const toml::table& keys,
           const std::vector<std::string>& fixed, const std::vector<std::string>& reserved, const fs::path& output) {
    Stage stage{name, {command}, output, out(name + ".json"), false};
    stage.arguments.insert(stage.arguments.end(), fixed.begin(), fixed.end());
    stage.arguments.insert(stage.arguments.end(), {"--json", stage.result.string()});
    std::vector<std::string> set_here = reserved;
    set_here.emplace_back("json");
    const auto chosen = options_.read(command, keys, set_here);
    stage.arguments.insert(stage.arguments.end(), chosen.begin(), chosen.end());
    for (const auto& [option, value] : everywhere_)
      if (!OptionReader::contains(chosen, option)) stage.arguments.insert(stage.arguments.end(), {option, value});
    plan_.stages.push_back(std::move(stage));
  }

  // One evaluation each of teacher, student and quantized student. The teacher is the reference; a gate judges the last.
  void plan_eval(const toml::table& keys) {
    toml::table ungated = keys;
    ungated.erase("gate");
    const bool layers = wants_layers(keys);
    toml::table judged = keys;
    for (toml::table* table : {&ungated, &judged}) table->erase("layers");
    std::vector<std::pair<std::string, std::string>> models = {
        {"teacher", plan_.teacher}, {"student", plan_.student}, {"quantized", plan_.quantized}};
    std::erase_if(models, [](const auto& model) { return model.second.empty(); });
    for (const auto& [name, model] : models) {
      std::vector<std::string> fixed = {model};
      if (layers && name == "quantized") fixed.insert(fixed.end(), {"--layers", plan_.student.empty() ? plan_.teacher : plan_.student});
      if (name != "teacher" && !plan_.teacher.empty()) fixed.insert(fixed.end(), {"--reference", plan_.teacher});
      const bool last = &model == &models.back().second;
      add("eval-" + name, "eval", last ? judged : ungated, fixed, {"reference"}, out("eval-" + name + ".json"));
    }
  }

  // [eval] layers = true: the quantized student tensor by tensor, against what it was quantized from.
  bool wants_layers(const toml::table& keys) const {
    const toml::node* node = keys.get("layers");
    if (node == nullptr) return false;
    const std::string where = cat(place(source_, *node), ": [eval] layers");
    if (!node->is_boolean()) fail(where, ": expected true or false; the recipe knows what was quantized");
    if (node->as_boolean()->get() && plan_.quantized.empty()) fail(where, ": looks at the quantized model; add [quantize]");
    return node->as_boolean()->get();
  }

  const toml::table& tables_;
  std::string source_;
  OptionReader options_;
  std::vector<std::pair<std::string, std::string>> everywhere_;  // --seed and --threads of [run]
  Recipe plan_;
};

}  // namespace

std::string expand_variables(const std::string& text) {
  std::string result;
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] != '$') {
      result += text[i++];
      continue;
    }
    const bool braced = i + 1 < text.size() && text[i + 1] == '{';
    const std::size_t begin = i + (braced ? 2 : 1);
    std::size_t end = begin;
    while (end < text.size() && (std::isalnum(static_cast<unsigned char>(text[end])) != 0 || text[end] == '_')) ++end;
    const std::string name = text.substr(begin, end - begin);
    std::string fallback;
    bool has_fallback = false;
    if (braced) {
      const std::size_t close = text.find('}', end);
      if (close == std::string::npos) fail("'", text, "': ${ without }");
      if (text.compare(end, 2, ":-") == 0) {
        has_fallback = true;
        fallback = text.substr(end + 2, close - end - 2);
      } else if (end != close) {
        fail("'", text, "': expected ${NAME} or ${NAME:-default}");
      }
      end = close + 1;
    }
    const char* value = name.empty() ? nullptr : std::getenv(name.c_str());
    if (value == nullptr && !has_fallback)
      fail("'", text, "': the environment variable ", name, " is not set; set it, or write ${", name, ":-default}");
    result += value != nullptr ? value : fallback;
    i = end;
  }
  return result;
}

Recipe parse_recipe(const std::string& toml, const std::string& source, const std::string& output) {
  toml::table table;
  try {
    table = toml::parse(toml, source);
  } catch (const toml::parse_error& error) {
    fail(source, ":", error.source().begin.line, ": not valid TOML: ", error.description());
  }
  return Planner(table, source, output).plan();
}

Recipe read_recipe(const fs::path& file, const std::string& output) {
  return parse_recipe(read_text_file(file), file.string(), output);
}

}  // namespace attar::cli
