// Everything that a run will ask a logit cache for, captured before it begins.
#pragma once

#include <memory>
#include <vector>

#include "distill/data.h"
#include "distill/job.h"
#include "distill/logit_cache.h"
#include "distill/models.h"
#include "distill/process_group.h"

namespace attar {

// Goes through the chunks of all steps and the held-out ones; if some are missing, the teacher is loaded, asked, and dropped again. data is
// left where it was. What was captured before an interruption is kept. group: null, or each process asks for its share.
std::unique_ptr<LogitCache> fill_cache(const DistillJob& job, const Checkpoint& source, const LoadedModel& student,
                                       const LoadedModel& teacher, ChunkSource& data, const std::vector<Chunk>& heldout, ProcessGroup* group);

}  // namespace attar
