#include "distill/training_run.h"

#include <chrono>
#include <cmath>
#include <cstdio>

#include "base/console.h"
#include "base/error.h"
#include "base/files.h"
#include "base/threads.h"

namespace attar {
namespace {

nlohmann::json report_values(const StepReport& report, bool teacher, const TrainerOptions& options) {
  nlohmann::json values = {{"loss", report.loss},
                           {"cross_entropy", report.cross_entropy},
                           {"gradient_norm", report.gradient_norm},
                           {"learning_rate", report.rate}};
  if (teacher) values[options.loss.divergence.measure == Measure::kForwardKl ? "kl" : "divergence"] = report.divergence;
  if (options.match.hidden > 0) values["hidden"] = report.hidden;
  if (options.match.attention > 0) values["attention"] = report.attention;
  if (report.skipped) values = {{"learning_rate", report.rate}, {"skipped", 1}};
  return values;
}

nlohmann::json evaluation_values(const Evaluation& evaluation, bool teacher) {
  nlohmann::json values = {{"cross_entropy", evaluation.cross_entropy},
                           {"perplexity", std::exp(evaluation.cross_entropy)}};
  if (teacher) {
    values["kl"] = evaluation.kl;
    if (evaluation.tokens > 1) values["kl_uncertainty"] = evaluation.kl_uncertainty;
    values["same_top"] = evaluation.same_top;
  }
  return values;
}

std::string fixed(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4f", value);
  return text;
}

}  // namespace

TrainingRun::TrainingRun(const DistillJob& job, Trainer& trainer, fs::path folder, std::vector<Chunk> heldout, nlohmann::json identity,
                         const RunNotes& notes, bool writes)
    : job_(job), trainer_(trainer), folder_(std::move(folder)), heldout_(std::move(heldout)), identity_(std::move(identity)),
      teacher_(!job.teacher.empty()), writes_(writes), notes_(notes), saved_best_(notes.best_step) {
  if (notes.best_step >= 0 && !fs::exists(best_file_of(notes.best_step)))
    fail("[distill] ", best_file_of(notes.best_step).string(), ", the weights of the best evaluation, is not there any more; remove ",
         folder_.string(), " to start again");
  if (notes.threads != 0 && notes.threads != thread_count() && parse_device(job.device).is_cpu())
    warn(cat("[distill] the training began with --threads ", notes.threads, " and goes on with ", thread_count(),
             ": it is the same training up to rounding, its bytes may differ from those of one number of threads"));
  notes_.threads = thread_count();
  const bool fresh = trainer.done() == 0 && notes.evaluated < 0;
  if (writes) log_.emplace(folder_, fresh ? -1 : trainer.done());
}

nlohmann::json TrainingRun::train() {
  using Clock = std::chrono::steady_clock;
  const std::int64_t first = trainer_.done(), steps = job_.trainer.steps;
  double seconds = 0;
  {
    Progress progress(teacher_ ? "distill" : "train", static_cast<std::uint64_t>((steps - first) * trainer_.step_tokens()), "tokens");
    const bool cut_short = job_.eval_every > 0 && first % job_.eval_every == 0 && notes_.evaluated < first;  // in an evaluation
    if (first == 0 || over() || cut_short) evaluate();
    while (!over()) {
      const auto start = Clock::now();
      const StepReport report = trainer_.step();
      const double taken = std::chrono::duration<double>(Clock::now() - start).count();
      seconds += taken;
      after_step(report, taken);
      try {
        progress.advance(static_cast<std::uint64_t>(trainer_.step_tokens()), progress_text(report));
      } catch (const Interrupted&) {
        if (!trainer_.has_group()) throw;  // else all stop together, in the next step
      }
    }
  }
  const std::int64_t done = trainer_.done();
  nlohmann::json result = {{"steps", done},
                           {"tokens", done * trainer_.step_tokens()},
                           {"skipped_steps", notes_.skipped},
                           {"loss_spikes", notes_.spikes}};
  if (first < done) result["train"] = report_values(last_, teacher_, job_.trainer);
  if (!heldout_.empty()) result["heldout"] = evaluation_values(evaluation_, teacher_);
  if (notes_.best_step >= 0) result["best"] = {{"step", notes_.best_step}, {teacher_ ? "kl" : "cross_entropy", notes_.best}};
  if (seconds > 0) result["tokens_per_second"] = static_cast<double>((done - first) * trainer_.step_tokens()) / seconds;
  return result;
}

void TrainingRun::after_step(const StepReport& report, double seconds) {
  last_ = report;
  const bool spike = !report.skipped && notes_.watch.spike(report.loss);
  if (report.skipped) {
    ++notes_.skipped;
    warn(cat("[distill] step ", report.step, ": loss or gradient was not a finite number; the step is skipped"));
  } else if (spike) {
    ++notes_.spikes;
    warn(cat("[distill] step ", report.step, ": the loss jumped to ", fixed(report.loss), ", lately it was ", fixed(notes_.watch.mean),
             "; if it stays up, lower --lr or --clip"));
  }
  const bool end = report.step == job_.trainer.steps;
  const auto due = [&](std::int64_t every) { return every > 0 && (report.step % every == 0 || end); };
  if (due(job_.log_every) || report.skipped || spike) {
    nlohmann::json values = report_values(report, teacher_, job_.trainer);
    values["tokens"] = report.step * trainer_.step_tokens();
    values["tokens_per_second"] = static_cast<double>(trainer_.step_tokens()) / seconds;
    if (spike) values["spike"] = 1;
    if (log_) log_->add("train", report.step, values);
  }
  if (due(job_.eval_every) || end) evaluate();
  if (due(job_.checkpoint_every) && !over()) save();
}

void TrainingRun::evaluate() {
  if (heldout_.empty()) return;
  evaluation_ = trainer_.evaluate(heldout_);
  const bool again = trainer_.done() <= notes_.evaluated;  // of a run that is resumed at its end
  if (log_ && !again) log_->add("eval", trainer_.done(), evaluation_values(evaluation_, teacher_));
  detail(cat("step ", trainer_.done(), ": held-out loss ", fixed(evaluation_.cross_entropy),
             teacher_ ? cat(", KL ", fixed(evaluation_.kl)) : std::string()));
  notes_.evaluated = trainer_.done();
  if (keeps_best(job_) && !again) keep_if_best();
}

void TrainingRun::keep_if_best() {
  const std::int64_t step = trainer_.done(), before = notes_.best_step;
  const double value = teacher_ ? evaluation_.kl : evaluation_.cross_entropy;
  if (before >= 0 && !(value < notes_.best)) {
    ++notes_.waited;
    if (stopped()) note(cat("stopping after step ", step, ": no evaluation was better than that after step ", before));
    return;
  }
  notes_.best = value, notes_.best_step = step, notes_.waited = 0;
  trainer_.save_weights(best_file_of(step));
  if (before >= 0 && before != saved_best_) drop(before);
}

void TrainingRun::save() {
  trainer_.save(folder_ / kStateFile, identity_, notes_);
  if (saved_best_ >= 0 && saved_best_ != notes_.best_step) drop(saved_best_);
  saved_best_ = notes_.best_step;
}

void TrainingRun::drop(std::int64_t best_step) const {
  std::error_code ignored;
  if (writes_) fs::remove(best_file_of(best_step), ignored);
}

std::optional<fs::path> TrainingRun::best_file() const {
  if (notes_.best_step < 0) return std::nullopt;
  return best_file_of(notes_.best_step);
}

// A file for each step: those that a saved state tells of are there until another state is saved.
fs::path TrainingRun::best_file_of(std::int64_t step) const { return folder_ / cat("best-", step, ".safetensors"); }

std::string TrainingRun::progress_text(const StepReport& report) const {
  std::string text = cat("loss ", fixed(report.loss));
  if (evaluation_.tokens > 0) text += cat(", held-out ", fixed(teacher_ ? evaluation_.kl : evaluation_.cross_entropy));
  return text;
}

}  // namespace attar
