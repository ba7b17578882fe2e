#include "cli/numbers.h"

#include <cmath>
#include <cstdlib>
#include <string>

#include "base/error.h"
#include "base/text.h"

namespace attar::cli {
namespace {

CLI::Validator number(bool zero_too) {
  const auto check = [zero_too](const std::string& word) {
    char* end = nullptr;
    const double value = std::strtod(word.c_str(), &end);
    const bool fine = end != word.c_str() && *end == '\0' && std::isfinite(value) && (value > 0 || (zero_too && value == 0));
    return fine ? std::string() : cat("expected a number ", zero_too ? "from 0 on" : "above 0", ", not ", word);
  };
  return {check, zero_too ? "NONNEGATIVE" : "POSITIVE"};
}

}  // namespace

const CLI::Validator kPositive = number(false), kNotNegative = number(true);

void refuse_nan(const CLI::App& sub) {
  for (const CLI::Option* option : sub.get_options()) {
    if (!option->get_type_name().starts_with("FLOAT")) continue;
    for (const std::string& word : option->results())
      if (!std::isfinite(std::strtod(word.c_str(), nullptr))) fail(option->get_name(), ": expected a number, not ", word);
  }
}

}  // namespace attar::cli
