// The report as one page that needs nothing beside itself: no network, no script.
#pragma once

#include <string>

#include "eval/report/results.h"

namespace attar {

// HTML5, and well-formed XML alike. The same report gives the same bytes.
std::string html_page(const Report& report);
std::string markdown_page(const Report& report);

extern const char* const kPageStyle;

}  // namespace attar
