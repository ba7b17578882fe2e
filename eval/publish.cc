#include "eval/publish.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/error.h"
#include "base/text.h"

namespace attar {
namespace {

std::string xml(const std::string& text) {
  std::string result;
  for (const char c : as_utf8(text)) {
    switch (c) {
      case '&': result += "&amp;"; break;
      case '<': result += "&lt;"; break;
      case '>': result += "&gt;"; break;
      case '"': result += "&quot;"; break;
      default:
        if (static_cast<unsigned char>(c) >= 0x20 || c == '\n' || c == '\t') result += c;  // others are no XML
    }
  }
  return result;
}

// What stands in an annotation (workflow commands escape these): https://github.com/actions/toolkit, packages/core/src/command.ts.
std::string workflow(const std::string& text, bool property) {
  std::string result;
  for (const char c : as_utf8(text)) {
    if (c == '%') result += "%25";
    else if (c == '\r') result += "%0D";
    else if (c == '\n') result += "%0A";
    else if (property && c == ':') result += "%3A";
    else if (property && c == ',') result += "%2C";
    else result += c;
  }
  return result;
}

std::string message(const GateCheck& check) {
  std::string text = cat(check.metric, " = ", std::isnan(check.value) ? "not known" : exact(check.value), ", ", check.rule);
  if (std::isfinite(check.other)) text += cat(" (", exact(check.other), ")");
  if (!check.note.empty()) text += "; " + check.note;
  return text;
}

std::string short_number(double value) {
  if (!std::isfinite(value)) return "-";
  char text[32];
  std::snprintf(text, sizeof text, "%.5g", value);
  return text;
}

std::string cell(const std::string& text) {
  std::string result;
  for (const char c : text) result += c == '|' ? "\\|" : c == '\n' ? " " : std::string(1, c);
  return result;
}

std::string suite(std::size_t tests, std::size_t failures, std::size_t errors, const std::string& model, const std::string& cases) {
  return cat("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"attar eval\" tests=\"", tests, "\" failures=\"",
             failures, "\" errors=\"", errors, "\">\n    <properties><property name=\"model\" value=\"", xml(model),
             "\"/></properties>\n", cases, "  </testsuite>\n</testsuites>\n");
}

}  // namespace

std::string junit_text(const GateVerdict& verdict, const std::string& model) {
  std::size_t failures = 0, errors = 0;
  std::string cases;
  for (const GateCheck& check : verdict.checks) {
    const std::string name = xml(cat(check.metric, " ", check.rule)), what = xml(message(check));
    cases += cat("    <testcase classname=\"attar.eval\" name=\"", name, "\">");
    if (check.outcome == Outcome::kWorse) cases += cat("<failure message=\"", what, "\"/>"), ++failures;
    else if (check.outcome == Outcome::kUndecided) cases += cat("<error message=\"", what, "\"/>"), ++errors;
    else cases += cat("<system-out>", what, "</system-out>");
    cases += "</testcase>\n";
  }
  return suite(verdict.checks.size(), failures, errors, model, cases);
}

std::string junit_error_text(const std::string& what, const std::string& model) {
  return suite(1, 0, 1, model, cat("    <testcase classname=\"attar.eval\" name=\"evaluation\"><error message=\"", xml(what), "\"/></testcase>\n"));
}

std::string annotations(const GateVerdict& verdict) {
  std::string lines;
  for (const GateCheck& check : verdict.checks) {
    const bool error = check.outcome != Outcome::kPass;
    if (!error && !check.is_warning) continue;
    const char* title = check.outcome == Outcome::kWorse ? "worse" : error ? "cannot decide" : "gate";
    lines += cat(error ? "::error" : "::warning", " title=", workflow(cat("attar eval: ", title, ": ", check.metric), true), "::",
                 workflow(message(check), false), "\n");
  }
  return lines;
}

std::string annotation(const std::string& what) { return cat("::error title=attar eval::", workflow(what, false), "\n"); }

std::string markdown_text(const EvalResult& result, const GateVerdict& verdict) {
  std::string text = cat("### attar eval: ", verdict.checks.empty() ? "measured" : word(verdict.outcome), "\n\n`", result.model.path, "`");
  if (result.reference) text += cat(" against `", result.reference->path, "`");
  if (result.protocol.scored > 0)
    text += cat(", ", result.protocol.scored, " positions of `", result.protocol.data, "` (", result.protocol.name, ", context ",
                result.protocol.context, ")");
  text += "\n\n";
  if (!verdict.checks.empty()) {
    text += "| | metric | value | rule | compared with | 95 % interval | n | detectable | |\n|---|---|---|---|---|---|---|---|---|\n";
    for (const GateCheck& check : verdict.checks) {
      const char* mark = check.outcome == Outcome::kPass ? (check.is_warning ? "pass, warning" : "pass") : word(check.outcome);
      const std::string interval = std::isfinite(check.low) ? cat(short_number(check.low), " .. ", short_number(check.high)) : "-";
      text += cat("| ", mark, " | ", check.metric, " | ", short_number(check.value), " | ", cell(check.rule), " | ", short_number(check.other),
                  " | ", interval, " | ", check.units, " | ", short_number(check.detectable), " | ", cell(check.note), " |\n");
    }
    text += "\n";
  }
  text += "| metric | value | reference |\n|---|---|---|\n";
  for (const auto& [name, samples] : result.samples) {
    const auto reference = result.reference_samples.find(name);
    text += cat("| ", name, " | ", short_number(samples.value()), " | ",
                reference == result.reference_samples.end() ? "" : short_number(reference->second.value()), " |\n");
  }
  return as_utf8(text);
}

}  // namespace attar
