// Trains a student, with a teacher or on the text alone: one step at a time, with a state that can be saved after any step
// and taken up again exactly.
//
// On the CPU a run that was interrupted and resumed ends in the same bytes as one that was not, given the same number of
// threads: matrix products are split among threads, so their rounding depends on how many there are.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "distill/adamw.h"
#include "distill/batch.h"
#include "distill/data.h"
#include "distill/gradient_sum.h"
#include "distill/logit_cache.h"
#include "distill/losses.h"
#include "distill/matching.h"
#include "distill/on_policy.h"
#include "distill/process_group.h"
#include "distill/schedule.h"
#include "distill/vocabulary_loss.h"
#include "model/decoder.h"

namespace attar {

struct TrainerOptions {
  std::int64_t steps = 1000;
  std::int64_t batch = 16;         // chunks a step, of all processes together
  std::int64_t micro_batch = 0;    // chunks at a time; 0: the whole batch
  std::int64_t context = 128;      // tokens the model sees of a chunk; a chunk holds one more, the last one's target
  LossOptions loss;
  AdamWOptions adamw;
  Schedule schedule;               // its steps are set by the trainer
  double clip = 1.0;               // largest L2 norm of the whole gradient; 0: any
  OnPolicy on_policy;              // needs a teacher and an alpha of 0
  MatchOptions match;              // needs a teacher that runs along
  std::int64_t bad_steps = 10;     // steps in a row with a NaN or infinite gradient after which training stops
  double ema = 0;                  // decay of an average of the weights that is evaluated and kept in their place; 0: none
  std::int64_t bucket = kBucket;   // floats of the gradient that several processes add up in one message
  at::ScalarType compute = at::kFloat;  // see Decoder::compute; the parameters, their gradients and moments are float32 all the same
  bool checkpoint_activations = false;  // keep only the inputs of layers and compute them again on the way back
};

// Throws Error for options that make no sense, whatever the models.
void check_options(const TrainerOptions& options);

// Means over the tokens of a step.
struct StepReport {
  std::int64_t step = 0;           // counted from 1
  double loss = 0, cross_entropy = 0, divergence = 0;  // nats
  double hidden = 0, attention = 0;  // distances of matched layers, before their weights in the loss
  double gradient_norm = 0;        // before clipping
  double rate = 0;                 // learning rate
  bool skipped = false;            // the gradient was not finite: nothing was changed
};

struct Evaluation {
  double cross_entropy = 0, kl = 0, same_top = 0;  // nats, nats, share; kl and same_top 0 without a teacher
  double kl_uncertainty = 0;                       // one standard error of kl, over the tokens, nats
  std::int64_t tokens = 0;
};

class Trainer {
 public:
  // teacher: nullptr to train on the text alone, or on what a cache holds of one. data gives chunks of context + 1 tokens. All live
  // longer than this. Throws Error for options that make no sense or a context that is too long for a model.
  // group: null for one process; else all have the same student, data and options, each takes its share of a step's chunks, and
  // keeps its slice of the optimizer's state.
  Trainer(Decoder& student, Decoder* teacher, ChunkSource& data, const TrainerOptions& options, const LogitCache* cache = nullptr,
          ProcessGroup* group = nullptr);

  StepReport step();                 // throws Error after too many bad steps; Interrupted leaves the last step's state
  std::int64_t done() const { return done_; }
  bool has_group() const { return group_ != nullptr; }
  std::int64_t step_tokens() const { return options_.batch * options_.context; }

  // With a group, evaluate, save and resume are done by all processes together; the first one writes.
  // Means over the targets of held-out chunks of context + 1 tokens; of the averaged weights if there are any.
  Evaluation evaluate(const std::vector<Chunk>& chunks);

  // The state after the last whole step: weights, moments, place in the data. run: what the run was asked to do; a state is
  // taken up only by a run that asks for the same. notes: what its owner wants to remember; resume() returns them.
  void save(const std::filesystem::path& file, const nlohmann::json& run, const nlohmann::json& notes = {}) const;
  nlohmann::json resume(const std::filesystem::path& file, const nlohmann::json& run);

  // The weights that evaluate() looks at, alone. load_weights() and finish() put such weights into the student; no step may follow.
  void save_weights(const std::filesystem::path& file) const;
  void load_weights(const std::filesystem::path& file);
  void finish();

  // Forward and backward of one batch: adds the gradient of the mean loss to the parameters' gradients. Returns sums over
  // `batch`. total_targets: the number of targets the loss is a mean of. sum: of the step's last batch, told of what is ready to be
  // added up over the processes; may be null.
  LossSums accumulate(const std::vector<Chunk>& batch, std::int64_t total_targets, GradientSum* sum = nullptr);
  FlatParameters& parameters() { return parameters_; }
  const Matching* matching() const { return matching_.get(); }  // null if nothing is matched

 private:
  std::vector<Chunk> own_share();    // of the next step's chunks
  void write_own(std::vector<Chunk>& share, std::int64_t first);
  TeacherOfRows teacher_rows(const std::vector<Chunk>& chunks, const Batch& batch, double temperature) const;
  void update_average();
  void exchange();  // the weights and their average
  Evaluation evaluate_weights(const std::vector<Chunk>& chunks);
  void add_up(at::Tensor& values) const;  // over the group
  void share_slices(const at::Tensor& flat) const;
  void check_interrupt_here() const;
  void check_interrupt_of_all() const;

  Decoder& student_;
  Decoder* teacher_;
  const LogitCache* cache_;
  ChunkSource& data_;
  TrainerOptions options_;
  ProcessGroup* group_;
  std::unique_ptr<Matching> matching_;
  FlatParameters parameters_;
  AdamW optimizer_;
  at::Tensor average_;               // of the parameters' layout, undefined without ema
  nlohmann::json position_;          // in the data, after the last whole step
  std::int64_t done_ = 0, bad_ = 0;
};

}  // namespace attar
