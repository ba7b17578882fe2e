#include "distill/job.h"

#include <ATen/ATen.h>

#include <memory>
#include <optional>

#include "base/console.h"
#include "base/error.h"
#include "base/files.h"
#include "base/memory.h"
#include "base/text.h"
#include "distill/fill_cache.h"
#include "distill/models.h"
#include "distill/training_run.h"

namespace attar {
namespace {

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
          {"compute", job.compute},
          {"cache", !job.cache.empty()},
          {"patience", job.patience},
          {"on-policy", t.on_policy.lambda},
          {"match-hidden", t.match.hidden},
          {"hidden-measure", kHiddenMeasureNames[static_cast<int>(t.match.measure)]},
          {"match-attention", t.match.attention},
          {"relation-heads", t.match.relation_heads},
          {"layer-map", layer_map_text(t.match.map)},
          {"seed", job.seed}};
  if (keeps_best(job)) {  // then evaluations decide as well
    ContentHash hash;
    for (const Chunk& chunk : heldout)
      hash.add(ByteView(reinterpret_cast<const std::byte*>(chunk.ids.data()), chunk.ids.size() * sizeof(chunk.ids[0])));
    identity["heldout"] = hash.hex();
    if (job.patience > 0) identity["eval-every"] = job.eval_every;
  }
  return identity;
}

void check_job(const DistillJob& job) {
  if (job.dtype != "f32" && job.dtype != "f16" && job.dtype != "bf16")
    fail("[distill] weights cannot be stored as '", job.dtype, "'; one of f32, f16, bf16");
  if (job.compute != "f32" && job.compute != "bf16") fail("[distill] nothing is computed in '", job.compute, "'; one of f32, bf16");
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

// With a best evaluation there are two sets of weights: --patience asks for the best ones, else the last ones are the student. The others
// lie in a folder inside. Adds where they are to the result.
void write_student(const DistillJob& job, Trainer& trainer, Decoder& student, const TokenizerData& tokenizer, const fs::path& folder,
                   const std::optional<fs::path>& best_file, nlohmann::json& result) {
  OutputFolder output(job.output);
  HfOptions options;
  options.type = type_from_name(job.dtype);
  trainer.finish();
  const Checkpoint last = to_checkpoint(student, tokenizer);
  if (!best_file) {
    write_hf(last, output.folder(), options);
  } else {
    trainer.load_weights(*best_file);
    const Checkpoint best = to_checkpoint(student, tokenizer);
    const bool best_asked = job.patience > 0;
    const char* other = best_asked ? "last" : "best";
    write_hf(best_asked ? best : last, output.folder(), options);
    write_hf(best_asked ? last : best, output.folder() / other, options);
    result[other]["output"] = (job.output / other).string();
  }
  for (const char* log : {kTrainLog, kEventFile}) {
    std::error_code error;
    fs::copy_file(folder / log, output.folder() / log, error);
    if (error) fail("[distill] cannot write ", (output.folder() / log).string(), ": ", error.message());
  }
  output.commit();
}

}  // namespace

bool keeps_best(const DistillJob& job) { return !job.heldout.empty() && job.eval_every > 0; }

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
  const at::ScalarType compute = job.compute == "bf16" ? at::kBFloat16 : at::kFloat;
  std::optional<LoadedModel> teacher;
  if (source) {
    teacher = job.cache.empty() ? load_teacher(*source, student, device) : describe_teacher(*source, student);
    check_pair(student, *teacher);
    if (teacher->decoder) {
      teacher->decoder->compute = compute;
      hold_in_compute_type(*teacher->decoder);
    }
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
  set.trainer.compute = compute;
  set.trainer.on_policy.seed = set.trainer.match.seed = job.seed;
  set.trainer.on_policy.end_ids = student.config.eos_ids;
  set.trainer.on_policy.end_ids.push_back(student.tokenizer.eos_id);
  const nlohmann::json identity = run_identity(set, *data, heldout, student, teacher ? &*teacher : nullptr);
  Trainer trainer(*student.decoder, teacher ? teacher->decoder.get() : nullptr, *data, set.trainer, cache.get(), group.get());
  RunNotes notes;
  if (job.resume && fs::exists(folder / kStateFile)) {
    notes = trainer.resume(folder / kStateFile, identity).get<RunNotes>();
    note(cat("going on after step ", trainer.done(), " of ", job.trainer.steps));
  }
  if (group) check_same_run(*group, identity, trainer.done());
  TrainingRun run(set, trainer, folder, std::move(heldout), identity, notes, writes);
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
  write_student(job, trainer, *student.decoder, student.tokenizer, folder, run.best_file(), result);
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
