// How sure the figures are, and where in the text they come from.
#pragma once

#include "eval/confidence.h"
#include "eval/report/digest.h"

namespace attar {

// What its columns mean, for a reader.
constexpr const char* kHowSure =
    "The 95 % interval of each figure, and its paired difference from the reference: p by McNemar's exact test for answers, else by a bootstrap over n chunks, "
    "documents or items. Detectable is the smallest worsening that so many of them show 4 times in 5.";

// A row per model and metric: the 95 % interval, the paired difference from the reference with its interval and p (McNemar's exact test
// for answers, else a bootstrap), and the smallest worsening that so many items show 4 times in 5. main_only: of the metrics that the
// table of models shows. Without rows if no file tells.
Table confidence_table(const Report& report, const Group& group, bool main_only);

// The main figures of each evaluation less the first one's, chunk by chunk and item by item; those of the first, and of files that do not
// tell their samples, are empty. Throws Error if the samples of two files are not of the same units.
using Differences = std::map<std::string, Difference>;  // by metric
std::vector<Differences> against_first(const Group& group, const Resampling& resampling);
Table difference_table(const Report& report, const Group& group, const std::vector<Differences>& differences);

// The chunks or documents that went worst, at most `count`: by the divergence, without a reference by -ln p.
Table unit_table(const ReportedEvaluation& evaluation, std::size_t count = 20);

// Means by place in the context, a column per model; the divergence if one of them knows it, else -ln p.
Table place_table(const Report& report, const Group& group);

}  // namespace attar
