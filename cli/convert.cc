#include "cli/command.h"

namespace attar::cli {

void add_convert(CLI::App&) {}

}  // namespace attar::cli
