// attar quantize: everything that takes more than rounding to nearest.
#include <algorithm>
#include <functional>

#include "base/console.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/threads.h"
#include "cli/allocation.h"
#include "cli/quantize.h"
#include "quantize/awq.h"
#include "quantize/learn_rotations.h"
#include "quantize/matrix_loss.h"
#include "quantize/memory.h"
#include "quantize/rotate.h"
#include "quantize/work_folder.h"

namespace attar::cli {
namespace {

// Runs `work`, which keeps what it has finished in folders, if any. They stay if the same command could go on with them.
void keeping(const std::vector<fs::path>& folders, const std::function<void()>& work) {
  const auto finished = [&] {
    return std::any_of(folders.begin(), folders.end(), [](const fs::path& folder) { return finished_parts(folder) > 0; });
  };
  const auto remove = [&] {
    std::error_code ignored;
    for (const fs::path& folder : folders) fs::remove_all(folder, ignored);
  };
  const auto kept = [&](const Error& stop) {
    return cat(stop.what(), "; what is finished is kept in ", folders.front().string(), ", the same command with --resume goes on");
  };
  try {
    work();
  } catch (const Interrupted& stop) {
    if (finished()) throw Interrupted(kept(stop));
    remove();
    throw;
  } catch (const WriteError& stop) {
    if (finished()) throw WriteError(kept(stop));
    remove();
    throw;
  } catch (const ResumeError&) {
    throw;
  } catch (const Error&) {  // the same command would meet it again
    remove();
    throw;
  }
  remove();
}

struct Made {
  Checkpoint model;
  AwqReport scaling;
  QuantizeReport report;
  TuneReport tuned;
};

// Of every method that was used, in the order of the work.
std::vector<Gain> all_gains(const Methods& methods, const RotateReport& rotation, const Made& made) {
  std::vector<Gain> all;
  if (methods.rotate) all.push_back({"rotate", "weight error of a matrix rounded to nearest", rotation.error_before, rotation.error_after});
  if (rotation.learned_error >= 0) all.push_back({"rotate", "output error of a matrix rounded to nearest, random and learned", rotation.random_error, rotation.learned_error});
  if (methods.awq) all.push_back({"awq", "output error of a group", made.scaling.mean(&AwqReport::Entry::error_before), made.scaling.mean(&AwqReport::Entry::error_after)});
  for (Gain& gain : gains(made.report)) all.push_back(std::move(gain));
  if (methods.tune) all.push_back({"tune", "KL divergence on the calibration text", made.tuned.kl_before, made.tuned.kl_after});
  return all;
}

// Tries choices until one is the smallest within --target-kld; each trial keeps its work, and its result, in a folder of its own.
Made within_divergence(const Choices& choices, double target, double factor, const std::vector<Ids>& aside, const Checkpoint& model,
                       QuantizeOptions options, const std::function<Made(const QuantizeOptions&)>& make, Chosen& chosen) {
  const fs::path folder = options.folder;
  std::vector<Made> made;
  chosen.aside = static_cast<std::int64_t>(aside.size());
  chosen.trials = allocate_for_measured(choices.sensitivities, target, factor, [&](const std::vector<Candidate>& types) {
    assign(choices, types, options.plan);
    options.folder = folder / cat("trial-", made.size() + 1);
    made.push_back(make(options));
    chosen.measured.push_back(divergence_on(aside, model, made.back().model));
    note(cat("trial ", made.size(), ": ", total(types).bytes, " bytes of matrices, KL divergence ", chosen.measured.back().value, " on text kept aside"));
    return chosen.measured.back().value;
  });
  chosen.types = chosen.trials.all[chosen.trials.best].chosen;
  return made[chosen.trials.best];
}

// Where rotate was asked for by name; an --effort takes what there is, and the report has what was left out.
void tell_what_stays(const Checkpoint& model, bool strict) {
  const std::string obstacle = stream_obstacle(model.config);
  if (obstacle.empty()) return;
  const std::string left = cat("rotate: the residual stream of ", model.path.string(), " stays as it is: ", obstacle);
  if (strict) fail(left, "; leave out rotate, or --strict");
  warn(left);
}

// Of the steps that hold whole models, before any of them; quantize() itself is asked by check_memory().
void check_whole_models(const QuantizeCommand& command, const Methods& methods, const ModelConfig& config, std::uint64_t allowed) {
  if (allowed == 0) return;
  std::int64_t length = command.calibration.context;
  if (config.max_positions > 0) length = std::min(length, config.max_positions);
  const auto check = [&](bool planned, const char* what, std::uint64_t needed, const char* or_else) {
    if (planned && needed > allowed)
      fail("quantize: --max-memory allows ", size_text(allowed), ", ", what, " may take ", size_text(needed), " with ", thread_count(),
           " threads; allow that much, give fewer --threads or a shorter --context, or ", or_else);
  };
  check(command.calibration.source == kSelf, "text written by the model itself", self_text_memory(config, length, thread_count()), "give --calibration FILE");
  const bool known = !command.target.sensitivities.empty() && fs::exists(command.target.sensitivities);
  check(command.target.given() && !known, "choosing types", sensitivity_memory(config, length, thread_count()), "measure --sensitivities elsewhere, or give --type");
  check(command.target.kld > 0, "measuring trials for --target-kld", divergence_memory(config, length, thread_count()), "give --target-size");
  check(methods.tune, "tuning this model", tune_memory(config, length, command.tune.batch, thread_count()), "leave out tune");
}

}  // namespace

int quantize_with_torch(const QuantizeCommand& command, QuantizeRun run) {
  const fs::path& output = run.output;
  const Target& target = command.target;
  const Methods& methods = run.methods;
  QuantizeOptions& options = run.options;
  const Checkpoint& original = run.original;
  check_whole_models(command, methods, original.config, options.max_memory);
  if (methods.tune) keep_freed_memory();
  if (methods.rotate && !command.method.empty()) tell_what_stays(original, options.strict);
  Ids kept;  // by every target, so that sensitivities are of the same text
  const std::vector<Ids> chunks = read_calibration(command.calibration, original, command.common, target.given() ? &kept : nullptr);
  options.calibration = chunks;
  limit_samples(options.calibration, command.calibration);
  check_memory(original.config, options);
  if (!command.imatrix.empty()) options.importance = read_imatrix(command.imatrix);
  if (!target.given()) check_plan(command, run, original);
  RotateReport rotation;
  Checkpoint model = original;
  Choices choices;
  Chosen chosen;
  std::vector<Ids> aside;
  const auto choose_types = [&] {
    if (target.kld > 0 && !chunks.empty())
      aside = aside_chunks(kept, model.tokenizer, static_cast<std::int64_t>(chunks.front().size()));
    choices = measure_choices(target, options.plan.overrides, model, output, chunks);
    if (target.kld == 0) chosen.types = choose(target, choices);
    assign(choices, target.kld > 0 ? allocate_for_cost(choices.sensitivities, target.kld) : chosen.types, options.plan);
    check_plan(command, run, model);
  };
  const auto make = [&](QuantizeOptions how) {
    Made made;
    const Checkpoint scaled = methods.awq ? awq(model, how, made.scaling) : model;
    if (how.method == Method::kHqq) how.calibration.clear();
    made.model = quantize(scaled, how, made.report);
    if (!methods.tune) return made;
    TuneOptions tuning = command.tune;
    tuning.seed = command.common.seed;
    tuning.folder = tune_folder(how.folder), tuning.resume = how.resume;
    made.model = tune(original, made.model, chunks, tuning, made.tuned);
    look_again(made.report, "tune", scaled, made.model, options.calibration, fs::absolute(output).parent_path());
    return made;
  };
  Made made;
  std::vector<fs::path> folders = {options.folder};
  if (methods.rotate) folders.push_back(learned_folder(options));
  if (methods.awq) folders.push_back(awq_folder(options));
  if (methods.tune) folders.push_back(tune_folder(options.folder));
  keeping(folders, [&] {
    if (methods.rotate) model = rotate(original, options, rotation);
    if (target.given()) choose_types();
    constexpr double kGptqFactor = 0.4;  // of what rounding to nearest diverges; a guess, trials tell
    made = target.kld > 0 ? within_divergence(choices, target.kld, options.method == Method::kGptq ? kGptqFactor : 1.0, aside, original,
                                              options, make, chosen)
                          : make(options);
    if (target.given()) assign(choices, chosen.types, options.plan);
    write_quantized(made.model, run);
  });
  nlohmann::json json = tell(command, run, made.report, all_gains(methods, rotation, made));
  if (target.given()) print_curve(json["allocation"] = curve_json(choices, chosen));
  if (methods.rotate) json["rotate"] = to_json(rotation);
  if (methods.awq) json["awq"] = to_json(made.scaling);
  if (methods.tune) json["tune"] = to_json(made.tuned);
  write_result(command.common, "quantize", std::move(json));
  return kDone;
}

}  // namespace attar::cli
