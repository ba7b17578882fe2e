#include <algorithm>
#include <functional>
#include <iomanip>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>

#include "base/console.h"
#include "base/error.h"
#include "base/files.h"
#include "base/memory.h"
#include "base/text.h"
#include "cli/allocation.h"
#include "cli/calibration.h"
#include "cli/command.h"
#include "cli/methods.h"
#include "distill/tune.h"
#include "eval/report/numbers.h"
#include "quantize/awq.h"
#include "quantize/memory.h"
#include "quantize/report.h"
#include "quantize/rotate.h"
#include "quantize/tensors.h"
#include "quantize/work_folder.h"

namespace attar::cli {
namespace {

struct QuantizeCommand {
  Common common;
  std::string model, output, type, method, effort, imatrix;
  Calibration calibration;
  Target target;
  std::string max_memory;
  std::vector<std::string> overrides;
  double damping = GptqOptions{}.damping;
  TuneOptions tune;
  bool pure = false, no_act_order = false, no_correction = false, resume = false;
};

// Before hours of work, not after.
void check_output(const fs::path& output) {
  const fs::path folder = output.has_parent_path() ? output.parent_path() : fs::path(".");
  if (!fs::is_directory(folder)) fail("quantize: cannot write ", output.string(), ": no folder ", folder.string());
  if (is_gguf(output)) return;
  const OutputFolder probe(output);  // not committed, it leaves nothing
}

std::uint64_t bytes_of(const fs::path& output) {
  if (!fs::is_directory(output)) return fs::file_size(output);
  std::uint64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(output)) bytes += entry.file_size();
  return bytes;
}

// Quantized tensors lose twice when they are rounded again.
void look_at_source(const Checkpoint& model, bool strict) {
  std::map<std::string, int> types;
  for (const Tensor& tensor : model.tensors)
    if (info(tensor.type).quantized) ++types[info(tensor.type).name];
  if (types.empty()) return;
  std::ostringstream list;
  for (const auto& [name, count] : types) list << (list.tellp() > 0 ? ", " : "") << count << " in " << name;
  const std::string message = cat(model.path.string(), " is already quantized (", list.str(),
                                  "); rounding again adds to its error: start from the original if you can");
  if (strict) fail("quantize: ", message);
  warn(message);
}

struct TypeTotals {
  std::int64_t tensors = 0;
  std::uint64_t weights = 0, bytes = 0;
  double weight_error = 0, output_error = 0, reported = 0, with_output = 0;  // sums by weights, and of the weights they are known of
};

// written: what was written, read back.
void print_summary(const QuantizeReport& report, const Checkpoint& written) {
  const fs::path& output = written.path;
  std::map<std::string, TypeTotals> totals;
  for (const Tensor& tensor : written.tensors) {
    TypeTotals& of_type = totals[info(tensor.type).name];
    ++of_type.tensors;
    of_type.weights += element_count(tensor.shape);
    of_type.bytes += tensor.bytes();
  }
  for (const TensorReport& tensor : report.tensors) {
    TypeTotals& of_type = totals[info(tensor.plan.got).name];
    const auto weights = static_cast<double>(element_count(tensor.plan.shape));
    of_type.reported += weights, of_type.weight_error += weights * tensor.weight_error;
    if (tensor.output_error >= 0) of_type.with_output += weights, of_type.output_error += weights * tensor.output_error;
  }
  TypeTotals all;
  const auto mean = [](double sum, double weights) { return weights > 0 ? rounded(sum / weights) : "-"; };
  std::cout << std::left << std::setw(13) << "type" << std::right << std::setw(9) << "tensors" << std::setw(14) << "weights"
            << std::setw(14) << "bytes" << std::setw(15) << "weight error" << std::setw(15) << "output error" << "\n";
  for (const auto& [name, of_type] : totals) {
    std::cout << std::left << std::setw(13) << name << std::right << std::setw(9) << of_type.tensors << std::setw(14)
              << of_type.weights << std::setw(14) << of_type.bytes << std::setw(15) << mean(of_type.weight_error, of_type.reported)
              << std::setw(15) << mean(of_type.output_error, of_type.with_output) << "\n";
    all.weights += of_type.weights;
    all.bytes += of_type.bytes;
  }
  std::map<std::string, std::vector<std::string>> fallbacks;
  for (const TensorReport& tensor : report.tensors)
    if (!tensor.plan.reason.empty())
      fallbacks[cat(info(tensor.plan.asked).name, " -> ", info(tensor.plan.got).name, " (", tensor.plan.reason, ")")]
          .push_back(tensor.plan.gguf_name);
  for (const auto& [what, names] : fallbacks) {
    std::cout << "fallback  " << what << ": ";
    for (std::size_t i = 0; i < names.size() && i < 4; ++i) std::cout << (i > 0 ? ", " : "") << names[i];
    if (names.size() > 4) std::cout << " and " << names.size() - 4 << " more";
    std::cout << "\n";
  }
  std::cout << output.string() << ": " << bytes_of(output) << " bytes, " << std::fixed << std::setprecision(2)
            << 8.0 * static_cast<double>(all.bytes) / static_cast<double>(all.weights) << " bits per weight, "
            << std::setprecision(1) << report.seconds << " s\n";
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
  if (methods.awq) all.push_back({"awq", "output error of a group", made.scaling.mean(&AwqReport::Entry::error_before), made.scaling.mean(&AwqReport::Entry::error_after)});
  for (Gain& gain : gains(made.report)) all.push_back(std::move(gain));
  if (methods.tune) all.push_back({"tune", "KL divergence on the calibration text", made.tuned.kl_before, made.tuned.kl_after});
  return all;
}

void print_gains(const std::vector<Gain>& gains) {
  for (const Gain& gain : gains)
    std::cout << std::left << std::setw(10) << gain.method << std::right << rounded(gain.before) << " -> " << rounded(gain.after) << "  " << gain.measure << "\n";
}

// What --json leaves to be read, said where a person looks.
void say_what_was_hard(const QuantizeReport& report) {
  for (const TensorReport& tensor : report.tensors) {
    if (tensor.damping_raises > 0)
      warn(cat(tensor.plan.name, ": the Hessian was not positive definite; damping was raised to ", tensor.damping));
    if (tensor.dead_columns > 0)
      warn(cat(tensor.plan.name, ": no calibration token reaches ", tensor.dead_columns, " of its ",
               tensor.plan.shape.back(), " columns; they are rounded to nearest"));
    detail(cat(tensor.plan.name, ": ", info(tensor.plan.got).name, ", ", tensor.method, ", weight error ",
               tensor.weight_error, ", output error ", tensor.output_error, ", clipped ", tensor.clipped));
  }
}

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

Methods methods_of(const QuantizeCommand& command) {
  const bool text = !command.calibration.source.empty(), allocated = command.target.given();
  const Methods methods = choose_methods(command.method, command.effort, text);
  if (methods.rounding == Method::kHqq && !methods.needs_text() && text && !allocated)
    fail("--method ", methods.name(), " looks at weights only; leave out --calibration");
  if (!command.imatrix.empty() && (methods.name() != "rtn" || text))
    fail("--imatrix weighs rounding to nearest; with --calibration importance is measured anew: give one of the two");
  return methods;
}

Checkpoint rotated(const Checkpoint& model, const QuantizeOptions& options, std::uint64_t seed, RotateReport& report) {
  Checkpoint result = rotate(model, options.plan, seed, report);
  const std::string left = cat("rotate: the residual stream of ", model.path.string(), " stays as it is: ", report.left_out);
  if (!report.left_out.empty() && options.strict) fail(left, "; leave out rotate, or --strict");
  if (!report.left_out.empty()) warn(left);
  return result;
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

int run_quantize(const QuantizeCommand& command) {
  fs::path output = command.output;
  if (output.filename().empty()) output = output.parent_path();  // "folder/" is "folder"
  check_output(output);
  QuantizeOptions options;
  const Target& target = command.target;
  if (command.type.empty() == !target.given())
    fail("quantize: give --type, or --target-size, --target-bpw or --target-kld to have types chosen", target.given() ? ", not both" : "");
  check_target(target, output);
  options.plan.preset = &preset_from_name(target.given() ? "q4_0" : command.type);
  options.plan.pure = command.pure;
  for (const std::string& text : command.overrides) options.plan.overrides.push_back(parse_override(text));
  const Methods methods = methods_of(command);
  if (methods.tune) keep_freed_memory();
  options.method = methods.rounding;
  options.rotated = methods.rotate;
  options.scaled = methods.awq;
  options.fisher = methods.fisher;
  options.autoround = methods.autoround;
  options.gptq.damping = command.damping;
  options.gptq.act_order = !command.no_act_order;
  options.corrected_target = !command.no_correction;
  options.strict = command.common.strict;
  options.seed = command.common.seed;
  options.folder = output.string() + (target.kld > 0 ? ".trying" : ".quantizing");
  options.resume = command.resume;
  if (!command.max_memory.empty()) options.max_memory = parse_size("--max-memory", command.max_memory);

  const Checkpoint original = open_checkpoint(command.model);
  look_at_source(original, options.strict);
  check_whole_models(command, methods, original.config, options.max_memory);
  RotateReport rotation;
  const Checkpoint model = methods.rotate ? rotated(original, options, command.common.seed, rotation) : original;
  Ids kept;  // by every target, so that sensitivities are of the same text
  const std::vector<Ids> chunks = read_calibration(command.calibration, model, command.common, target.given() ? &kept : nullptr);
  Choices choices;
  Chosen chosen;
  std::vector<Ids> aside;
  if (target.given()) {
    if (target.kld > 0 && !chunks.empty())
      aside = aside_chunks(kept, model.tokenizer, static_cast<std::int64_t>(chunks.front().size()));
    choices = measure_choices(target, options.plan.overrides, model, output, chunks);
    if (target.kld == 0) chosen.types = choose(target, choices);
    assign(choices, target.kld > 0 ? allocate_for_cost(choices.sensitivities, target.kld) : chosen.types, options.plan);
  }
  const std::vector<TensorPlan> plan = plan_types(model, options.plan);
  for (const TensorPlan& tensor : plan) check_home(tensor.got, output, tensor.name);
  check_runtime(target, plan);
  options.calibration = chunks;
  limit_samples(options.calibration, command.calibration);
  check_memory(model.config, options);
  if (!command.imatrix.empty()) options.importance = read_imatrix(command.imatrix);
  // What is read once, rounded and written needs no folder. Folders of weights read a matrix several times: codes, scales, offsets.
  options.when_read = methods.name() == "rtn" && chunks.empty() && is_gguf(output) && target.kld == 0;
  if (options.when_read) options.folder.clear();
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
    for (TensorReport& tensor : made.report.tensors)
      look_again(tensor, "tune", weight_error(read_tensor(made.model.at(tensor.plan.name)), read_tensor(scaled.at(tensor.plan.name))));
    return made;
  };
  Made made;
  std::vector<fs::path> folders;
  if (!options.folder.empty()) folders = {options.folder};
  if (methods.awq) folders.push_back(awq_folder(options));
  if (methods.tune) folders.push_back(tune_folder(options.folder));
  keeping(folders, [&] {
    constexpr double kGptqFactor = 0.4;  // of what rounding to nearest diverges; a guess, trials tell
    made = target.kld > 0 ? within_divergence(choices, target.kld, options.method == Method::kGptq ? kGptqFactor : 1.0, aside, original,
                                              options, make, chosen)
                          : make(options);
    if (target.given()) assign(choices, chosen.types, options.plan);
    if (is_gguf(output)) {
      GgufOptions gguf;
      gguf.file_type = options.plan.preset->file_type;
      write_gguf(made.model, output, gguf);
    } else {
      write_hf(made.model, output);
    }
  });
  settle(made.report);
  say_what_was_hard(made.report);
  print_gains(all_gains(methods, rotation, made));
  print_summary(made.report, open_checkpoint(output));
  if (target.given()) print_curve(choices, chosen);
  nlohmann::json json = to_json(made.report);
  add_model(json, command.common, "model", command.model);
  add_model(json, command.common, "output", output);
  json["bytes"] = bytes_of(output);
  json["peak_memory"] = peak_memory();
  json["gains"] = to_json(all_gains(methods, rotation, made));
  json["preset"] = options.plan.preset->name;
  json["method"] = methods.name();
  if (!command.imatrix.empty()) json["imatrix"] = command.imatrix;
  if (target.given()) json["allocation"] = curve_json(choices, chosen);
  if (methods.rotate) json["rotate"] = to_json(rotation);
  if (methods.awq) json["awq"] = to_json(made.scaling);
  if (methods.tune) json["tune"] = to_json(made.tuned);
  write_result(command.common, "quantize", std::move(json));
  return kDone;
}

std::string type_help() {
  std::string names;
  for (const Preset& preset : all_presets())
    if (!group_format(preset.type)) names += cat(names.empty() ? "" : ", ", preset.name);
  return "What to make of it: " + names + " for a .gguf; for a folder int3_g64 and its like: int or affine, 2, 3, 4, 5, 6 or 8 bits, "
         "a scale for 32, 64 or 128 weights or a _row";
}

}  // namespace

void add_quantize(CLI::App& app) {
  const auto owner = std::make_shared<QuantizeCommand>();
  QuantizeCommand& command = *owner;
  CLI::App* sub = add_command(app, "quantize", "Make a model small, 2 to 8 bits a weight: a GGUF for llama.cpp or a folder for MLX",
                              command.common, [owner] { return run_quantize(*owner); });
  sub->add_option("model", command.model, "Hugging Face folder or .gguf")->required()->type_name("MODEL");
  sub->add_option("-o,--output", command.output, "The .gguf to write, or the folder, as MLX reads it")
      ->required()
      ->type_name("FILE|FOLDER");
  sub->add_option("--type", command.type, type_help())->type_name("TYPE");
  add_target_options(*sub, command.target);
  sub->add_option("--effort", command.effort,
                  "fast (round to nearest), balanced (all that pays without training: the default if there is --calibration) or best (all "
                  "that pays); see docs/methods/effort.md")
      ->type_name("EFFORT");
  sub->add_option("--method", command.method,
                  "In place of --effort, what is done, joined by '+' in this order: rotate (outliers spread by rotations), awq (columns "
                  "scaled by the inputs they meet), fisher (how much each output matters, for gptq and autoround); one of rtn (round to nearest), hqq and "
                  "gptq; autoround (codes and scales of each half of a layer learned), tune (scales and norms trained end to end on the "
                  "original's distributions). All but rotate, rtn and hqq need --calibration")
      ->type_name("METHOD+...")
      ->excludes("--effort");
  add_calibration_options(*sub, command.calibration, "--calibration", false);
  sub->add_option("--imatrix", command.imatrix,
                  "Importance of columns for round to nearest: a GGUF by attar calibrate or llama-imatrix")
      ->type_name("FILE");
  sub->add_option("--override", command.overrides,
                  "REGEX=TYPE for the matrices whose name (Hugging Face's or GGUF's) it is found in; may be repeated")
      ->type_name("REGEX=TYPE")
      ->allow_extra_args(false);
  sub->add_option("--tune-steps", command.tune.steps, "Steps of tuning, each over --tune-batch chunks")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  sub->add_option("--tune-batch", command.tune.batch, "Chunks in a step of tuning")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  sub->add_option("--tune-rate", command.tune.rate,
                  "Peak learning rate of tuning, relative to the size of scales and norms; matrices of 8 bits get a fiftieth, absolute")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  sub->add_option("--max-memory", command.max_memory,
                  "Refuse at once if quantizing with --calibration may take more memory (800MB, 4GB). A Llama of 1.1 B parameters takes "
                  "at most 1.6 GB, one of 7 B 4.0 GB, however much text there is: hidden states are on disk beside the output. Some steps hold whole "
                  "models as floats: text by the model itself and choosing types 4 bytes a weight, --target-kld 8, tune 22, and 4 and a training pass "
                  "for each thread")
      ->type_name("SIZE");
  sub->add_flag("--resume", command.resume, "Go on with an interrupted run, if there is one: the same command, after what it finished last");
  sub->add_flag("--pure", command.pure, "One type for every matrix, without the preset's mix");
  sub->add_option("--damp", command.damping, "GPTQ: share of the mean diagonal added to the Hessian")
      ->check(CLI::Range(1e-8, 1.0))
      ->capture_default_str();
  sub->add_flag("--no-act-order", command.no_act_order, "GPTQ: visit columns from left to right");
  sub->add_flag("--no-correction", command.no_correction,
                "GPTQ: aim at the original weights, not at what makes up for the layers before");
}

}  // namespace attar::cli
