// What readers of text files share: lines, documents between blank lines, jsonl objects.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/files.h"
#include "base/text.h"

namespace attar {

// Calls line(text, number, offset) for each line without its end; numbers start at 1.
template <class F>
void for_each_line(std::string_view text, F line) {
  std::size_t number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    line(text.substr(begin, end - begin), ++number, begin);
    begin = end + 1;
  }
}

inline bool is_blank(std::string_view line) { return line.find_first_not_of(" \t\r\f\v") == std::string_view::npos; }

// Calls document(offset, size) for each run of lines that are not blank.
template <class F>
void for_each_paragraph(std::string_view text, F document) {
  std::size_t begin = 0, end = 0;  // of the document being gathered
  const auto close = [&] {
    if (end > begin) document(begin, end - begin);
  };
  for_each_line(text, [&](std::string_view line, std::size_t, std::size_t offset) {
    if (is_blank(line)) {
      close();
      begin = end = offset + line.size() + 1;
    } else {
      end = offset + line.size();
    }
  });
  close();
}

// Lines of JSON objects; anything else is text. Throws Error for what is neither: a .json file would be read as its braces and digits.
inline bool is_jsonl(const std::string& source) {
  const std::string extension = fs::path(source).extension().string();
  if (extension == ".json")
    fail(source, ": one JSON value is neither text nor lines; give a .txt, or a .jsonl with an object on each line: {\"text\": \"...\"}, ",
         "{\"messages\": [...]} or {\"input_ids\": [...]}, for token ids");
  return extension == ".jsonl";
}

inline void check_utf8(std::string_view text, const std::string& source) {
  if (const auto offset = find_invalid_utf8(text))
    fail(source, ": not UTF-8: byte ", *offset, " of ", text.size(), " is 0x", std::hex,
         unsigned{static_cast<unsigned char>(text[*offset])}, "; convert it, for instance with iconv -t UTF-8");
}

inline nlohmann::json parse_object(std::string_view line, const std::string& source, std::size_t number) {
  auto json = nlohmann::json::parse(line, nullptr, false);
  if (!json.is_object()) fail(source, ": line ", number, " is not a JSON object; expected {\"text\": \"...\"}");
  return json;
}

inline std::string take_text(nlohmann::json& object, const std::string& source, std::size_t number) {
  const auto field = object.find("text");
  if (field == object.end() || !field->is_string())
    fail(source, ": line ", number, " has no \"text\" that is a string; expected {\"text\": \"...\"}");
  return std::move(field->get_ref<std::string&>());
}

}  // namespace attar
