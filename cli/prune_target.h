// What `attar prune` is to reach, and how it looks for the shape: --target-params, --target-size and what belongs to them.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/command.h"
#include "distill/candidates.h"

namespace attar::cli {

struct PruneTarget {
  std::string params, size;
  std::string heldout;          // source; empty: a part of --data
  std::int64_t candidates = 5;
  RetrainOptions retrain;       // tokens 0: none, the formula chooses
  bool given() const { return !params.empty() || !size.empty(); }
  bool searches() const { return given() && retrain.tokens > 0 && candidates > 1; }
};

void add_prune_target_options(CLI::App& sub, PruneTarget& target);
void check_prune_target(const CLI::App& sub, const PruneTarget& target);  // throws Error for options that do not go together

// The shapes to choose among, the formula's choice first. whole: the teacher over all its tokens, of which the target may be a share.
// fixed: sizes already chosen (0: free). stored: how the student will be written. Throws Error.
std::vector<StudentShape> target_shapes(const PruneTarget& target, const Cutter& cutter, const Checkpoint& whole, const StudentShape& fixed,
                                        const HfOptions& stored);

nlohmann::json shape_json(const StudentShape& shape);
nlohmann::json ranking_json(const Ranking& ranking);
void print_ranking(const nlohmann::json& ranking);  // as a table; the best first

}  // namespace attar::cli
