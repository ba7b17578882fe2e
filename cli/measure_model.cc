#include "cli/command.h"
#include "cli/compare.h"
#include "eval/metrics.h"

namespace attar::cli {

nlohmann::json measure_model(const EvalOptions& options) {
  nlohmann::json result = to_json(evaluate(options));
  result.update({{"attar", ATTAR_VERSION}, {"command", "eval"}});
  return result;
}

}  // namespace attar::cli
