#include "cli/command.h"

namespace attar::cli {

void add_eval(CLI::App&) {}

}  // namespace attar::cli
