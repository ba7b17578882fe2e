#include "cli/numbers.h"

#include <cmath>
#include <cstdlib>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/text.h"

namespace attar::cli {
namespace {

template <class Fits>
CLI::Validator number(std::string expected, std::string shown, Fits fits) {
  const auto check = [expected = std::move(expected), fits](const std::string& word) {
    char* end = nullptr;
    const double value = std::strtod(word.c_str(), &end);
    const bool fine = end != word.c_str() && *end == '\0' && std::isfinite(value) && fits(value);
    return fine ? std::string() : cat("expected a number ", expected, ", not ", word);
  };
  return {check, std::move(shown)};
}

}  // namespace

const CLI::Validator kPositive = number("above 0", "POSITIVE", [](double value) { return value > 0; });
const CLI::Validator kNotNegative = number("from 0 on", "NONNEGATIVE", [](double value) { return value >= 0; });

CLI::Validator between(double least, double most) {
  const std::string expected = cat("from ", least, " to ", most);
  return number(expected, cat(least, " to ", most), [=](double value) { return value >= least && value <= most; });
}

void refuse_nan(const CLI::App& sub) {
  for (const CLI::Option* option : sub.get_options()) {
    if (!option->get_type_name().starts_with("FLOAT")) continue;
    for (const std::string& word : option->results())
      if (!std::isfinite(std::strtod(word.c_str(), nullptr))) fail(option->get_name(), ": expected a number, not ", word);
  }
}

}  // namespace attar::cli
