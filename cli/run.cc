#include "cli/command.h"

namespace attar::cli {

void add_run(CLI::App&) {}

}  // namespace attar::cli
