#include "convert/json.h"

#include <cmath>
#include <unordered_set>

#include "base/error.h"

namespace attar {

nlohmann::json parse_json(std::string_view text, std::string_view what) {
  std::unordered_set<std::string> keys;
  const nlohmann::json::parser_callback_t unique_keys = [&](int depth, nlohmann::json::parse_event_t event,
                                                            nlohmann::json& parsed) {
    if (depth == 1 && event == nlohmann::json::parse_event_t::key &&
        !keys.insert(parsed.get_ref<const std::string&>()).second)
      fail(what, ": the key '", parsed.get_ref<const std::string&>(), "' occurs twice");
    return true;
  };
  try {
    return nlohmann::json::parse(text.begin(), text.end(), unique_keys);
  } catch (const nlohmann::json::exception& error) {
    fail(what, ": not valid JSON: ", error.what());
  }
}

JsonReader::JsonReader(const nlohmann::json& object, std::string source) : object_(object), source_(std::move(source)) {
  if (!object.is_object()) fail(source_, ": expected a JSON object, found ", object.type_name());
}

const nlohmann::json* JsonReader::find(std::string_view key) const {
  const auto found = object_.find(std::string(key));
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

const nlohmann::json& JsonReader::need(std::string_view key) const {
  const nlohmann::json* value = find(key);
  if (value == nullptr) fail(source_, ": the key '", key, "' is missing");
  return *value;
}

std::int64_t JsonReader::integer(std::string_view key, std::int64_t min, std::int64_t max,
                                 std::optional<std::int64_t> otherwise) const {
  if (otherwise && !has(key)) return *otherwise;
  const nlohmann::json& value = need(key);
  // Some writers store whole numbers as 1.0.
  const bool whole = value.is_number_float() && std::trunc(value.get<double>()) == value.get<double>() &&
                     std::abs(value.get<double>()) < 0x1p53;
  if (!value.is_number_integer() && !whole)
    fail(source_, ": '", key, "' must be a whole number, found ", value.dump(-1, ' ', true).substr(0, 60));
  const bool too_large = value.is_number_unsigned() && value.get<std::uint64_t>() > std::uint64_t{INT64_MAX};
  const auto number = value.get<std::int64_t>();
  if (too_large || number < min || number > max)
    fail(source_, ": '", key, "' is ", value.dump(), "; expected ", min, " to ", max);
  return number;
}

double JsonReader::number(std::string_view key, double min, double max, std::optional<double> otherwise) const {
  if (otherwise && !has(key)) return *otherwise;
  const nlohmann::json& value = need(key);
  if (!value.is_number()) fail(source_, ": '", key, "' must be a number, found ", value.type_name());
  const double number = value.get<double>();
  if (!(number >= min && number <= max)) fail(source_, ": '", key, "' is ", number, "; expected ", min, " to ", max);
  return number;
}

bool JsonReader::boolean(std::string_view key, bool otherwise) const {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) fail(source_, ": '", key, "' must be true or false, found ", value->type_name());
  return value->get<bool>();
}

std::string JsonReader::text(std::string_view key, std::optional<std::string> otherwise) const {
  if (otherwise && !has(key)) return *otherwise;
  const nlohmann::json& value = need(key);
  if (!value.is_string()) fail(source_, ": '", key, "' must be a string, found ", value.type_name());
  return value.get<std::string>();
}

std::vector<double> JsonReader::numbers(std::string_view key) const {
  const nlohmann::json& value = need(key);
  if (!value.is_array()) fail(source_, ": '", key, "' must be a list of numbers, found ", value.type_name());
  std::vector<double> numbers;
  for (const nlohmann::json& item : value) {
    if (!item.is_number() || !std::isfinite(item.get<double>()))
      fail(source_, ": '", key, "' must be a list of numbers, found a ", item.type_name());
    numbers.push_back(item.get<double>());
  }
  return numbers;
}

JsonReader JsonReader::object(std::string_view key) const { return JsonReader(need(key), cat(source_, ": ", key)); }

}  // namespace attar
