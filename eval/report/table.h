// A table of words and figures, for a page, for Markdown and for a terminal.
#pragma once

#include <string>
#include <vector>

#include "eval/report/numbers.h"

namespace attar {

struct Cell {
  Cell() = default;  // nothing is known: "–"
  Cell(std::string words) : text(std::move(words)) {}
  Cell(const char* words) : text(words) {}
  Cell(const Figure& found, Unit in = Unit::kPlain) : text(in_unit(found, in)), value(found), unit(in) {}
  Cell(const std::optional<double>& found, Unit in = Unit::kPlain) {
    if (found) *this = Cell(Figure{*found, {}}, in);
  }
  bool empty() const { return text.empty(); }

  std::string text;
  std::optional<Figure> value;
  Unit unit = Unit::kPlain;
};

struct Table {
  std::string caption;
  std::vector<std::string> head;
  std::vector<std::vector<Cell>> rows;  // the first cell names the row
};

// Without the columns in which nothing is known.
Table without_empty_columns(const Table& table);

Element html(const Table& table);
std::string markdown(const Table& table);
std::string text(const Table& table);

// Words as they stand in Markdown, on one line: nothing in them is markup, a link or a cell's end.
std::string markdown_escaped(std::string_view words);

}  // namespace attar
