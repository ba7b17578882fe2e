#include "distill/fill_cache.h"

#include <algorithm>
#include <cstdio>

#include "base/console.h"
#include "base/error.h"

namespace attar {
namespace {

// Gathers what is missing and asks the teacher for a batch at a time.
class Filler {
 public:
  Filler(LogitCache& cache, const DistillJob& job, const Checkpoint& source, const LoadedModel& student, const ProcessGroup* group)
      : cache_(cache), job_(job), source_(source), student_(student), place_(place_in(group)),
        batch_(static_cast<std::size_t>(job.trainer.micro_batch > 0 ? job.trainer.micro_batch : job.trainer.batch)) {}

  void want(const Chunk& chunk, double temperature) {
    if (count_++ % place_.size != place_.rank) return;
    if (cache_.contains(chunk, temperature) || std::find(missing_.begin(), missing_.end(), chunk) != missing_.end()) return;
    missing_.push_back(chunk);
    if (missing_.size() == batch_) ask(temperature);
  }
  std::int64_t batch() const { return static_cast<std::int64_t>(batch_); }
  void ask(double temperature) {
    if (missing_.empty()) return;
    check_interrupt();
    if (teacher_ == nullptr) teacher_ = load_teacher(source_, student_, parse_device(job_.device)).decoder;
    capture(cache_, *teacher_, missing_, temperature, static_cast<std::int64_t>(batch_));
    missing_.clear();
  }

 private:
  LogitCache& cache_;
  const DistillJob& job_;
  const Checkpoint& source_;
  const LoadedModel& student_;
  Place place_;
  std::int64_t count_ = 0;  // of the chunks that all processes meet
  std::size_t batch_;
  std::vector<Chunk> missing_;
  std::shared_ptr<Decoder> teacher_;
};

}  // namespace

std::unique_ptr<LogitCache> fill_cache(const DistillJob& job, const Checkpoint& source, const LoadedModel& student,
                                       const LoadedModel& teacher, ChunkSource& data, const std::vector<Chunk>& heldout, ProcessGroup* group) {
  if (job.trainer.context > teacher.config.max_positions)
    fail("[distill] context ", job.trainer.context, ": the teacher can see only ", teacher.config.max_positions,
         " tokens (max_position_embeddings)");
  const CacheIdentity identity{teacher.identity, Tokenizer(teacher.tokenizer).hash(),
                               std::min(student.config.vocab_size, teacher.config.vocab_size)};
  auto cache = std::make_unique<LogitCache>(job.cache, identity);
  const auto position = data.position();
  try {
    Filler filler(*cache, job, source, student, group);
    for (const Chunk& chunk : heldout) filler.want(chunk, 1.0);
    filler.ask(1.0);
    const double T = job.trainer.loss.temperature;
    const std::int64_t chunks = job.trainer.steps * job.trainer.batch;
    Progress progress("teacher", static_cast<std::uint64_t>(chunks * job.trainer.context), "tokens");
    for (std::int64_t i = 0; i < chunks; ++i) {
      filler.want(data.next(), T);
      progress.advance(static_cast<std::uint64_t>(job.trainer.context));
      // In step, a batch of each at a time: one that has died is noticed, and none waits long at the end.
      if (group != nullptr && (i + 1) % (group->size() * filler.batch()) == 0) group->wait_for_all();
    }
    filler.ask(T);
  } catch (const Interrupted&) {
    cache->flush();
    throw Interrupted(cat("interrupted while the teacher was asked; what it said is kept in ", job.cache.string(),
                          ", the same command goes on"));
  } catch (const Error&) {  // another process has ended, or the disk is full
    cache->flush();
    throw;
  }
  cache->flush();
  data.seek(position);
  if (group != nullptr) {  // what the others have captured
    group->wait_for_all();
    cache = std::make_unique<LogitCache>(job.cache, identity);
  }
  char each[32];
  std::snprintf(each, sizeof each, "%.1f", static_cast<double>(cache->bytes()) / static_cast<double>(std::max<std::uint64_t>(cache->tokens(), 1)));
  note(cat("cache ", job.cache.string(), ": ", cache->tokens(), " tokens, ", each, " bytes each"));
  return cache;
}

}  // namespace attar
