// The manual page and the shell completions, made from the parser itself so that they cannot lie.
#pragma once

#include <string>

#include "cli/command.h"

namespace attar::cli {

std::string man_page(const CLI::App& app);         // roff, section 1
std::string bash_completion(const CLI::App& app);
std::string zsh_completion(const CLI::App& app);
std::string fish_completion(const CLI::App& app);

}  // namespace attar::cli
