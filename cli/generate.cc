#include "cli/command.h"

namespace attar::cli {

void add_generate(CLI::App&) {}

}  // namespace attar::cli
