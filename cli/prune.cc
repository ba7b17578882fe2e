#include <charconv>
#include <cmath>
#include <iostream>
#include <numeric>
#include <optional>
#include <tuple>

#include "base/console.h"
#include "base/error.h"
#include "base/files.h"
#include "cli/command.h"
#include "convert/vocabulary.h"
#include "datasets/corpus.h"
#include "datasets/tokenizer.h"
#include "distill/prune.h"

namespace attar::cli {
namespace {

struct PruneOptions {
  Common common;
  std::filesystem::path model, output;
  std::string data, target, vocabulary, dtype, device = "cpu";
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

constexpr const char* kAuto = "auto";  // of --vocabulary: the search decides

// --vocabulary as a number; 0: not given, or for the search to find.
std::int64_t asked_vocabulary(const PruneOptions& options) {
  const std::string& text = options.vocabulary;
  if (text.empty()) return 0;
  if (text == kAuto) {
    if (options.target.empty()) fail("[prune] --vocabulary auto needs --target-params, which it is found for");
    return 0;
  }
  std::int64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc() || end != text.data() + text.size() || count < 1)
    fail("[prune] --vocabulary '", text, "' is neither a number of tokens nor auto");
  return count;
}

// tokens: nullptr if the vocabulary stays.
StudentShape choose_shape(const PruneOptions& options, const ModelConfig& config, const TokenRanking* tokens) {
  StudentShape shape = options.shape;
  shape.vocabulary = asked_vocabulary(options);
  if (!options.keep_layers.empty()) {
    const auto count = static_cast<std::int64_t>(options.keep_layers.size());
    if (shape.layers != 0 && shape.layers != count)
      fail("[prune] --layers ", shape.layers, " and ", count, " layers in --keep-layers contradict each other");
    shape.layers = count;
  }
  const StudentShape full = shape_of(config);
  const auto or_full = [](std::int64_t asked, std::int64_t whole) { return asked > 0 ? asked : whole; };
  const StudentShape completed = {or_full(shape.layers, full.layers), or_full(shape.hidden, full.hidden),
                                  or_full(shape.ffn, full.ffn), or_full(shape.heads, full.heads),
                                  or_full(shape.vocabulary, full.vocabulary)};
  check_shape(config, completed);
  if (tokens != nullptr && shape.vocabulary > 0) (void)tokens->first(shape.vocabulary);  // throws if it cannot be
  if (options.target.empty()) return completed;
  return find_shape(config, parse_target(options.target, parameter_count(config)), shape,
                    options.vocabulary == kAuto ? tokens : nullptr);
}

TokenRanking rank_tokens(const ModelConfig& config, const Tokenizer& tokenizer, const std::vector<Ids>& documents) {
  std::vector<std::int64_t> special = config.eos_ids;
  special.insert(special.end(), {config.bos_id, config.pad_id});
  return rank_tokens(tokenizer.data(), documents, special);
}

std::size_t count_tokens(const std::vector<Ids>& documents) {
  return std::accumulate(documents.begin(), documents.end(), std::size_t{0},
                         [](std::size_t sum, const Ids& ids) { return sum + ids.size(); });
}

nlohmann::json shape_json(const StudentShape& shape) {
  return {{"layers", shape.layers}, {"hidden", shape.hidden}, {"ffn", shape.ffn}, {"heads", shape.heads},
          {"vocabulary", shape.vocabulary}};
}

// The student over the model's tensors, with --data's tokens chosen and importance measured; adds to the result.
Checkpoint cut(const PruneOptions& options, const Checkpoint& teacher, nlohmann::json& result) {
  std::optional<Tokenizer> tokenizer(teacher.tokenizer);
  std::vector<Ids> documents = read_token_documents(*tokenizer, options.data);
  std::optional<TokenRanking> tokens;
  if (!options.vocabulary.empty()) tokens = rank_tokens(teacher.config, *tokenizer, documents);
  const StudentShape shape = choose_shape(options, teacher.config, tokens ? &*tokens : nullptr);
  Checkpoint source = teacher;
  if (tokens) {
    source = select_tokens(teacher, tokens->first(shape.vocabulary));
    tokenizer.emplace(source.tokenizer);
    result["corpus_tokens"]["teacher"] = count_tokens(documents);
    documents = read_token_documents(*tokenizer, options.data);
    result["corpus_tokens"]["student"] = count_tokens(documents);
    const StudentShape full = shape_of(source.config);
    if (std::tie(shape.layers, shape.hidden, shape.ffn, shape.heads) == std::tie(full.layers, full.hidden, full.ffn, full.heads))
      return source;  // nothing else is cut
  }
  const auto chunks = sample_chunks(documents, options.context, options.samples, options.common.seed);
  const auto decoder = load_decoder(source, parse_device(options.device));
  const Importance importance = measure_importance(*decoder, chunks, options.batch);
  const PrunePlan plan = plan_pruning(source.config, importance, shape, options.keep_layers);
  std::vector<std::int64_t> kept;
  for (const auto& layer : plan.layers) kept.push_back(layer.index);
  result["kept_layers"] = kept;
  result["block_influence"] = importance.layers;
  return prune(source, plan);
}

void print_result(const nlohmann::json& result) {
  const auto change = [&](const char* name) { return cat(name, " ", result["teacher_shape"][name], " -> ", result["shape"][name]); };
  std::cout << change("layers") << ", " << change("hidden") << ", " << change("ffn") << ", " << change("heads") << "\n";
  const auto percent = [](double share) { return std::round(1000 * share) / 10; };
  if (result.contains("corpus_tokens")) {
    const auto before = result["corpus_tokens"]["teacher"].get<double>(), after = result["corpus_tokens"]["student"].get<double>();
    std::cout << change("vocabulary") << ", " << percent(after / before - 1) << " % more tokens for the same text\n";
  }
  std::cout << result["teacher_parameters"] << " -> " << result["parameters"] << " parameters ("
            << percent(result["share"].get<double>()) << " %)\n"
            << result["output"].get<std::string>() << "\n";
}

int run_prune(const PruneOptions& options) {
  const Checkpoint teacher = open_checkpoint(options.model);
  const Type type = stored_type(options, teacher.config);
  if (options.vocabulary.empty()) (void)choose_shape(options, teacher.config, nullptr);  // refused before any work
  if (options.context > teacher.config.max_positions)
    fail("[prune] context ", options.context, ": the model can see only ", teacher.config.max_positions, " tokens");
  OutputFolder output(options.output);
  if (teacher.tokenizer.kind == TokenizerKind::kNone) fail("[prune] ", options.model.string(), " has no tokenizer");
  nlohmann::json result;
  const Checkpoint student = cut(options, teacher, result);
  HfOptions stored;
  stored.type = type;
  write_hf(student, output.folder(), stored);
  output.commit();

  const std::uint64_t before = parameter_count(teacher.config), after = parameter_count(student.config);
  result["output"] = options.output.string();
  result["teacher_parameters"] = before;
  result["parameters"] = after;
  result["share"] = static_cast<double>(after) / static_cast<double>(before);
  result["teacher_shape"] = shape_json(shape_of(teacher.config));
  result["shape"] = shape_json(shape_of(student.config));
  result["shape"]["kv_heads"] = student.config.kv_heads;
  print_result(result);
  add_model(result, options.common, "model", options.model);
  add_model(result, options.common, "output", options.output);
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
  sub->add_option("--data", options->data, "Text on which importance is measured and tokens are counted: .txt, .jsonl or builtin:calibration")
      ->required();
  sub->add_option("--target-params", options->target,
                  "Find the sizes that give at most this many parameters: 9000000, 9M or 60%");
  sub->add_option("--vocabulary", options->vocabulary,
                  "Tokens to keep: bytes, special and added ones, then those that --data uses most; auto with --target-params");
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
