#include "cli/command.h"

namespace attar::cli {

void add_bench(CLI::App&) {}

}  // namespace attar::cli
