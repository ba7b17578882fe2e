// Numbers on the command line.
#pragma once

#include <CLI/CLI.hpp>

namespace attar::cli {

// Checks for options, whose messages say what is expected; those of CLI11 print numbers with six places, and the largest double there is.
extern const CLI::Validator kPositive, kNotNegative;
CLI::Validator between(double least, double most);

// Throws Error for an option of `sub` that is a number and was given as nan or inf, which pass some of CLI11's checks.
void refuse_nan(const CLI::App& sub);

}  // namespace attar::cli
