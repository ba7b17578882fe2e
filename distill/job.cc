#include "distill/job.h"

#include <ATen/ATen.h>

#include <chrono>
#include <cmath>
#include <memory>
#include <optional>

#include "base/console.h"
#include "base/error.h"
#include "base/files.h"
#include "base/memory.h"
#include "base/text.h"
#include "distill/fill_cache.h"
#include "distill/loss_watch.h"
#include "distill/models.h"
#include "distill/train_log.h"

namespace attar {
namespace {

constexpr const char* kStateFile = "state.safetensors";
constexpr const char* kBestFile = "best.safetensors";  // weights of the best evaluation

// What decides the result: a saved state is taken up only if all of it is the same.
nlohmann::json run_identity(const DistillJob& job, const ChunkSource& data, const std::vector<Chunk>& heldout,
                            const LoadedModel& student, const LoadedModel* teacher) {
  const TrainerOptions& t = job.trainer;
  nlohmann::json identity = {{"student", student.identity},
          {"teacher", teacher != nullptr ? teacher->identity : ""},
          {"data", data.identity},
          {"steps", t.steps},
          {"batch", t.batch},
          {"micro-batch", t.micro_batch},
          {"context", t.context},
          {"lr", t.schedule.peak},
          {"lr-floor", t.schedule.floor_share},
          {"warmup", t.schedule.warmup},
          {"schedule", kDecayNames[static_cast<int>(t.schedule.decay)]},
          {"loss", divergence_text(t.loss.divergence)},
          {"temperature", t.loss.temperature},
          {"alpha", t.loss.alpha},
          {"weight-decay", t.adamw.weight_decay},
          {"beta1", t.adamw.beta1},
          {"beta2", t.adamw.beta2},
          {"clip", t.clip},
          {"ema", t.ema},
          {"cache", !job.cache.empty()},
          {"patience", job.patience},
          {"on-policy", t.on_policy.lambda},
          {"match-hidden", t.match.hidden},
          {"hidden-measure", kHiddenMeasureNames[static_cast<int>(t.match.measure)]},
          {"match-attention", t.match.attention},
          {"relation-heads", t.match.relation_heads},
          {"layer-map", layer_map_text(t.match.map)},
          {"seed", job.seed}};
  if (job.patience > 0) {  // then evaluations decide as well
    ContentHash hash;
    for (const Chunk& chunk : heldout)
      hash.add(ByteView(reinterpret_cast<const std::byte*>(chunk.ids.data()), chunk.ids.size() * sizeof(chunk.ids[0])));
    identity["heldout"] = hash.hex();
    identity["eval-every"] = job.eval_every;
  }
  return identity;
}

void check_job(const DistillJob& job) {
  if (job.dtype != "f32" && job.dtype != "f16" && job.dtype != "bf16")
    fail("[distill] weights cannot be stored as '", job.dtype, "'; one of f32, f16, bf16");
  check_options(job.trainer);
  if (job.patience > 0 && (job.heldout.empty() || job.eval_every < 1))
    fail("[distill] --patience waits for a better evaluation; it needs --heldout and --eval-every above 0");
  if (!job.cache.empty() && job.teacher.empty()) fail("[distill] --cache keeps what a teacher says; it needs --teacher");
  if (job.trainer.match.on() && job.teacher.empty())
    fail("[distill] --match-hidden and --match-attention look into a teacher; they need --teacher");
  if (!job.cache.empty() && job.trainer.match.on())
    fail("[distill] --cache keeps what the teacher says, not its hidden states and attention; leave --cache or --match-hidden and "
         "--match-attention out");
  if (!job.cache.empty() && job.trainer.on_policy.lambda > 0)
    fail("[distill] --cache knows what the teacher says of the data, not of what the student writes; leave --cache or --on-policy out");
  if (!job.cache.empty() && job.trainer.loss.divergence.measure != Measure::kForwardKl)
    fail("[distill] --cache keeps a part of each distribution, from which only forward_kl can be computed; leave --cache or --loss ",
         divergence_text(job.trainer.loss.divergence), " out");
}

fs::path training_folder(const fs::path& output) {
  fs::path folder = output.has_filename() ? output : output.parent_path();
  folder += ".training";
  return folder;
}

// Makes OUTPUT.training, or says why not before any work is done.
void prepare_folder(const DistillJob& job, const fs::path& folder) {
  { const OutputFolder probe(job.output); }  // throws if it could not be written at the end
  if (fs::exists(folder / kStateFile) && !job.resume)
    fail("[distill] ", folder.string(), " holds the state of an interrupted run; add --resume to go on with it, or remove "
         "the folder to start again");
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail("[distill] cannot make folder ", folder.string(), ": ", error.message());
}

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
    values["same_top"] = evaluation.same_top;
  }
  return values;
}

// How much each pair of layers counts.
nlohmann::json layer_map_values(const Matching& matching) {
  nlohmann::json values = nlohmann::json::array();
  const std::vector<double> weights = matching.weights();
  for (std::size_t i = 0; i < weights.size(); ++i)
    values.push_back({{"student", matching.pairs()[i].first}, {"teacher", matching.pairs()[i].second}, {"weight", weights[i]}});
  return values;
}

// All processes must do the same work: from a few numbers of each it shows whether they do.
void check_same_run(ProcessGroup& group, const nlohmann::json& identity, std::int64_t done) {
  ContentHash hash;
  hash.add(identity.dump());
  constexpr std::size_t kDigits = 12;  // a double holds them exactly
  const auto number = static_cast<double>(std::stoull(hash.hex().substr(0, kDigits), nullptr, 16));
  at::Tensor first = at::full({2}, number, at::kDouble);
  first[1] = static_cast<double>(done);
  group.broadcast(first, 0);
  const bool same = first[0].item<double>() == number, together = first[1].item<double>() == static_cast<double>(done);
  at::Tensor wrong = at::full({1}, same && together ? 0.0 : 1.0, at::kDouble);
  group.sum(wrong);
  if (!same) fail("[distill] process ", group.rank(), " was asked for something else than process 0: models, data or options differ");
  if (!together)
    fail("[distill] process ", group.rank(), " stands at step ", done, ", process 0 at ", first[1].item<double>(),
         "; OUTPUT.training must be in a folder that all processes see");
  if (wrong.item<double>() > 0) fail("[distill] process ", group.rank(), ": another process does not fit, see what it said");
}

void report_skips(const SkipCounts& skips) {
  if (skips.skipped() > 0)
    warn(cat("[distill] ", skips.skipped(), " documents taught nothing: ", skips.empty, " empty, ", skips.one_token,
             " of one token, ", skips.masked, " in which the assistant says nothing"));
  if (skips.cut > 0) warn(cat("[distill] ", skips.cut, " documents are longer than --context and were cut"));
}

std::string fixed(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4f", value);
  return text;
}

// What a run remembers besides the trainer's state.
struct Notes {
  std::int64_t skipped = 0, spikes = 0;
  LossWatch watch;
  double best = 0;                    // held-out KL or loss
  std::int64_t best_step = -1, evaluated = -1, waited = 0;  // steps; evaluations since the best
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Notes, skipped, spikes, watch, best, best_step, evaluated, waited)

// One run from where the trainer stands to its last step.
class Run {
 public:
  // writes: whether this process keeps the logs.
  Run(const DistillJob& job, Trainer& trainer, const fs::path& folder, std::vector<Chunk> heldout, nlohmann::json identity,
      const Notes& notes, bool writes)
      : job_(job), trainer_(trainer), folder_(folder), heldout_(std::move(heldout)), identity_(std::move(identity)),
        teacher_(!job.teacher.empty()), notes_(notes) {
    if (writes) log_.emplace(folder, trainer.done());
  }

  nlohmann::json train() {
    using Clock = std::chrono::steady_clock;
    const std::int64_t first = trainer_.done(), steps = job_.trainer.steps;
    double seconds = 0;
    {
      Progress progress(teacher_ ? "distill" : "train", static_cast<std::uint64_t>((steps - first) * trainer_.step_tokens()),
                        "tokens");
      if (first == 0 || over()) evaluate();
      while (!over()) {
        const auto start = Clock::now();
        const StepReport report = trainer_.step();
        const double taken = std::chrono::duration<double>(Clock::now() - start).count();
        seconds += taken;
        after_step(report, taken);
        show(progress, report);
      }
    }
    const std::int64_t done = trainer_.done();
    nlohmann::json result = {{"steps", done},
                             {"tokens", done * trainer_.step_tokens()},
                             {"skipped_steps", notes_.skipped},
                             {"loss_spikes", notes_.spikes}};
    if (first < done) result["train"] = report_values(last_, teacher_, job_.trainer);
    if (!heldout_.empty()) result["heldout"] = evaluation_values(evaluation_, teacher_);
    if (job_.patience > 0) result["best"] = {{"step", notes_.best_step}, {teacher_ ? "kl" : "cross_entropy", notes_.best}};
    if (seconds > 0) result["tokens_per_second"] = static_cast<double>((done - first) * trainer_.step_tokens()) / seconds;
    return result;
  }

  void save() const { trainer_.save(folder_ / kStateFile, identity_, notes_); }

 private:
  bool stopped() const { return job_.patience > 0 && notes_.waited >= job_.patience; }
  bool over() const { return trainer_.done() == job_.trainer.steps || stopped(); }

  void show(Progress& progress, const StepReport& report) const {
    try {
      progress.advance(static_cast<std::uint64_t>(trainer_.step_tokens()), progress_text(report));
    } catch (const Interrupted&) {
      if (!trainer_.has_group()) throw;  // else all stop together, in the next step
    }
  }

  void after_step(const StepReport& report, double seconds) {
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

  void evaluate() {
    if (heldout_.empty()) return;
    evaluation_ = trainer_.evaluate(heldout_);
    const std::int64_t step = trainer_.done();
    if (log_) log_->add("eval", step, evaluation_values(evaluation_, teacher_));
    detail(cat("step ", step, ": held-out loss ", fixed(evaluation_.cross_entropy),
               teacher_ ? cat(", KL ", fixed(evaluation_.kl)) : std::string()));
    if (job_.patience == 0 || step <= notes_.evaluated) return;
    notes_.evaluated = step;
    const double value = teacher_ ? evaluation_.kl : evaluation_.cross_entropy;
    if (notes_.best_step >= 0 && !(value < notes_.best)) {
      if (++notes_.waited >= job_.patience)
        note(cat("stopping after step ", step, ": no evaluation was better than that after step ", notes_.best_step));
      return;
    }
    notes_.best = value, notes_.best_step = step, notes_.waited = 0;
    trainer_.save_weights(folder_ / kBestFile);
  }

  std::string progress_text(const StepReport& report) const {
    std::string text = cat("loss ", fixed(report.loss));
    if (evaluation_.tokens > 0) text += cat(", held-out ", fixed(teacher_ ? evaluation_.kl : evaluation_.cross_entropy));
    return text;
  }

  const DistillJob& job_;
  Trainer& trainer_;
  fs::path folder_;
  std::vector<Chunk> heldout_;
  nlohmann::json identity_;
  bool teacher_;
  std::optional<TrainLog> log_;
  StepReport last_;
  Evaluation evaluation_;
  Notes notes_;
};

void write_student(const DistillJob& job, Trainer& trainer, Decoder& student, const TokenizerData& tokenizer, const fs::path& folder) {
  OutputFolder output(job.output);
  HfOptions options;
  options.type = type_from_name(job.dtype);
  trainer.finish();
  const Checkpoint last = to_checkpoint(student, tokenizer);
  if (job.patience > 0) trainer.load_weights(folder / kBestFile);
  write_hf(job.patience > 0 ? to_checkpoint(student, tokenizer) : last, output.folder(), options);
  if (job.patience > 0) write_hf(last, output.folder() / "last", options);
  for (const char* log : {kTrainLog, kEventFile}) {
    std::error_code error;
    fs::copy_file(folder / log, output.folder() / log, error);
    if (error) fail("[distill] cannot write ", (output.folder() / log).string(), ": ", error.message());
  }
  output.commit();
}

}  // namespace

nlohmann::json run_distillation(const DistillJob& job) {
  check_job(job);
  const Launch launch = launch_from_environment();
  const at::Device device =
      parse_device(job.device == "cuda" && launch.size > 1 ? cat("cuda:", launch.local_rank) : job.device);
  const auto group = join_process_group(launch, device);
  const bool writes = launch.rank == 0;
  if (device.is_cuda()) at::globalContext().setAllowTF32CuBLAS(job.tf32);
  const fs::path folder = training_folder(job.output);
  if (writes)
    prepare_folder(job, folder);
  else
    set_verbosity(Verbosity::kQuiet);  // what all would say, the first one says
  if (group) group->wait_for_all();

  std::optional<Checkpoint> source;
  if (!job.teacher.empty()) source = open_checkpoint(job.teacher);
  LoadedModel student = load_student(job.student, source ? &*source : nullptr, job.seed, device);
  std::optional<LoadedModel> teacher;
  if (source) {
    teacher = job.cache.empty() ? load_teacher(*source, student, device) : describe_teacher(*source, student);
    check_pair(student, *teacher);
  }
  const Tokenizer tokenizer(student.tokenizer);
  const ChunkOptions chunk_options{job.trainer.context + 1, job.seed, pack_mode_from_name(job.packing)};
  const auto data = open_mixture(job.data, tokenizer, chunk_options);
  std::vector<Chunk> heldout;
  if (!job.heldout.empty()) heldout = held_out_chunks(job.heldout, tokenizer, job.eval_chunks, chunk_options);
  std::unique_ptr<LogitCache> cache;
  if (!job.cache.empty()) cache = fill_cache(job, *source, student, *teacher, *data, heldout, group.get());
  source.reset();

  DistillJob set = job;
  if (!teacher) set.trainer.loss.alpha = 1.0;
  set.trainer.on_policy.seed = set.trainer.match.seed = job.seed;
  set.trainer.on_policy.end_ids = student.config.eos_ids;
  set.trainer.on_policy.end_ids.push_back(student.tokenizer.eos_id);
  const nlohmann::json identity = run_identity(set, *data, heldout, student, teacher ? &*teacher : nullptr);
  Trainer trainer(*student.decoder, teacher ? teacher->decoder.get() : nullptr, *data, set.trainer, cache.get(), group.get());
  Notes notes;
  if (job.resume && fs::exists(folder / kStateFile)) {
    notes = trainer.resume(folder / kStateFile, identity).get<Notes>();
    note(cat("going on after step ", trainer.done(), " of ", job.trainer.steps));
  }
  if (group) check_same_run(*group, identity, trainer.done());
  Run run(set, trainer, folder, std::move(heldout), identity, notes, writes);
  nlohmann::json result;
  try {
    result = run.train();
    run.save();  // whatever goes wrong while the student is written, the training is not lost
  } catch (const Interrupted&) {
    run.save();
    throw Interrupted(cat("interrupted after step ", trainer.done(), " of ", job.trainer.steps, "; the state is kept in ",
                          folder.string(), ", the same command with --resume goes on"));
  }
  if (!writes) return nullptr;
  write_student(job, trainer, *student.decoder, student.tokenizer, folder);
  std::error_code ignored;
  fs::remove_all(folder, ignored);
  result["parameters"] = student.parameters;
  if (teacher) result["teacher_parameters"] = teacher->parameters;
  if (cache) result["cache"] = {{"tokens", cache->tokens()}, {"bytes", cache->bytes()}};
  if (trainer.matching() != nullptr) result["layer_map"] = layer_map_values(*trainer.matching());
  result["peak_memory"] = peak_memory();
  report_skips(data->skips);
  result["skipped_documents"] = data->skips;
  result["output"] = job.output.string();
  return result;
}

}  // namespace attar
