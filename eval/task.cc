#include "eval/task.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <regex>
#include <toml++/toml.h>

#include "base/error.h"
#include "base/files.h"
#include "base/random.h"
#include "base/text.h"
#include "convert/json.h"

namespace attar {
namespace {

using nlohmann::json;

struct KindInfo {
  TaskKind kind;
  const char* name;
  std::vector<std::string> fields;  // that a line must have; no kind's are part of another's
  const char* prompt;               // unless the task file has one
};

const std::vector<KindInfo>& all_kinds() {
  static const std::vector<KindInfo> kinds{
      {TaskKind::kMultipleChoice, "multiple_choice", {"query", "choices", "gold"}, "{query}"},
      {TaskKind::kTwoContexts, "two_contexts", {"context_options", "continuation", "gold"}, ""},
      {TaskKind::kContinuation, "continuation", {"context", "continuation"}, "{context}"},
      {TaskKind::kGenerated, "generated", {"query", "answer"}, "{query}"}};
  return kinds;
}

const KindInfo& info(TaskKind kind) {
  return *std::find_if(all_kinds().begin(), all_kinds().end(), [&](const KindInfo& k) { return k.kind == kind; });
}

// What a task file says beside what is in Task.
struct Recipe {
  std::string items, shots_from;
  std::optional<TaskKind> kind;
  std::string prompt, description;
  std::string shot_separator = "\n\n";
  std::vector<std::pair<std::string, std::string>> fields;  // this project's name, the file's
};

std::string text_of(const toml::node& node, const std::string& where) {
  if (!node.is_string()) fail(where, " must be a string");
  return node.value<std::string>().value();
}

std::string pattern_of(const toml::node& node, const std::string& where) {
  const std::string pattern = text_of(node, where);
  try {
    (void)std::regex(pattern);
  } catch (const std::regex_error& error) {
    fail(where, ": '", pattern, "' is no regular expression: ", error.what());
  }
  return pattern;
}

std::int64_t count_of(const toml::node& node, const std::string& where) {
  const auto value = node.is_integer() ? node.value<std::int64_t>() : std::nullopt;
  if (!value || *value < 0) fail(where, " must be a whole number, 0 or more");
  return *value;
}

bool flag_of(const toml::node& node, const std::string& where) {
  if (!node.is_boolean()) fail(where, " must be true or false");
  return *node.value<bool>();
}

void read_recipe(const std::string& path, Task& task, Recipe& recipe) {
  static const std::vector<std::string> keys{
      "name",       "items", "kind",       "prompt",      "delimiter",          "description", "shots",  "shots_from",
      "shot_separator", "stop", "max_tokens", "ignore_case", "ignore_punctuation", "extract",     "fields"};
  const std::string content = read_text_file(path);
  try {
    for (const toml::table table = toml::parse(content, path); const auto& [key, node] : table) {
      const std::string_view k = key.str();
      const std::string where = cat("task ", path, ", line ", node.source().begin.line, ": ", k);
      if (k == "name") task.name = text_of(node, where);
      else if (k == "items") recipe.items = text_of(node, where);
      else if (k == "shots_from") recipe.shots_from = text_of(node, where);
      else if (k == "prompt") recipe.prompt = text_of(node, where);
      else if (k == "description") recipe.description = text_of(node, where);
      else if (k == "shot_separator") recipe.shot_separator = text_of(node, where);
      else if (k == "delimiter") task.delimiter = text_of(node, where);
      else if (k == "extract") task.extract = pattern_of(node, where);
      else if (k == "shots") task.shots = count_of(node, where);
      else if (k == "max_tokens") task.max_tokens = count_of(node, where);
      else if (k == "ignore_case") task.ignore_case = flag_of(node, where);
      else if (k == "ignore_punctuation") task.ignore_punctuation = flag_of(node, where);
      else if (k == "kind") {
        std::vector<std::string> names;
        for (const KindInfo& one : all_kinds()) {
          names.emplace_back(one.name);
          if (text_of(node, where) == one.name) recipe.kind = one.kind;
        }
        if (!recipe.kind) fail(where, ": unknown kind '", text_of(node, where), "'", suggest(text_of(node, where), names));
      } else if (k == "stop") {
        if (!node.is_array()) fail(where, " must be a list of strings");
        task.stop.clear();
        for (const toml::node& one : *node.as_array()) task.stop.push_back(text_of(one, where));
      } else if (k == "fields") {
        if (!node.is_table()) fail(where, " must be a table, such as choices = \"options\"");
        for (const auto& [field, name] : *node.as_table())
          recipe.fields.emplace_back(std::string(field.str()), text_of(name, where));
      } else {
        fail("task ", path, ", line ", node.source().begin.line, ": unknown key '", k, "'", suggest(k, keys));
      }
    }
  } catch (const toml::parse_error& error) {
    fail("task ", path, ", line ", error.source().begin.line, ": not TOML: ", error.description());
  }
  if (recipe.items.empty()) fail("task ", path, ": no items; say items = \"FILE.jsonl\"");
  const fs::path folder = fs::path(path).parent_path();
  recipe.items = (folder / recipe.items).string();
  if (!recipe.shots_from.empty()) recipe.shots_from = (folder / recipe.shots_from).string();
}

// One line of the file, under this project's field names.
class Line {
 public:
  Line(const json& object, const Recipe& recipe, std::string where) : object_(object), recipe_(recipe), where_(std::move(where)) {}

  const std::string& where() const { return where_; }
  bool has(const std::string& field) const { return object_.contains(column(field)); }

  const json& at(const std::string& field) const {
    const auto found = object_.find(column(field));
    if (found != object_.end()) return *found;
    std::string present;
    for (const auto& [key, value] : object_.items()) present += (present.empty() ? "" : ", ") + key;
    fail(where_, ": no field '", column(field), "'; the line has ", present.empty() ? "none" : present);
  }

  std::string text(const std::string& field) const {
    const json& value = at(field);
    if (!value.is_string()) fail(where_, ": '", column(field), "' must be a string, not ", value.type_name());
    return value.get<std::string>();
  }

  std::vector<std::string> texts(const std::string& field, std::size_t least) const {
    const json& list = at(field);
    if (!list.is_array() || list.size() < least)
      fail(where_, ": '", column(field), "' must be a list of ", least, " strings or more");
    std::vector<std::string> result;
    for (const json& one : list) {
      if (!one.is_string()) fail(where_, ": '", column(field), "' holds ", one.dump(), ", which is no string");
      if (one.get_ref<const std::string&>().empty())
        fail(where_, ": '", column(field), "' number ", result.size(), " is empty; it has no token to score");
      result.push_back(one.get<std::string>());
    }
    return result;
  }

  std::int64_t gold(std::size_t choices) const {
    const json& value = at("gold");
    if (!value.is_number_integer() || value < 0 || value >= choices)
      fail(where_, ": '", column("gold"), "' is ", value.dump(), "; it must be the index of one of the ", choices,
           " choices, 0 to ", choices - 1);
    return value.get<std::int64_t>();
  }

  // "{field}" stands for the field's text; braces around anything else are text.
  std::string fill(const std::string& prompt) const {
    std::string result;
    for (std::size_t at = 0; at < prompt.size();) {
      const std::size_t end = prompt[at] == '{' ? prompt.find('}', at) : std::string::npos;
      const std::string name = end == std::string::npos ? "" : prompt.substr(at + 1, end - at - 1);
      const bool is_name = !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
        return std::isalnum(c) != 0 || c == '_';
      });
      if (is_name) {
        result += text(name);
        at = end + 1;
      } else {
        result += prompt[at++];
      }
    }
    return result;
  }

 private:
  std::string column(const std::string& field) const {
    for (const auto& [ours, theirs] : recipe_.fields)
      if (ours == field) return theirs;
    return field;
  }

  const json& object_;
  const Recipe& recipe_;
  std::string where_;
};

TaskKind guess_kind(const Line& line) {
  for (const KindInfo& kind : all_kinds())
    if (std::all_of(kind.fields.begin(), kind.fields.end(), [&](const std::string& f) { return line.has(f); })) return kind.kind;
  std::string expected;
  for (const KindInfo& kind : all_kinds()) {
    expected += cat("\n  ", kind.name, ":");
    for (const std::string& field : kind.fields) expected += " " + field;
  }
  fail(line.where(), ": its fields are those of no kind of task:", expected);
}

TaskItem read_item(const Line& line, TaskKind kind, const std::string& prompt) {
  TaskItem item;
  item.where = line.where();
  if (kind != TaskKind::kTwoContexts) item.contexts.push_back(line.fill(prompt));
  switch (kind) {
    case TaskKind::kMultipleChoice:
      item.continuations = line.texts("choices", 2);
      item.gold = line.gold(item.continuations.size());
      break;
    case TaskKind::kTwoContexts:
      item.contexts = line.texts("context_options", 2);
      item.gold = line.gold(item.contexts.size());
      [[fallthrough]];
    case TaskKind::kContinuation:
      item.continuations.push_back(line.text("continuation"));
      if (item.continuations[0].empty()) fail(line.where(), ": 'continuation' is empty; it has no token to score");
      break;
    case TaskKind::kGenerated:
      item.continuations = line.at("answer").is_string() ? std::vector{line.text("answer")} : line.texts("answer", 1);
      if (item.continuations[0].empty()) fail(line.where(), ": 'answer' is empty");
      break;
  }
  return item;
}

std::vector<TaskItem> read_items(const std::string& path, Recipe& recipe, std::int64_t limit) {
  const std::string content = read_text_file(path);
  if (const auto offset = find_invalid_utf8(content)) fail("task ", path, ": byte ", *offset, " is not UTF-8");
  std::vector<TaskItem> items;
  std::size_t number = 0;
  for (std::size_t begin = 0; begin < content.size();) {
    const std::size_t end = std::min(content.find('\n', begin), content.size());
    const std::string_view text(content.data() + begin, end - begin);
    begin = end + 1;
    ++number;
    if (text.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    if (limit > 0 && static_cast<std::int64_t>(items.size()) == limit) break;
    const json object = json::parse(text, nullptr, false);
    const std::string where = cat(path, ":", number);
    if (!object.is_object()) fail(where, ": not a JSON object");
    const Line line(object, recipe, where);
    if (!recipe.kind) recipe.kind = guess_kind(line);
    items.push_back(read_item(line, *recipe.kind, recipe.prompt.empty() ? info(*recipe.kind).prompt : recipe.prompt));
  }
  if (items.empty()) fail("task ", path, ": no item in it");
  return items;
}

// Examples stand before every question, the same ones in the same order; an item that would meet itself gets the next instead.
void add_shots(Task& task, const Recipe& recipe, const std::vector<TaskItem>& pool, bool same_items, std::uint64_t seed) {
  std::vector<std::size_t> order(pool.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  Random(seed).shuffle(order);
  const auto shots = static_cast<std::size_t>(task.shots);
  if (order.size() < shots + (same_items ? 1 : 0))
    fail("task ", task.name, ": ", shots, " shots asked for, but there are only ", pool.size(), " items to take them from");
  for (std::size_t i = 0; i < task.items.size(); ++i) {
    std::string before = recipe.description;
    std::size_t taken = 0;
    for (const std::size_t s : order) {
      if (taken == shots) break;
      if (same_items && s == i) continue;
      const TaskItem& shot = pool[s];
      const auto right = task.kind == TaskKind::kGenerated ? 0 : static_cast<std::size_t>(shot.gold);
      before += shot.context(right) + task.delimiter + shot.continuation(right) + recipe.shot_separator;
      ++taken;
    }
    for (std::string& context : task.items[i].contexts) context = before + context;
  }
}

void check_name(const std::string& name, const std::string& path) {
  const bool plain = !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_' || c == '-';
  });
  if (!plain)
    fail("task ", path, ": the name '", name, "' is not one word of letters, digits, _ and -; say name = \"...\" in a task file");
}

}  // namespace

const char* name_of(TaskKind kind) { return info(kind).name; }

std::string comparable(const std::string& text, const Task& task) {
  std::string result;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (task.ignore_punctuation && byte < 0x80 && std::ispunct(byte) != 0) continue;
    result += task.ignore_case && byte < 0x80 ? static_cast<char>(std::tolower(byte)) : c;
  }
  const auto begin = result.find_first_not_of(" \t\r\n"), end = result.find_last_not_of(" \t\r\n");
  return begin == std::string::npos ? "" : result.substr(begin, end - begin + 1);
}

std::string Task::hash() const {
  json settings{{"kind", name_of(kind)}, {"delimiter", delimiter}};
  if (kind == TaskKind::kGenerated)
    settings["generated"] = {stop, max_tokens, ignore_case, ignore_punctuation, extract};
  ContentHash hash;
  hash.add(settings.dump());
  for (const TaskItem& item : items) hash.add(json{item.contexts, item.continuations, item.gold}.dump());
  return hash.hex();
}

Task read_task(const std::string& path, const TaskOptions& options) {
  Task task;
  Recipe recipe;
  task.name = fs::path(path).stem().string();
  const std::string kind = fs::path(path).extension().string();
  if (kind == ".toml") read_recipe(path, task, recipe);
  else if (kind == ".jsonl") recipe.items = path;
  else fail("task ", path, ": neither a .jsonl of items nor a .toml task file");
  check_name(task.name, path);
  if (options.shots >= 0) task.shots = options.shots;
  if (task.max_tokens == 0) fail("task ", path, ": max_tokens must be at least 1");

  task.items = read_items(recipe.items, recipe, options.limit);
  task.kind = *recipe.kind;
  if (task.kind == TaskKind::kTwoContexts && !recipe.prompt.empty())
    fail("task ", path, ": a two_contexts task has its contexts in 'context_options'; leave prompt out");
  if (task.kind == TaskKind::kGenerated)
    for (const TaskItem& item : task.items)
      for (const std::string& answer : item.continuations)
        if (comparable(answer, task).empty()) fail(item.where, ": of the answer '", answer, "' nothing is left to compare; a text without any answer would be right");
  if (std::error_code ignored; !recipe.shots_from.empty() && fs::equivalent(recipe.shots_from, recipe.items, ignored)) recipe.shots_from.clear();
  const std::vector<TaskItem> pool =
      task.shots == 0 ? std::vector<TaskItem>{} : read_items(recipe.shots_from.empty() ? recipe.items : recipe.shots_from, recipe, 0);
  add_shots(task, recipe, pool, task.shots > 0 && recipe.shots_from.empty(), options.seed);
  return task;
}

Task cloze_task(const std::vector<ClozeItem>& items) {
  Task task;
  task.name = "cloze";
  task.delimiter = "";  // the choices begin with their space
  for (const ClozeItem& item : items)
    task.items.push_back({{item.context}, item.choices, item.gold, cat("built-in item ", task.items.size())});
  return task;
}

}  // namespace attar
