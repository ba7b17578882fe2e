#include "eval/report/reading.h"

#include "base/error.h"
#include "base/text.h"

namespace attar {
namespace {

using nlohmann::json;

// Keys of a result that say how it was made.
constexpr std::pair<const char*, const char*> kFacts[] = {
    {"command_line", "command line"}, {"preset", "preset"},   {"method", "method"},   {"imatrix", "importance"},
    {"calibration_tokens", "calibration tokens"},             {"steps", "steps"},     {"tokens", "tokens"},
    {"chunks", "chunks"},             {"chunk_tokens", "tokens a chunk"},             {"matrices", "matrices"},
    {"seconds", "seconds"},           {"threads", "threads"}, {"kernels", "through the kernels"}};

std::string words(const json& value) {
  if (value.is_string()) return value.get<std::string>();
  return value.is_number_float() ? rounded(value.get<double>()) : value.dump();
}

}  // namespace

std::optional<double> number_in(const JsonReader& from, std::string_view key) {
  if (!from.has(key)) return {};
  return from.number(key, -kAny, kAny);
}

void for_each_in(const JsonReader& from, std::string_view key, const std::function<void(const JsonReader&)>& take) {
  const json* list = from.find(key);
  if (list == nullptr) return;
  if (!list->is_array()) fail(from.source(), ": '", key, "' must be a list, found ", list->type_name());
  for (std::size_t i = 0; i < list->size(); ++i) take(JsonReader((*list)[i], cat(from.source(), ": ", key, "[", i, "]")));
}

ReportedProtocol read_reported_protocol(const JsonReader& from) {
  constexpr std::int64_t kMost = std::int64_t{1} << 53;
  std::map<std::string, std::string> tasks;  // of compare; those of eval stand beside the protocol
  if (from.has("tasks"))
    for (const JsonReader all = from.object("tasks"); const auto& [name, how] : all.json().items()) tasks[name] = all.text(name);
  return {from.text("data"),
          from.text("data_hash"),
          from.text("tokenizer_hash"),
          from.text("name", ""),
          from.integer("context", 0, kMost, 0),
          from.integer("chunks", 0, kMost, 0),
          from.integer("tokens_scored", 0, kMost, 0),
          from.boolean("packed", false),
          std::move(tasks)};
}

Origin read_origin(const JsonReader& from) {
  Origin origin{from.source(), from.text("command"), from.text("attar"), {}};
  for (const auto& [key, name] : kFacts)
    if (const json* value = from.find(key); value != nullptr && value->is_primitive()) origin.facts.emplace_back(name, words(*value));
  for (const char* key : {"model", "reference", "teacher", "output"})
    if (const json* value = from.find(key); value != nullptr && value->is_object())
      origin.facts.emplace_back(key, from.object(key).text("path") + "  " + from.object(key).text("hash", ""));
    else if (value != nullptr && value->is_string())
      origin.facts.emplace_back(key, value->get<std::string>() + "  " + from.text(cat(key, "_hash"), ""));
  for_each_in(from, "gains", [&](const JsonReader& gain) {
    origin.facts.emplace_back("gain of " + gain.text("method"), cat(rounded(gain.number("before", -kAny, kAny)), " -> ", rounded(gain.number("after", -kAny, kAny)), ", ", gain.text("measure")));
  });
  if (from.has("protocol")) {
    const ReportedProtocol protocol = read_reported_protocol(from.object("protocol"));
    origin.facts.emplace_back("text", protocol.data + "  " + protocol.data_hash);
    origin.facts.emplace_back("tokenizer", protocol.tokenizer_hash);
  }
  if (from.has("recipe")) {
    const JsonReader recipe = from.object("recipe");
    origin.facts.emplace_back("recipe", cat(recipe.text("path"), "  ", recipe.text("hash")));
    origin.facts.emplace_back("", recipe.text("text"));
  }
  for_each_in(from, "stages", [&](const JsonReader& stage) {
    std::string text = stage.text("command");
    if (stage.has("output")) text += cat("\ninputs ", stage.text("inputs", "?"), ", output ", stage.text("output"));
    if (stage.has("seconds")) text += cat(", ", rounded(stage.number("seconds", 0, kAny), 3), " s");
    origin.facts.emplace_back(stage.text("name"), text);
  });
  return origin;
}

}  // namespace attar
