// One run of a trainer, from where it stands to its last step: logs, evaluations, checkpoints, the best weights, the end.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "distill/job.h"
#include "distill/loss_watch.h"
#include "distill/train_log.h"

namespace attar {

constexpr const char* kStateFile = "state.safetensors";

// What a run remembers besides the trainer's state.
struct RunNotes {
  std::int64_t skipped = 0, spikes = 0;
  LossWatch watch;
  double best = 0;                    // held-out KL or loss
  std::int64_t best_step = -1, evaluated = -1, waited = 0;  // steps; evaluations since the best
  int threads = 0;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RunNotes, skipped, spikes, watch, best, best_step, evaluated, waited, threads)

class TrainingRun {
 public:
  // folder: for the logs, the state and the best weights. identity: what decides the result, see Trainer::save. writes: whether this process
  // keeps all that. job and trainer live longer than this. Throws Error if the best weights that the notes tell of are not there.
  TrainingRun(const DistillJob& job, Trainer& trainer, std::filesystem::path folder, std::vector<Chunk> heldout, nlohmann::json identity,
              const RunNotes& notes, bool writes);

  nlohmann::json train();  // the result: steps, losses, held-out figures, tokens per second
  void save();             // the state
  // The weights of the best evaluation; none without evaluations during the training.
  std::optional<std::filesystem::path> best_file() const;

 private:
  bool stopped() const { return job_.patience > 0 && notes_.waited >= job_.patience; }
  bool over() const { return trainer_.done() == job_.trainer.steps || stopped(); }
  void after_step(const StepReport& report, double seconds);
  void evaluate();
  void keep_if_best();
  void drop(std::int64_t best_step) const;  // its weights
  std::filesystem::path best_file_of(std::int64_t step) const;
  std::string progress_text(const StepReport& report) const;

  const DistillJob& job_;
  Trainer& trainer_;
  std::filesystem::path folder_;
  std::vector<Chunk> heldout_;
  nlohmann::json identity_;
  bool teacher_, writes_;
  std::optional<TrainLog> log_;
  StepReport last_;
  Evaluation evaluation_;
  RunNotes notes_;
  std::int64_t saved_best_;  // the step whose best weights the saved state tells of
};

}  // namespace attar
