#include "eval/report/table.h"

#include <algorithm>

namespace attar {
namespace {

constexpr const char* kNothing = "–";

const std::string& shown(const Cell& cell) {
  static const std::string nothing = kNothing;
  return cell.empty() ? nothing : cell.text;
}

// Columns of figures stand to the right.
bool is_numeric(const Table& table, std::size_t column) {
  return std::any_of(table.rows.begin(), table.rows.end(), [&](const auto& row) { return row[column].value.has_value(); });
}

std::size_t width_of(std::string_view utf8) {
  return static_cast<std::size_t>(std::count_if(utf8.begin(), utf8.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

// On one line and without what steers a terminal.
std::string printable(std::string_view words) {
  std::string out;
  for (const char c : words) out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;
  return out;
}

}  // namespace

Table without_empty_columns(const Table& table) {
  Table result{table.caption, {}, std::vector<std::vector<Cell>>(table.rows.size())};
  for (std::size_t column = 0; column < table.head.size(); ++column) {
    if (std::all_of(table.rows.begin(), table.rows.end(), [&](const auto& row) { return row[column].empty(); })) continue;
    result.head.push_back(table.head[column]);
    for (std::size_t r = 0; r < table.rows.size(); ++r) result.rows[r].push_back(table.rows[r][column]);
  }
  return result;
}

Element html(const Table& table) {
  const auto side = [&](std::size_t column) -> std::vector<Element::Attribute> {
    if (is_numeric(table, column)) return {{"class", "number"}};
    return {};
  };
  Element head("tr"), body("tbody");
  for (std::size_t column = 0; column < table.head.size(); ++column) {
    auto attributes = side(column);
    attributes.emplace_back("scope", "col");
    head.add(Element("th", attributes, table.head[column]));
  }
  for (const auto& row : table.rows) {
    Element line("tr");
    for (std::size_t column = 0; column < row.size(); ++column) {
      const Cell& cell = row[column];
      Element one = column == 0 ? Element("th", {{"scope", "row"}}) : Element("td", side(column));
      if (cell.value) one.add(figure(*cell.value, cell.unit));
      else one.add(shown(cell));
      line.add(one);
    }
    body.add(line);
  }
  Element whole("table");
  if (!table.caption.empty()) whole.set("aria-label", table.caption);
  Element scrolled("div", {{"class", "wide"}, {"tabindex", "0"}}, whole.add(Element("thead", {}, head)).add(body));
  if (table.caption.empty()) return scrolled;
  return Element("div", {}, Element("p", {{"class", "note"}}, table.caption), scrolled);  // a <caption> would scroll along
}

std::string markdown(const Table& table) {
  std::string out = table.caption.empty() ? "" : markdown_escaped(table.caption) + "\n\n";
  const auto line = [&](const auto& cells, const auto& show) {
    for (const auto& cell : cells) out += "| " + show(cell) + " ";
    out += "|\n";
  };
  line(table.head, [](const std::string& name) { return markdown_escaped(name); });
  for (std::size_t column = 0; column < table.head.size(); ++column) out += is_numeric(table, column) ? "|---:" : "|---";
  out += "|\n";
  for (const auto& row : table.rows) line(row, [](const Cell& cell) { return markdown_escaped(shown(cell)); });
  return out;
}

std::string text(const Table& table) {
  std::vector<std::vector<std::string>> lines = {table.head};
  for (const auto& row : table.rows) {
    lines.emplace_back();
    for (const Cell& cell : row) lines.back().push_back(printable(cell.empty() ? "-" : cell.text));
  }
  std::string out = table.caption.empty() ? "" : printable(table.caption) + "\n";
  for (const auto& line : lines) {
    for (std::size_t column = 0; column < line.size(); ++column) {
      std::size_t width = 0;
      for (const auto& other : lines) width = std::max(width, width_of(other[column]));
      const std::string room(width - width_of(line[column]), ' ');
      out += column == 0 ? "" : "  ";
      out += is_numeric(table, column) ? room + line[column] : line[column] + (column + 1 < line.size() ? room : "");
    }
    out += "\n";
  }
  return out;
}

std::string markdown_escaped(std::string_view words) {
  constexpr std::string_view kSpecial = "\\`*_[]|~$";
  std::string out;
  for (const char c : escaped(words)) {
    if (c == '\n' || c == '\t') {
      out += ' ';
      continue;
    }
    if (kSpecial.find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

}  // namespace attar
