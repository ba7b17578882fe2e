#include <charconv>
#include <cmath>
#include <iostream>
#include <numeric>
#include <optional>
#include <tuple>

#include "base/console.h"
#include "base/error.h"
#include "base/files.h"
#include "cli/numbers.h"
#include "cli/prune_target.h"
#include "convert/vocabulary.h"
#include "datasets/corpus.h"
#include "datasets/tokenizer.h"
#include "distill/expected_uses.h"
#include "distill/layer_loss.h"

namespace attar::cli {
namespace {

constexpr const char *kInfluence = "influence", *kLoss = "loss";  // of --rank-layers

struct PruneOptions {
  Common common;
  std::filesystem::path model, output;
  std::string data, vocabulary, dtype, device = "cpu", rank_layers = kInfluence;
  PruneTarget target;
  std::vector<std::int64_t> keep_layers;
  StudentShape shape;  // 0: not asked for
  std::int64_t samples = 128, context = 256, batch = 8;
  bool resume = false;
};

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
    if (!options.target.given()) fail("[prune] --vocabulary auto needs --target-params or --target-size, which it is found for");
    return 0;
  }
  std::int64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc() || end != text.data() + text.size() || count < 1)
    fail("[prune] --vocabulary '", text, "' is neither a number of tokens nor auto");
  return count;
}

// With the teacher's size where none is asked for.
StudentShape completed(StudentShape shape, const ModelConfig& config) {
  const StudentShape full = shape_of(config);
  const std::int64_t asked_heads = shape.heads;
  for (const auto size : {&StudentShape::layers, &StudentShape::hidden, &StudentShape::ffn, &StudentShape::heads, &StudentShape::vocabulary})
    if (shape.*size <= 0) shape.*size = full.*size;
  if (config.heads != config.kv_heads && shape.kv_heads > 0 && asked_heads <= 0)  // groups go with their heads
    shape.heads = shape.kv_heads * (config.heads / config.kv_heads);
  return shape;
}

// The sizes asked for; 0: not asked for. tokens: nullptr if the vocabulary stays.
StudentShape asked_shape(const PruneOptions& options, const ModelConfig& config, const TokenRanking* tokens) {
  StudentShape shape = options.shape;
  shape.vocabulary = asked_vocabulary(options);
  if (!options.keep_layers.empty()) {
    if (options.rank_layers != kInfluence) fail("[prune] --keep-layers says which layers stay; leave --rank-layers out");
    const auto count = static_cast<std::int64_t>(options.keep_layers.size());
    if (shape.layers != 0 && shape.layers != count)
      fail("[prune] --layers ", shape.layers, " and ", count, " layers in --keep-layers contradict each other");
    shape.layers = count;
  }
  check_shape(config, completed(shape, config));
  if (tokens != nullptr && shape.vocabulary > 0) (void)tokens->first(shape.vocabulary);  // throws if it cannot be
  return shape;
}

TokenRanking rank_tokens(const ModelConfig& config, const Tokenizer& tokenizer, const std::vector<Ids>& documents, std::vector<double> expected) {
  std::vector<std::int64_t> special = config.eos_ids;
  special.insert(special.end(), {config.bos_id, config.pad_id});
  return rank_tokens(tokenizer.data(), documents, special, std::move(expected));
}

std::size_t count_tokens(const std::vector<Ids>& documents) {
  return std::accumulate(documents.begin(), documents.end(), std::size_t{0},
                         [](std::size_t sum, const Ids& ids) { return sum + ids.size(); });
}

RetrainOptions retrain_options(const PruneOptions& options) {
  RetrainOptions retrain = options.target.retrain;
  retrain.batch = options.batch;
  retrain.context = options.context;
  retrain.seed = options.common.seed;
  retrain.device = options.device;
  return retrain;
}

// --data as tokens, or the part of it that is not held out.
std::vector<Ids> read_ids(const PruneOptions& options, const Tokenizer& tokenizer, const std::optional<SearchText>& text) {
  if (!text) return read_token_documents(tokenizer, options.data);
  std::vector<Ids> documents;
  for (Document& document : text->training(tokenizer)) documents.push_back(std::move(document.ids));
  return documents;
}

// One unless a target is given.
std::vector<StudentShape> shapes_for(const PruneOptions& options, const Cutter& cutter, const Checkpoint& whole, StudentShape asked,
                                     const HfOptions& stored) {
  asked.vocabulary = 0;  // cut already, or free
  if (!options.target.given()) return {completed(asked, cutter.teacher.config)};
  return target_shapes(options.target, cutter, whole, asked, stored);
}

// Does what it is given; if that is stopped, the folder stays where the same command can go on with it.
template <class Work>
Checkpoint keeping(const std::optional<WorkFolder>& folder, const Work& work) {
  try {
    return work();
  } catch (const Error& stop) {
    std::error_code ignored;
    if (folder && finished_parts(folder->path()) == 0) fs::remove_all(folder->path(), ignored);
    if (!folder || !fs::exists(folder->path()) || dynamic_cast<const Interrupted*>(&stop) == nullptr) throw;
    throw Interrupted(cat(stop.what(), "; finished candidates are kept in ", folder->path().string(), ", the same command with --resume goes on"));
  }
}

bool cuts_only_tokens(const StudentShape& shape, const ModelConfig& config) {
  const StudentShape full = shape_of(config);
  return std::tie(shape.layers, shape.hidden, shape.ffn, shape.heads) == std::tie(full.layers, full.hidden, full.ffn, full.heads) &&
         kv_heads_of(config, shape) == config.kv_heads;
}

fs::path search_folder(const PruneOptions& options) {
  fs::path folder = options.output.has_filename() ? options.output : options.output.parent_path();
  return folder += ".pruning";
}

// Where the search keeps its finished candidates, for a run in which all that decides them is the same.
WorkFolder open_search_folder(const PruneOptions& options, const Checkpoint& teacher, const SearchText& text, const std::vector<StudentShape>& shapes,
                              const HfOptions& stored) {
  const RetrainOptions retrain = retrain_options(options);
  nlohmann::json run = {{"model", checkpoint_hash(teacher)}, {"data", text.hash()},         {"vocabulary", options.vocabulary},
                        {"keep-layers", options.keep_layers}, {"rank-layers", options.rank_layers}, {"samples", options.samples},
                        {"context", retrain.context},         {"batch", retrain.batch},     {"retrain", retrain.tokens},
                        {"retrain-lr", retrain.rate},         {"seed", retrain.seed},       {"device", retrain.device},
                        {"dtype", info(*stored.type).name},   {"shapes", nlohmann::json::array()}};
  for (const StudentShape& shape : shapes) run["shapes"].push_back(shape_json(shape));
  return {search_folder(options), run, options.resume};
}

// The student over the model's tensors, with --data's tokens chosen and importance measured; adds to the result. work: set to where
// finished candidates are kept, if there are several.
Checkpoint cut(const PruneOptions& options, const Checkpoint& teacher, const HfOptions& stored, std::optional<WorkFolder>& work, nlohmann::json& result) {
  const Tokenizer whole(teacher.tokenizer);
  std::optional<SearchText> text;
  if (options.target.searches())
    text.emplace(whole, options.data, options.target.heldout, kHeldOutChunks * (options.context + 1), options.common.seed);
  std::vector<Ids> documents = read_ids(options, whole, text);
  Cutter cutter{teacher, {}, options.keep_layers, {}};
  if (!options.vocabulary.empty()) {
    cutter.tokens = rank_tokens(teacher.config, whole, documents, {});
    result["corpus_tokens"]["teacher"] = count_tokens(documents);
  }
  const StudentShape asked = asked_shape(options, teacher.config, cutter.tokens ? &*cutter.tokens : nullptr);
  const auto sampled = [&] { return sample_chunks(documents, options.context, options.samples, options.common.seed); };
  std::shared_ptr<Decoder> decoder;
  const auto rank_as_expected = [&] {
    decoder = load_decoder(teacher, parse_device(options.device));
    cutter.tokens = rank_tokens(teacher.config, whole, documents, expected_uses(*decoder, sampled(), options.batch));
  };
  if (asked.vocabulary > 0) {
    rank_as_expected();
    cutter.teacher = cutter.over(asked.vocabulary);
    cutter.tokens.reset();
    decoder.reset();  // it has all tokens
    documents = read_ids(options, Tokenizer(cutter.teacher.tokenizer), text);
  }
  const std::vector<StudentShape> shapes = shapes_for(options, cutter, teacher, asked, stored);
  if (cutter.tokens) rank_as_expected();
  if (shapes.size() > 1) work.emplace(open_search_folder(options, teacher, *text, shapes, stored));
  const bool measured = shapes.size() > 1 || !cuts_only_tokens(shapes.front(), teacher.config) || options.vocabulary.empty();
  if (measured) {
    const auto chunks = sampled();
    if (!decoder) decoder = load_decoder(cutter.teacher, parse_device(options.device));
    cutter.importance = measure_importance(*decoder, chunks, options.batch);
    result["block_influence"] = cutter.importance.layers;
    if (options.rank_layers == kLoss) result["layer_losses"] = cutter.importance.layers = layer_losses(*decoder, chunks, options.batch);
  }
  decoder.reset();
  StudentShape shape = shapes.front();
  Checkpoint student;
  if (shapes.size() > 1) {
    Ranking ranking = retrain_and_rank(cutter, shapes, *text, stored, retrain_options(options), &*work);
    shape = ranking.candidates.front().shape;
    student = std::move(ranking.best);
    result["search"] = ranking_json(ranking);
  } else {
    student = measured ? cutter.student(shape) : cutter.over(shape.vocabulary);
  }
  if (options.target.given()) result["chosen_by"] = shapes.size() > 1 ? "held-out KL" : "formula";
  if (!options.vocabulary.empty())
    result["corpus_tokens"]["student"] = count_tokens(read_ids(options, Tokenizer(student.tokenizer), text));
  if (measured)
    for (const auto& layer : cutter.plan(shape).layers) result["kept_layers"].push_back(layer.index);
  return student;
}

void print_result(const nlohmann::json& result) {
  if (result.contains("search"))
    print_ranking(result["search"]);
  else if (result.contains("chosen_by"))
    std::cout << "the shape is the formula's choice; nothing was retrained\n";
  const auto change = [&](const char* name) { return cat(name, " ", result["teacher_shape"][name], " -> ", result["shape"][name]); };
  std::cout << change("layers") << ", " << change("hidden") << ", " << change("ffn") << ", " << change("heads") << ", " << change("kv_heads") << "\n";
  const auto percent = [](double share) { return std::round(1000 * share) / 10; };
  if (result.contains("corpus_tokens")) {
    const auto before = result["corpus_tokens"]["teacher"].get<double>(), after = result["corpus_tokens"]["student"].get<double>();
    std::cout << change("vocabulary") << ", " << percent(after / before - 1) << " % more tokens for the same text\n";
  }
  std::cout << result["teacher_parameters"] << " -> " << result["parameters"] << " parameters ("
            << percent(result["share"].get<double>()) << " %), " << result["bytes"] << " bytes\n"
            << result["output"].get<std::string>() << "\n";
}

int run_prune(const PruneOptions& options) {
  refuse_overwriting("prune", {options.model.string(), options.data}, {options.output.string(), options.common.json});
  const Checkpoint teacher = open_checkpoint(options.model);
  HfOptions stored;
  stored.type = stored_type(options, teacher.config);
  if (options.vocabulary.empty()) {  // refused before any work
    const StudentShape asked = asked_shape(options, teacher.config, nullptr);
    (void)shapes_for(options, Cutter{teacher, {}, {}, {}}, teacher, asked, stored);
  }
  if (options.context > teacher.config.max_positions)
    fail("[prune] context ", options.context, ": the model can see only ", teacher.config.max_positions, " tokens");
  OutputFolder output(options.output);
  if (teacher.tokenizer.kind == TokenizerKind::kNone) fail("[prune] ", options.model.string(), " has no tokenizer");
  nlohmann::json result;
  std::optional<WorkFolder> work;
  const Checkpoint student = keeping(work, [&] { return cut(options, teacher, stored, work, result); });
  write_hf(student, output.folder(), stored);
  output.commit();
  std::error_code ignored;
  if (work) fs::remove_all(work->path(), ignored);

  const std::uint64_t before = parameter_count(teacher.config), after = parameter_count(student.config);
  result["output"] = options.output.string();
  result["bytes"] = hf_bytes(student, stored);
  result["teacher_parameters"] = before;
  result["parameters"] = after;
  result["share"] = static_cast<double>(after) / static_cast<double>(before);
  result["teacher_shape"] = shape_json(shape_of(teacher.config));
  result["shape"] = shape_json(shape_of(student.config));
  result["shape"]["kv_heads"] = student.config.kv_heads;
  result["teacher_shape"]["kv_heads"] = teacher.config.kv_heads;
  print_result(result);
  add_model(result, options.common, "model", options.model);
  add_model(result, options.common, "output", options.output);
  write_result(options.common, "prune", result);
  return kDone;
}

}  // namespace

void add_prune(CLI::App* sub) {
  auto options = std::make_shared<PruneOptions>();
  set_action(*sub, options->common, [options, sub] {
    check_prune_target(*sub, options->target);
    return run_prune(*options);
  });
  sub->add_option("model", options->model, "Model to cut from")->required();
  sub->add_option("-o,--output", options->output, "Folder for the student")->required();
  sub->add_option("--data", options->data, "Text on which importance is measured and tokens are counted: .txt, .jsonl or builtin:calibration")
      ->required();
  add_prune_target_options(*sub, options->target);
  sub->add_option("--vocabulary", options->vocabulary,
                  "Tokens to keep: bytes, special and added ones, then those that --data uses most, then those that the model expects "
                  "there; auto with a target");
  sub->add_option("--layers", options->shape.layers, "Layers to keep")->check(kPositive);
  sub->add_option("--keep-layers", options->keep_layers, "The layers to keep, by number from 0: 0,1,4")->delimiter(',');
  sub->add_option("--rank-layers", options->rank_layers,
                  "Which layers go first: those that change their input least (influence), or those without which --data loses least "
                  "(loss; takes half as many passes over the samples as there are layers)")
      ->check(CLI::IsMember({kInfluence, kLoss}))
      ->capture_default_str();
  sub->add_option("--ffn", options->shape.ffn, "Channels of the MLP to keep")->check(kPositive);
  sub->add_option("--heads", options->shape.heads, "Attention heads to keep, equally many in every key-value group that stays")
      ->check(kPositive);
  sub->add_option("--kv-heads", options->shape.kv_heads, "Key-value heads to keep, each with its query heads")->check(kPositive);
  sub->add_option("--hidden", options->shape.hidden, "Hidden channels to keep")->check(kPositive);
  const auto option = [sub](const char* name, auto& value, const char* help) {
    return sub->add_option(name, value, help)->capture_default_str();
  };
  option("--samples", options->samples, "Chunks of text to measure on")->check(kPositive);
  option("--context", options->context, "Tokens per chunk")->check(kPositive);
  option("--batch", options->batch, "Chunks at a time")->check(kPositive);
  sub->add_flag("--resume", options->resume,
                "Go on with an interrupted search, if there is one: candidates that were finished are not retrained");
  option("--device", options->device, "cpu, cuda or cuda:N");
  sub->add_option("--dtype", options->dtype, "Type of the weights written: f32, f16 or bf16; as the model's without it");
}

}  // namespace attar::cli
