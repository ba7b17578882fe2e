#include "cli/command.h"

namespace attar::cli {

void add_inspect(CLI::App&) {}

}  // namespace attar::cli
