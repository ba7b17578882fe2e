#include "cli/command.h"

namespace attar::cli {

void add_quantize(CLI::App&) {}

}  // namespace attar::cli
