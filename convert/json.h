// JSON that comes from files: parsed with an Error that names the file, read key by key with types and ranges checked.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace attar {

// what: the file, for messages. Throws Error for malformed text, and for a key that occurs twice in the outermost
// object.
nlohmann::json parse_json(std::string_view text, std::string_view what);

// Typed access to one object. A key that is null counts as absent, as it does in transformers.
class JsonReader {
 public:
  JsonReader(const nlohmann::json& object, std::string source);

  const nlohmann::json* find(std::string_view key) const;  // nullptr if absent or null
  bool has(std::string_view key) const { return find(key) != nullptr; }

  // With a default, an absent key gives it; without, it is an Error. A wrong type or a value out of range always is.
  std::int64_t integer(std::string_view key, std::int64_t min, std::int64_t max,
                       std::optional<std::int64_t> otherwise = {}) const;
  double number(std::string_view key, double min, double max, std::optional<double> otherwise = {}) const;
  bool boolean(std::string_view key, bool otherwise) const;
  std::string text(std::string_view key, std::optional<std::string> otherwise = {}) const;
  std::vector<double> numbers(std::string_view key) const;
  JsonReader object(std::string_view key) const;

  const std::string& source() const { return source_; }
  const nlohmann::json& json() const { return object_; }

 private:
  const nlohmann::json& need(std::string_view key) const;
  const nlohmann::json& object_;
  std::string source_;
};

}  // namespace attar
