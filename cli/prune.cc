#include <charconv>
#include <iostream>

#include "base/console.h"
#include "base/error.h"
#include "base/files.h"
#include "cli/command.h"
#include "datasets/corpus.h"
#include "datasets/tokenizer.h"
#include "distill/prune.h"

namespace attar::cli {
namespace {

struct PruneOptions {
  Common common;
  std::filesystem::path model, output;
  std::string data, target, dtype, device = "cpu";
  std::vector<std::int64_t> keep_layers;
  StudentShape shape;  // 0: not asked for
  std::int64_t samples = 128, context = 256, batch = 8;
};

// "9000000", "9M", "1.5B" or "60%" of what the teacher has.
std::uint64_t parse_target(const std::string& text, std::uint64_t teacher) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  const double factor = unit == "%" ? static_cast<double>(teacher) / 100 : unit == "B" ? 1e9 : unit == "M" ? 1e6
                        : unit == "k" ? 1e3 : unit.empty() ? 1.0 : 0.0;
  if (error != std::errc() || !(number > 0) || factor == 0.0)
    fail("[prune] --target-params '", text, "' is neither a number (9000000, 9M) nor a share of the teacher (60%)");
  if (number * factor > static_cast<double>(teacher))
    fail("[prune] --target-params ", text, " is more than the teacher has (", teacher, ")");
  return static_cast<std::uint64_t>(number * factor);
}

Type stored_type(const PruneOptions& options, const ModelConfig& config) {
  const std::string& name = options.dtype;
  if (name.empty()) return config.dtype == "float16" ? Type::kF16 : config.dtype == "bfloat16" ? Type::kBF16 : Type::kF32;
  const auto type = type_from_name(name);
  if (name != "f32" && name != "f16" && name != "bf16") fail("[prune] weights cannot be stored as '", name, "'; one of f32, f16, bf16");
  return *type;
}

StudentShape choose_shape(const PruneOptions& options, const ModelConfig& config) {
  StudentShape shape = options.shape;
  if (!options.keep_layers.empty()) {
    const auto count = static_cast<std::int64_t>(options.keep_layers.size());
    if (shape.layers != 0 && shape.layers != count)
      fail("[prune] --layers ", shape.layers, " and ", count, " layers in --keep-layers contradict each other");
    shape.layers = count;
  }
  if (!options.target.empty()) {
    const StudentShape full = shape_of(config);
    const auto or_full = [](std::int64_t asked, std::int64_t whole) { return asked > 0 ? asked : whole; };
    check_shape(config, {or_full(shape.layers, full.layers), or_full(shape.hidden, full.hidden),
                         or_full(shape.ffn, full.ffn), or_full(shape.heads, full.heads)});
    return find_shape(config, parse_target(options.target, parameter_count(config)), shape);
  }
  const StudentShape full = shape_of(config);
  if (shape.layers == 0) shape.layers = full.layers;
  if (shape.hidden == 0) shape.hidden = full.hidden;
  if (shape.ffn == 0) shape.ffn = full.ffn;
  if (shape.heads == 0) shape.heads = full.heads;
  check_shape(config, shape);
  return shape;
}

nlohmann::json result_json(const PruneOptions& options, const ModelConfig& teacher, const ModelConfig& student,
                           const PrunePlan& plan, const Importance& importance) {
  const std::uint64_t before = parameter_count(teacher), after = parameter_count(student);
  std::vector<std::int64_t> kept;
  for (const auto& layer : plan.layers) kept.push_back(layer.index);
  return {{"output", options.output.string()},
          {"teacher_parameters", before},
          {"parameters", after},
          {"share", static_cast<double>(after) / static_cast<double>(before)},
          {"shape", {{"layers", student.layers}, {"hidden", student.hidden_size}, {"ffn", student.intermediate_size},
                     {"heads", student.heads}, {"kv_heads", student.kv_heads}}},
          {"kept_layers", kept},
          {"block_influence", importance.layers}};
}

int run_prune(const PruneOptions& options) {
  const Checkpoint teacher = open_checkpoint(options.model);
  const ModelConfig& config = teacher.config;
  const StudentShape shape = choose_shape(options, config);
  const Type type = stored_type(options, config);
  if (options.context > config.max_positions)
    fail("[prune] context ", options.context, ": the model can see only ", config.max_positions, " tokens");
  OutputFolder output(options.output);
  if (teacher.tokenizer.kind == TokenizerKind::kNone) fail("[prune] ", options.model.string(), " has no tokenizer");
  const Tokenizer tokenizer(teacher.tokenizer);
  const auto chunks = sample_chunks(read_token_documents(tokenizer, options.data), options.context, options.samples,
                                    options.common.seed);
  const auto decoder = load_decoder(teacher, parse_device(options.device));
  const Importance importance = measure_importance(*decoder, chunks, options.batch);
  const PrunePlan plan = plan_pruning(config, importance, shape, options.keep_layers);
  const Checkpoint student = prune(teacher, plan);
  HfOptions stored;
  stored.type = type;
  write_hf(student, output.folder(), stored);
  output.commit();

  const nlohmann::json result = result_json(options, config, student.config, plan, importance);
  std::cout << "layers " << config.layers << " -> " << shape.layers << ", hidden " << config.hidden_size << " -> "
            << shape.hidden << ", ffn " << config.intermediate_size << " -> " << shape.ffn << ", heads " << config.heads
            << " -> " << shape.heads << "\n"
            << result["teacher_parameters"] << " -> " << result["parameters"] << " parameters ("
            << std::llround(1000 * result["share"].get<double>()) / 10.0 << " %)\n"
            << options.output.string() << "\n";
  write_result(options.common, "prune", result);
  return kDone;
}

}  // namespace

void add_prune(CLI::App& app) {
  auto options = std::make_shared<PruneOptions>();
  CLI::App* sub = add_command(app, "prune", "Cut a smaller student out of a model", options->common,
                              [options] { return run_prune(*options); });
  sub->add_option("model", options->model, "Model to cut from")->required();
  sub->add_option("-o,--output", options->output, "Folder for the student")->required();
  sub->add_option("--data", options->data, "Text on which importance is measured: .txt, .jsonl or builtin:calibration")
      ->required();
  sub->add_option("--target-params", options->target,
                  "Find the sizes that give at most this many parameters: 9000000, 9M or 60%");
  sub->add_option("--layers", options->shape.layers, "Layers to keep")->check(CLI::PositiveNumber);
  sub->add_option("--keep-layers", options->keep_layers, "The layers to keep, by number from 0: 0,1,4")->delimiter(',');
  sub->add_option("--ffn", options->shape.ffn, "Channels of the MLP to keep")->check(CLI::PositiveNumber);
  sub->add_option("--heads", options->shape.heads, "Attention heads to keep; key-value groups stay")
      ->check(CLI::PositiveNumber);
  sub->add_option("--hidden", options->shape.hidden, "Hidden channels to keep")->check(CLI::PositiveNumber);
  const auto option = [sub](const char* name, auto& value, const char* help) {
    return sub->add_option(name, value, help)->capture_default_str();
  };
  option("--samples", options->samples, "Chunks of text to measure on")->check(CLI::PositiveNumber);
  option("--context", options->context, "Tokens per chunk")->check(CLI::PositiveNumber);
  option("--batch", options->batch, "Chunks at a time")->check(CLI::PositiveNumber);
  option("--device", options->device, "cpu, cuda or cuda:N");
  sub->add_option("--dtype", options->dtype, "Type of the weights written: f32, f16 or bf16; as the model's without it");
}

}  // namespace attar::cli
