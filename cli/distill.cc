#include "cli/command.h"

namespace attar::cli {

void add_distill(CLI::App&) {}

}  // namespace attar::cli
