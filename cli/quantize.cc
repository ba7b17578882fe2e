#include <algorithm>
#include <iomanip>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>

#include "base/console.h"
#include "base/error.h"
#include "base/files.h"
#include "base/text.h"
#include "cli/command.h"
#include "datasets/corpus.h"
#include "distill/tune.h"
#include "quantize/pipeline.h"

namespace attar::cli {
namespace {

struct QuantizeCommand {
  Common common;
  std::string model, output, type, method, calibration;
  std::int64_t samples = 128, context = 512;
  std::vector<std::string> overrides;
  double damping = GptqOptions{}.damping;
  TuneOptions tune;
  bool pure = false, no_act_order = false, no_correction = false;
};

struct Methods {
  Method rounding = Method::kRtn;
  bool tune = false;
};

// "rtn", "gptq", either with "+tune"; empty: gptq if there is text for it.
Methods parse_methods(const QuantizeCommand& command) {
  static const std::vector<std::string> kNames = {"rtn", "gptq", "rtn+tune", "gptq+tune"};
  if (command.method.empty()) return {command.calibration.empty() ? Method::kRtn : Method::kGptq};
  if (std::find(kNames.begin(), kNames.end(), command.method) == kNames.end())
    fail("--method ", command.method, ": unknown method", suggest(command.method, kNames));
  const Methods methods{command.method.starts_with("gptq") ? Method::kGptq : Method::kRtn, command.method.ends_with("+tune")};
  if ((methods.tune || methods.rounding == Method::kGptq) && command.calibration.empty())
    fail("--method ", command.method, " needs text; give --calibration FILE, or --calibration builtin:calibration");
  return methods;
}

void check_output(const fs::path& output) {
  if (output.extension() != ".gguf")
    fail("quantize: the output must be a .gguf file, not ", output.string(), "; block formats have no other home here");
  const fs::path folder = output.has_parent_path() ? output.parent_path() : fs::path(".");
  if (!fs::is_directory(folder)) fail("quantize: cannot write ", output.string(), ": no folder ", folder.string());
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

// All chunks of the calibration text, in the order the seed gives.
std::vector<Ids> calibration_chunks(const QuantizeCommand& command, const Checkpoint& model) {
  if (command.calibration.empty()) return {};
  if (command.context < 2) fail("--context ", command.context, ": expected at least 2 tokens");
  const Tokenizer tokenizer(model.tokenizer);
  if (tokenizer.vocab_size() > model.config.vocab_size)
    fail("quantize: the tokenizer has ", tokenizer.vocab_size(), " tokens, the model ", model.config.vocab_size,
         "; it belongs to another model");
  std::int64_t length = command.context;
  if (model.config.max_positions > 0) length = std::min(length, model.config.max_positions);
  const auto documents = read_documents(command.calibration);
  std::vector<Ids> chunks = sample_chunks(tokenizer, documents, length, 0, command.common.seed);
  const auto found = static_cast<std::int64_t>(chunks.size());
  if (command.samples > found) {
    const std::string message = cat("--samples ", command.samples, ": ", command.calibration, " holds only ", found,
                                    " chunks of ", length, " tokens");
    if (command.common.strict) fail("quantize: ", message, "; give more text");
    warn(message + "; all are used");
  }
  return chunks;
}

struct TypeTotals {
  std::int64_t tensors = 0;
  std::uint64_t weights = 0, bytes = 0;
};

void print_summary(const QuantizeReport& report, const Checkpoint& result, const fs::path& output) {
  std::map<std::string, TypeTotals> totals;
  for (const Tensor& tensor : result.tensors) {
    TypeTotals& of_type = totals[tensor.shape.size() < 2 ? "f32" : info(tensor.type).name];
    ++of_type.tensors;
    of_type.weights += element_count(tensor.shape);
    of_type.bytes += tensor.shape.size() < 2 ? 4 * element_count(tensor.shape) : tensor.bytes();
  }
  TypeTotals all;
  std::cout << std::left << std::setw(10) << "type" << std::right << std::setw(9) << "tensors" << std::setw(14) << "weights"
            << std::setw(14) << "bytes" << "\n";
  for (const auto& [name, of_type] : totals) {
    std::cout << std::left << std::setw(10) << name << std::right << std::setw(9) << of_type.tensors << std::setw(14)
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
  std::cout << output.string() << ": " << fs::file_size(output) << " bytes, " << std::fixed << std::setprecision(2)
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

int run_quantize(const QuantizeCommand& command) {
  const fs::path output = command.output;
  check_output(output);
  QuantizeOptions options;
  options.plan.preset = &preset_from_name(command.type);
  options.plan.pure = command.pure;
  for (const std::string& text : command.overrides) options.plan.overrides.push_back(parse_override(text));
  const Methods methods = parse_methods(command);
  options.method = methods.rounding;
  options.gptq.damping = command.damping;
  options.gptq.act_order = !command.no_act_order;
  options.corrected_target = !command.no_correction;
  options.strict = command.common.strict;

  const Checkpoint model = open_checkpoint(command.model);
  look_at_source(model, options.strict);
  const std::vector<Ids> chunks = calibration_chunks(command, model);
  options.calibration = chunks;
  if (const auto samples = static_cast<std::size_t>(command.samples); samples > 0 && chunks.size() > samples)
    options.calibration.resize(samples);
  QuantizeReport report;
  Checkpoint result = quantize(model, options, report);
  TuneReport tuned;
  if (methods.tune) {
    TuneOptions tuning = command.tune;
    tuning.seed = command.common.seed;
    result = tune(model, result, chunks, tuning, tuned);
  }
  GgufOptions gguf;
  gguf.file_type = options.plan.preset->file_type;
  write_gguf(result, output, gguf);
  say_what_was_hard(report);
  print_summary(report, result, output);
  nlohmann::json json = to_json(report);
  json["output"] = output.string();
  json["bytes"] = fs::file_size(output);
  json["preset"] = options.plan.preset->name;
  json["method"] = cat(options.method == Method::kGptq ? "gptq" : "rtn", methods.tune ? "+tune" : "");
  if (methods.tune) json["tune"] = to_json(tuned);
  write_result(command.common, "quantize", std::move(json));
  return kDone;
}

std::string type_help() {
  std::string names;
  for (const Preset& preset : all_presets()) names += cat(names.empty() ? "" : ", ", preset.name);
  return "What to make of it: " + names;
}

}  // namespace

void add_quantize(CLI::App& app) {
  const auto owner = std::make_shared<QuantizeCommand>();
  QuantizeCommand& command = *owner;
  CLI::App* sub = add_command(app, "quantize", "Make a model small: a GGUF in 2 to 8 bits that stock llama.cpp runs",
                              command.common, [owner] { return run_quantize(*owner); });
  sub->add_option("model", command.model, "Hugging Face folder or .gguf")->required()->type_name("MODEL");
  sub->add_option("-o,--output", command.output, "The .gguf to write")->required()->type_name("FILE");
  sub->add_option("--type", command.type, type_help())->required()->type_name("TYPE");
  sub->add_option("--method", command.method,
                  "rtn (round to nearest) or gptq; with +tune, scales and norms are then trained end to end on the original's "
                  "distributions. gptq and tune need --calibration. Without the option: gptq if there is --calibration")
      ->type_name("METHOD");
  sub->add_option("--calibration", command.calibration,
                  "Text that shows what the model meets: .txt, .jsonl, or builtin:calibration")
      ->type_name("SOURCE");
  sub->add_option("--samples", command.samples, "Chunks of calibration text, picked by --seed; 0: all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  sub->add_option("--context", command.context, "Tokens in a chunk, at most what the model was made for")
      ->capture_default_str();
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
  sub->add_flag("--pure", command.pure, "One type for every matrix, without the preset's mix");
  sub->add_option("--damp", command.damping, "GPTQ: share of the mean diagonal added to the Hessian")
      ->check(CLI::Range(1e-8, 1.0))
      ->capture_default_str();
  sub->add_flag("--no-act-order", command.no_act_order, "GPTQ: visit columns from left to right");
  sub->add_flag("--no-correction", command.no_correction,
                "GPTQ: aim at the original weights, not at what makes up for the layers before");
}

}  // namespace attar::cli
