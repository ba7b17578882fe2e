// A verdict in the forms that continuous integration shows: JUnit XML, GitHub's annotations, a Markdown table.
#pragma once

#include <string>

#include "eval/gate.h"

namespace attar {

// One test case per check: worse is a failure, undecided an error. A run that came to no verdict: one case with the message.
std::string junit_text(const GateVerdict& verdict, const std::string& model);
std::string junit_error_text(const std::string& message, const std::string& model);

// "::error title=..::..." and "::warning ..." lines; nothing for what passes.
std::string annotations(const GateVerdict& verdict);
std::string annotation(const std::string& message);  // of an error

// The figures and, if there are checks, the verdict.
std::string markdown_text(const EvalResult& result, const GateVerdict& verdict);

}  // namespace attar
