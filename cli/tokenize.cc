#include "cli/command.h"

namespace attar::cli {

void add_tokenize(CLI::App&) {}

}  // namespace attar::cli
