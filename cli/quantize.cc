#include <algorithm>
#include <charconv>
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
#include "cli/calibration.h"
#include "cli/command.h"
#include "cli/methods.h"
#include "distill/tune.h"
#include "quantize/allocate.h"
#include "quantize/awq.h"
#include "quantize/pipeline.h"
#include "quantize/rotate.h"
#include "quantize/work_folder.h"

namespace attar::cli {
namespace {

struct QuantizeCommand {
  Common common;
  std::string model, output, type, method, effort, imatrix;
  Calibration calibration;
  std::string max_memory, target_size, allowed;
  double target_bpw = 0;
  std::vector<std::string> overrides;
  double damping = GptqOptions{}.damping;
  std::int64_t fisher_samples = QuantizeOptions{}.fisher_samples;
  TuneOptions tune;
  bool pure = false, no_act_order = false, no_correction = false, resume = false;
};

// What is chosen from for a target size, unless --types says otherwise.
constexpr const char* kGgufTypes = "q2_k,q3_k,iq4_xs,iq4_nl,q4_0,q4_k,q4_1,q5_0,q5_k,q5_1,q6_k,q8_0";
constexpr const char* kFolderTypes = "affine2_g32,affine3_g64,affine3_g32,affine4_g64,affine4_g32,affine5_g32,affine6_g32,affine8_g32";

bool is_gguf(const fs::path& output) { return output.extension() == ".gguf"; }

// Before hours of work, not after.
void check_output(const fs::path& output) {
  const fs::path folder = output.has_parent_path() ? output.parent_path() : fs::path(".");
  if (!fs::is_directory(folder)) fail("quantize: cannot write ", output.string(), ": no folder ", folder.string());
  if (is_gguf(output)) return;
  const OutputFolder probe(output);  // not committed, it leaves nothing
}

// ggml's types live in a .gguf, plain groups in a folder.
void check_home(Type type, const fs::path& output, std::string_view what) {
  if (is_gguf(output) && group_format(type))
    fail("quantize: ", what, " is to be ", info(type).name, ", which a .gguf cannot hold; give -o a folder, or a type such as q4_0");
  if (!is_gguf(output) && info(type).quantized && !group_format(type))
    fail("quantize: ", what, " is to be ", info(type).name, ", which only a .gguf can hold, and ", output.string(), " is a folder; ",
         "give -o a name ending in .gguf, or a type such as affine4_g64");
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
  TypeTotals all;
  std::cout << std::left << std::setw(13) << "type" << std::right << std::setw(9) << "tensors" << std::setw(14) << "weights"
            << std::setw(14) << "bytes" << "\n";
  for (const auto& [name, of_type] : totals) {
    std::cout << std::left << std::setw(13) << name << std::right << std::setw(9) << of_type.tensors << std::setw(14)
              << of_type.weights << std::setw(14) << of_type.bytes << "\n";
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

// "9300000", "9.3MB", "1.5GB".
std::uint64_t parse_size(const std::string& option, const std::string& text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  const double factor = unit == "GB" ? 1e9 : unit == "MB" ? 1e6 : unit == "kB" ? 1e3 : unit.empty() ? 1.0 : 0.0;
  if (error != std::errc() || !(number > 0) || factor == 0.0)
    fail(option, " ", text, ": expected bytes, such as 9300000, 9.3MB or 1.5GB");
  return static_cast<std::uint64_t>(number * factor);
}

std::vector<Type> parse_types(const std::string& text) {
  std::vector<Type> types;
  std::istringstream list(text);
  std::vector<std::string> known = quantizable_type_names();
  known.insert(known.end(), {"f16", "bf16"});
  for (std::string name; std::getline(list, name, ',');) {
    if (std::find(known.begin(), known.end(), name) == known.end()) fail("--types ", name, ": unknown type", suggest(name, known));
    types.push_back(*type_from_name(name));
  }
  return types;
}

// What a .gguf of `target` bytes has left for matrices, after tokenizer, names, norms and padding.
std::uint64_t matrix_budget(const Checkpoint& model, const fs::path& output, std::uint64_t target) {
  if (!is_gguf(output)) fail("--target-size is for a .gguf; for a folder give --target-bpw");
  GgufOptions plain;
  plain.type = Type::kF16;
  std::uint64_t rest = gguf_bytes(model, output, plain);
  for (const Tensor& tensor : model.tensors)
    if (tensor.shape.size() >= 2) rest = rest - 2 * element_count(tensor.shape) + 31;
  if (rest >= target)
    fail("--target-size ", target, ": tokenizer, names and norms alone take ", rest, " bytes");
  return target - rest;
}

// Types chosen by measured sensitivity so that the file fits.
void allocate_types(const QuantizeCommand& command, const Checkpoint& model, const std::vector<Ids>& chunks, PlanOptions& plan) {
  constexpr std::size_t kChunks = 8;
  if (chunks.empty()) fail("quantize: choosing types needs text; give --calibration FILE, or --calibration builtin:calibration");
  std::uint64_t weights = 0;
  for (const Tensor& tensor : model.tensors)
    if (tensor.shape.size() >= 2) weights += element_count(tensor.shape);
  const std::uint64_t budget = command.target_bpw > 0
                                   ? static_cast<std::uint64_t>(command.target_bpw / 8 * static_cast<double>(weights))
                                   : matrix_budget(model, command.output, parse_size("--target-size", command.target_size));
  const std::vector<Ids> few(chunks.begin(), chunks.begin() + static_cast<std::ptrdiff_t>(std::min(kChunks, chunks.size())));
  const std::vector<Type> types =
      parse_types(!command.allowed.empty() ? command.allowed : is_gguf(command.output) ? kGgufTypes : kFolderTypes);
  for (const Type type : types) check_home(type, command.output, "a matrix, if --types allows it,");
  const std::vector<Sensitivity> sensitivities = measure_sensitivities(model, few, types);
  const std::vector<Candidate> chosen = allocate(sensitivities, budget);
  std::map<Type, std::uint64_t> bytes;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    plan.assigned[sensitivities[i].name] = chosen[i].type;
    bytes[chosen[i].type] += chosen[i].bytes;
    detail(cat(sensitivities[i].name, ": ", info(chosen[i].type).name, ", ", chosen[i].bytes, " bytes, expected KL ", chosen[i].cost));
  }
  // The preset of the type that most of it is in gives a .gguf its file type.
  const auto most = std::max_element(bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  for (const Preset& preset : all_presets())
    if (preset.type == most->first) plan.preset = &preset;
}

// Runs `work`, which keeps what it has finished in `folder`. The folder stays if the same command could go on with it.
void keeping(const fs::path& folder, const std::function<void()>& work) {
  const auto kept = [&](const Error& stop) {
    return cat(stop.what(), "; what is finished is kept in ", folder.string(), ", the same command with --resume goes on");
  };
  std::error_code ignored;
  try {
    work();
  } catch (const Interrupted& stop) {
    if (finished_parts(folder) > 0) throw Interrupted(kept(stop));
    fs::remove_all(folder, ignored);
    throw;
  } catch (const WriteError& stop) {
    if (finished_parts(folder) > 0) throw WriteError(kept(stop));
    fs::remove_all(folder, ignored);
    throw;
  } catch (const ResumeError&) {
    throw;
  } catch (const Error&) {  // the same command would meet it again
    fs::remove_all(folder, ignored);
    throw;
  }
  fs::remove_all(folder, ignored);
}

Methods methods_of(const QuantizeCommand& command) {
  const bool text = !command.calibration.source.empty(), allocated = !command.target_size.empty() || command.target_bpw > 0;
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

int run_quantize(const QuantizeCommand& command) {
  fs::path output = command.output;
  if (output.filename().empty()) output = output.parent_path();  // "folder/" is "folder"
  check_output(output);
  QuantizeOptions options;
  const bool allocated = !command.target_size.empty() || command.target_bpw > 0;
  if (command.type.empty() == !allocated)
    fail("quantize: give --type, or --target-size or --target-bpw to have types chosen", allocated ? ", not both" : "");
  options.plan.preset = &preset_from_name(allocated ? "q4_0" : command.type);
  options.plan.pure = command.pure;
  for (const std::string& text : command.overrides) options.plan.overrides.push_back(parse_override(text));
  const Methods methods = methods_of(command);
  options.method = methods.rounding;
  options.rotated = methods.rotate;
  options.scaled = methods.awq;
  options.gptq.damping = command.damping;
  options.gptq.act_order = !command.no_act_order;
  options.corrected_target = !command.no_correction;
  options.fisher_samples = command.fisher_samples;
  options.strict = command.common.strict;
  options.folder = output.string() + ".quantizing";
  options.resume = command.resume;
  if (!command.max_memory.empty()) options.max_memory = parse_size("--max-memory", command.max_memory);

  const Checkpoint original = open_checkpoint(command.model);
  look_at_source(original, options.strict);
  RotateReport rotation;
  AwqReport scaling;
  Checkpoint model = methods.rotate ? rotated(original, options, command.common.seed, rotation) : original;
  const std::vector<Ids> chunks = read_calibration(command.calibration, model, command.common);
  if (allocated) allocate_types(command, model, chunks, options.plan);
  for (const TensorPlan& tensor : plan_types(model, options.plan)) check_home(tensor.got, output, tensor.name);
  options.calibration = chunks;
  limit_samples(options.calibration, command.calibration);
  check_memory(model.config, options);
  if (methods.awq) model = awq(model, options.calibration, options.plan, output.string() + ".awq", scaling);
  if (options.method == Method::kHqq) options.calibration.clear();
  if (!command.imatrix.empty()) options.importance = read_imatrix(command.imatrix);
  QuantizeReport report;
  TuneReport tuned;
  Checkpoint result;
  keeping(options.folder, [&] {
    result = quantize(model, options, report);
    if (methods.tune) {
      TuneOptions tuning = command.tune;
      tuning.seed = command.common.seed;
      result = tune(original, result, chunks, tuning, tuned);
    }
    if (is_gguf(output)) {
      GgufOptions gguf;
      gguf.file_type = options.plan.preset->file_type;
      write_gguf(result, output, gguf);
    } else {
      write_hf(result, output);
    }
  });
  say_what_was_hard(report);
  print_summary(report, open_checkpoint(output));
  nlohmann::json json = to_json(report);
  json["output"] = output.string();
  json["bytes"] = bytes_of(output);
  json["peak_memory"] = peak_memory();
  json["preset"] = options.plan.preset->name;
  json["method"] = methods.name();
  if (!command.imatrix.empty()) json["imatrix"] = command.imatrix;
  if (methods.rotate) json["rotate"] = to_json(rotation);
  if (methods.awq) json["awq"] = to_json(scaling);
  if (methods.tune) json["tune"] = to_json(tuned);
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
  sub->add_option("--target-size", command.target_size,
                  "In place of --type: a file of at most this size (9300000, 9.3MB, 1.5GB), each matrix in the type that its "
                  "measured sensitivity asks for; needs --calibration")
      ->type_name("SIZE");
  sub->add_option("--target-bpw", command.target_bpw, "The same for so many bits per weight, all matrices together")
      ->check(CLI::Range(1.0, 16.0))
      ->excludes("--target-size");
  sub->add_option("--types", command.allowed, cat("Types to choose from with --target-size or --target-bpw; by default ", kGgufTypes, " for a .gguf, ", kFolderTypes,
                      " for a folder"))
      ->type_name("TYPE,...");
  sub->add_option("--effort", command.effort,
                  "fast (round to nearest), balanced (all that pays without training: the default if there is --calibration) or best (all "
                  "that pays); see docs/methods/effort.md")
      ->type_name("EFFORT");
  sub->add_option("--method", command.method,
                  "In place of --effort, what is done, joined by '+' in this order: rotate (outliers spread by rotations), awq (columns "
                  "scaled by the inputs they meet); one of rtn (round to nearest), hqq and gptq; tune (scales and norms trained end to end on "
                  "the original's distributions). awq, gptq and tune need --calibration")
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
                  "Peak learning rate of tuning, relative to the size of scales and norms; matrices of 8 bits get a tenth, absolute")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  sub->add_option("--max-memory", command.max_memory,
                  "Refuse at once if quantizing with --calibration may take more memory (800MB, 4GB). A Llama of 1.1 B parameters takes "
                  "1.4 GB, one of 7 B 3.1 GB, however much text there is: hidden states are on disk beside the output")
      ->type_name("SIZE");
  sub->add_flag("--resume", command.resume, "Go on with an interrupted run, if there is one: the same command, after its last finished layer");
  sub->add_flag("--pure", command.pure, "One type for every matrix, without the preset's mix");
  sub->add_option("--damp", command.damping, "GPTQ: share of the mean diagonal added to the Hessian")
      ->check(CLI::Range(1e-8, 1.0))
      ->capture_default_str();
  sub->add_option("--fisher-samples", command.fisher_samples,
                  "GPTQ: chunks of calibration text whose gradients tell how much each output matters; 0: all alike")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  sub->add_flag("--no-act-order", command.no_act_order, "GPTQ: visit columns from left to right");
  sub->add_flag("--no-correction", command.no_correction,
                "GPTQ: aim at the original weights, not at what makes up for the layers before");
}

}  // namespace attar::cli
