#include "cli/command.h"

namespace attar::cli {

void add_prune(CLI::App&) {}

}  // namespace attar::cli
