#include "cli/quantize.h"

#include <algorithm>
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
#include "cli/hand_over.h"
#include "cli/numbers.h"
#include "eval/report/numbers.h"
#include "quantize/round.h"

namespace attar::cli {
namespace {

void check_file(const fs::path& file) {
  check_parent("quantize", file);
  if (fs::is_directory(file)) fail("quantize: cannot write ", file.string(), ": it is a folder; name a file");
}

// Before hours of work, not after.
void check_outputs(const QuantizeCommand& command, const fs::path& output) {
  refuse_overwriting("quantize", {command.model, command.calibration.file(), command.imatrix}, {output.string(), command.common.json, command.target.sensitivities});
  if (is_gguf(output)) {
    check_file(output);
  } else {
    check_parent("quantize", output);
    const OutputFolder probe(output);  // not committed, it leaves nothing
  }
  const fs::path json = command.common.json;
  if (!json.empty() && fs::weakly_canonical(json).parent_path() != fs::weakly_canonical(output)) check_file(json);
  if (!command.target.sensitivities.empty()) check_file(command.target.sensitivities);
}

// What is given and would change nothing.
void refuse_unused(const QuantizeCommand& command, const Methods& methods) {
  const auto refuse = [](bool unused, const char* options, const char* reason) {
    if (unused) fail("quantize: ", options, " ", reason);
  };
  const TuneOptions tune;
  const Calibration text;
  refuse(!methods.tune && (command.tune.steps != tune.steps || command.tune.batch != tune.batch || command.tune.rate != tune.rate),
         "--tune-steps, --tune-batch and --tune-rate", "are for tune; give --effort best, or --method gptq+tune");
  refuse(methods.rounding != Method::kGptq && (command.damping != GptqOptions{}.damping || command.no_act_order || command.no_correction),
         "--damp, --no-act-order and --no-correction", "are for gptq; give --method gptq, or leave them out");
  refuse(command.calibration.source.empty() && (command.calibration.samples != text.samples || command.calibration.context != text.context),
         "--samples and --context", "are of calibration text; give --calibration");
  refuse(command.pure && command.target.given(), "--pure", "is for --type; with a target every matrix has a type of its own");
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
    TypeTotals& of_type = totals[info(written.at(tensor.plan.name).type).name];  // a folder stores int types as affine ones
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

void print_gains(const std::vector<Gain>& gains) {
  for (const Gain& gain : gains)
    std::cout << std::left << std::setw(10) << gain.method << std::right << rounded(gain.before) << " -> " << rounded(gain.after) << "  " << gain.measure << "\n";
}

// What --json leaves to be read, said where a person looks.
void say_what_was_hard(const QuantizeReport& report) {
  for (const TensorReport& tensor : report.tensors) {
    if (tensor.vanished) warn(vanished_message(tensor.plan));
    if (tensor.damping_raises > 0)
      warn(cat(tensor.plan.name, ": the Hessian was not positive definite; damping was raised to ", tensor.damping));
    if (tensor.dead_columns > 0)
      warn(cat(tensor.plan.name, ": no calibration token reaches ", tensor.dead_columns, " of its ",
               tensor.plan.shape.back(), " columns; they are rounded to nearest"));
    detail(cat(tensor.plan.name, ": ", info(tensor.plan.got).name, ", ", tensor.method, ", weight error ",
               tensor.weight_error, ", output error ", tensor.output_error, ", clipped ", tensor.clipped));
  }
}

Methods methods_of(const QuantizeCommand& command) {
  const bool text = !command.calibration.source.empty(), allocated = command.target.given();
  const Methods methods = choose_methods(command.method, command.effort, text);
  if (methods.rounding == Method::kHqq && !methods.rotate && !methods.needs_text() && text && !allocated)
    fail("--method ", methods.name(), " looks at weights only; leave out --calibration");
  if (!command.imatrix.empty() && (methods.name() != "rtn" || text))
    fail("--imatrix weighs rounding to nearest; with --calibration importance is measured anew: give one of the two");
  return methods;
}

QuantizeRun run_of(const QuantizeCommand& command) {
  QuantizeRun run{.output = command.output};
  if (run.output.filename().empty()) run.output = run.output.parent_path();  // "folder/" is "folder"
  check_outputs(command, run.output);
  const Target& target = command.target;
  if (command.type.empty() == !target.given())
    fail("quantize: give --type, or --target-size, --target-bpw or --target-kld to have types chosen", target.given() ? ", not both" : "");
  check_target(target, run.output);
  QuantizeOptions& options = run.options;
  options.plan.preset = &preset_from_name(target.given() ? "q4_0" : command.type);
  options.plan.pure = command.pure;
  for (const std::string& text : command.overrides) options.plan.overrides.push_back(parse_override(text));
  run.methods = methods_of(command);
  refuse_unused(command, run.methods);
  options.method = run.methods.rounding;
  options.rotated = run.methods.rotate;
  options.scaled = run.methods.awq;
  options.fisher = run.methods.fisher;
  options.autoround = run.methods.autoround;
  options.gptq.damping = command.damping;
  options.gptq.act_order = !command.no_act_order;
  options.corrected_target = !command.no_correction;
  options.strict = command.common.strict;
  options.seed = command.common.seed;
  options.folder = run.output.string() + (target.kld > 0 ? ".trying" : ".quantizing");
  options.resume = command.resume;
  if (!command.max_memory.empty()) options.max_memory = parse_size("--max-memory", command.max_memory);
  return run;
}

// What is read once, rounded and written. Folders of weights read a matrix several times: codes, scales, offsets.
int round_only(const QuantizeCommand& command, QuantizeRun run) {
  check_plan(command, run, run.original);
  if (!command.imatrix.empty()) run.options.importance = read_imatrix(command.imatrix);
  QuantizeReport report;
  write_quantized(round_when_read(run.original, run.options, report), run);
  settle(report);
  write_result(command.common, "quantize", tell(command, run, report, gains(report)));
  return kDone;
}

int run_quantize(const QuantizeCommand& command) {
  QuantizeRun run = run_of(command);
  const bool rounding = run.methods.name() == "rtn" && command.calibration.source.empty() && !command.target.given() && is_gguf(run.output);
  if (!rounding) need_torch();
  run.original = open_checkpoint(command.model);
  look_at_source(run.original, run.options.strict);
  return rounding ? round_only(command, std::move(run)) : quantize_with_torch(command, std::move(run));
}

std::string type_help() {
  std::string names;
  for (const Preset& preset : all_presets())
    if (!group_format(preset.type)) names += cat(names.empty() ? "" : ", ", preset.name);
  return "What to make of it: " + names + " for a .gguf; for a folder int3_g64 and its like: int or affine, 2, 3, 4, 5, 6 or 8 bits, "
         "a scale for 32, 64 or 128 weights or a _row";
}

}  // namespace

void check_plan(const QuantizeCommand& command, const QuantizeRun& run, const Checkpoint& model) {
  const std::vector<TensorPlan> plan = plan_types(model, run.options.plan);
  for (const TensorPlan& tensor : plan) check_home(tensor.got, run.output, tensor.name);
  check_runtime(command.target, plan);
}

void write_quantized(const Checkpoint& model, const QuantizeRun& run) {
  if (!is_gguf(run.output)) return write_hf(model, run.output);
  GgufOptions gguf;
  gguf.file_type = run.options.plan.preset->file_type;
  write_gguf(model, run.output, gguf);
}

nlohmann::json tell(const QuantizeCommand& command, const QuantizeRun& run, const QuantizeReport& report, const std::vector<Gain>& gains) {
  say_what_was_hard(report);
  print_gains(gains);
  print_summary(report, open_checkpoint(run.output));
  nlohmann::json json = to_json(report);
  add_model(json, command.common, "model", command.model);
  add_model(json, command.common, "output", run.output);
  json["bytes"] = bytes_of(run.output);
  json["peak_memory"] = peak_memory();
  json["gains"] = to_json(gains);
  json["preset"] = run.options.plan.preset->name;
  json["method"] = run.methods.name();
  if (!command.imatrix.empty()) json["imatrix"] = command.imatrix;
  return json;
}

void add_quantize(CLI::App* sub) {
  const auto owner = std::make_shared<QuantizeCommand>();
  QuantizeCommand& command = *owner;
  set_action(*sub, command.common, [owner] { return run_quantize(*owner); });
  sub->add_option("model", command.model, "Hugging Face folder or .gguf")->required()->type_name("MODEL");
  sub->add_option("-o,--output", command.output, "The .gguf to write, or the folder, as MLX reads it")
      ->required()
      ->type_name("FILE|FOLDER");
  sub->add_option("--type", command.type, type_help())->type_name("TYPE");
  add_target_options(*sub, command.target);
  sub->add_option("--effort", command.effort,
                  "fast (round to nearest), balanced (what pays for its time, without training: the default if there is --calibration) or best (all "
                  "that pays); see docs/methods/effort.md")
      ->type_name("EFFORT");
  sub->add_option("--method", command.method,
                  "In place of --effort, what is done, joined by '+' in this order: rotate (outliers spread by rotations, which are learned if there is --calibration), awq (columns "
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
      ->check(kPositive)
      ->capture_default_str();
  sub->add_option("--tune-batch", command.tune.batch, "Chunks in a step of tuning")
      ->check(kPositive)
      ->capture_default_str();
  sub->add_option("--tune-rate", command.tune.rate,
                  "Peak learning rate of tuning, relative to the size of scales and norms; matrices of 8 bits get a fiftieth, absolute")
      ->check(kPositive)
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
      ->check(between(1e-8, 1))
      ->capture_default_str();
  sub->add_flag("--no-act-order", command.no_act_order, "GPTQ: visit columns from left to right");
  sub->add_flag("--no-correction", command.no_correction,
                "GPTQ: aim at the original weights, not at what makes up for the layers before");
}

}  // namespace attar::cli
