// The full program has LibTorch.
#include "cli/hand_over.h"

namespace attar::cli {

void need_torch() {}

}  // namespace attar::cli
