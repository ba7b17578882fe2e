#include "eval/evaluate.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "base/console.h"
#include "base/files.h"
#include "base/text.h"
#include "convert/checkpoint.h"
#include "convert/vocabulary.h"
#include "datasets/corpus.h"
#include "datasets/vocabulary.h"
#include "eval/llama_reference.h"
#include "eval/measure.h"
#include "eval/score_task.h"
#include "eval/stored_reference.h"
#include "kernels_ref/activations.h"

namespace attar {
namespace {

// A checkpoint with what belongs to it; the weights are read when everything that can be refused has been.
struct Model {
  explicit Model(Checkpoint opened) : checkpoint(std::move(opened)), tokenizer(checkpoint.tokenizer) {}
  ModelSummary summary(const std::string& path) const {
    const ModelConfig& c = checkpoint.config;
    return {path,     checkpoint_hash(checkpoint), checkpoint.parameter_count(), checkpoint.tensor_bytes(),
            info(c.family).gguf, c.layers, c.hidden_size, c.vocab_size};
  }
  void warn_about_length(std::int64_t context) const {
    const std::int64_t trained = checkpoint.config.max_positions;
    if (trained > 0 && context > trained)
      warn(cat("eval: a context of ", context, " is more than the ", trained, " tokens ", checkpoint.path.string(),
               " was made for"));
  }

  Checkpoint checkpoint;
  Tokenizer tokenizer;
  std::unique_ptr<Predictor> predictor;
};

// How a quantized model is run, whether or not this one is: what is measured of both may be compared.
bool on_kernels(const EvalOptions& options) { return !options.floats && parse_device(options.device).is_cpu(); }

std::vector<Task> read_tasks(const EvalOptions& options) {
  std::vector<Task> tasks;
  std::set<std::string> names;
  for (const std::string& path : options.tasks) {
    tasks.push_back(read_task(path, options.asking));
    if (!names.insert(tasks.back().name).second)
      fail("eval: two tasks are called '", tasks.back().name, "'; say name = \"...\" in a task file");
  }
  return tasks;
}

std::int64_t scored_positions(const TextPlan& plan) {
  std::int64_t count = 0;
  for (const Sequence& s : plan.sequences) count += s.end - s.begin;
  return count;
}

// The text's tokens by the protocol asked for.
TextPlan plan_text(const EvalOptions& options, const Model& model, Protocol& protocol) {
  const std::int64_t vocab = model.checkpoint.config.vocab_size;
  const std::string text = read_source(options.data);
  protocol.name = options.protocol;
  protocol.data = options.data;
  protocol.data_hash = content_hash(as_bytes(text));
  protocol.bytes = static_cast<std::int64_t>(text.size());
  protocol.context = options.chunking.context;
  TextPlan plan;
  if (options.protocol == "rolling") {
    const bool one = fs::path(options.data).extension() != ".jsonl" && !options.data.starts_with("builtin:");
    const auto documents = one ? std::vector{text} : read_documents(options.data);
    plan = plan_rolling(documents, model.tokenizer, options.chunking, vocab, options.data);
    protocol.tokens = scored_positions(plan);
  } else {
    const Ids ids = tokenize_text(model.tokenizer, text, vocab, options.data);
    plan = plan_chunks(cut_chunks(ids, options.chunking, chunk_bos(model.tokenizer.data()), options.data), model.tokenizer);
    protocol.tokens = static_cast<std::int64_t>(ids.size());
  }
  protocol.chunks = static_cast<std::int64_t>(plan.sequences.size());
  return plan;
}

// In the order of measure().
std::vector<double> scored_bytes(const Tokenizer& tokenizer, const std::vector<Sequence>& sequences) {
  std::vector<double> bytes;
  for (const Sequence& s : sequences)
    for (std::int64_t p = s.begin; p < s.end; ++p)
      bytes.push_back(static_cast<double>(tokenizer.bytes_of(s.ids[static_cast<std::size_t>(p) + 1]).size()));
  return bytes;
}

// What the reference makes of the text by its own tokenizer.
void measure_whole_reference(const Model& whole, const EvalOptions& options, EvalResult& result) {
  Protocol own;
  const TextPlan plan = plan_text(options, whole, own);
  result.protocol.reference_tokens = own.tokens;
  result.divergence->reference_bits_per_byte =
      bits_per_byte(measure(*whole.predictor, {}, plan.sequences, "reference").nll, scored_bytes(whole.tokenizer, plan.sequences));
  // Its tokens are not the model's: what it loses at each is not the loss of the same bytes.
  for (const char* name : {"bits_per_byte.value", "byte_perplexity.value", "word_perplexity.value"}) result.reference_samples.erase(name);
}

// Whatever of the text the reference would read in another way is an error.
void require_comparable(const EvalOptions& options, const Model& model, const Model& reference) {
  const std::int64_t vocab = model.checkpoint.config.vocab_size, other = reference.checkpoint.config.vocab_size;
  if (vocab != other)
    fail("eval: the model's vocabulary has ", vocab, " entries, the reference's ", other, "; divergence needs one vocabulary");
  require_same_tokens(model.checkpoint.tokenizer, reference.checkpoint.tokenizer);
  // The same tokenizer may come from files that say it differently.
  if (reference.tokenizer.hash() == model.tokenizer.hash() || options.data.empty()) return;
  const std::string text = read_source(options.data);
  require_same_ids(tokenize_text(model.tokenizer, text, vocab, options.data),
                   tokenize_text(reference.tokenizer, text, other, options.data), model.tokenizer);
}

void require_comparable(const Model& model, const StoredReference& reference, const std::string& path) {
  const std::int64_t vocab = model.checkpoint.config.vocab_size;
  if (vocab != reference.model().vocab_size)
    fail("eval: the model's vocabulary has ", vocab, " entries, that of ", path, " ",
         reference.model().vocab_size, "; divergence needs one vocabulary");
  if (model.tokenizer.hash() != reference.protocol().tokenizer_hash)
    fail("eval: ", path, " was saved with another tokenizer (hash ", reference.protocol().tokenizer_hash, ") than the model's (",
         model.tokenizer.hash(), "); divergence needs the same tokens");
}

// --data beside a stored reference must be the text that it was saved from.
void require_same_text(const Protocol& asked, const Protocol& stored, const std::string& path) {
  const auto differ = [&](const char* what, const auto& ours, const auto& theirs) {
    if (ours != theirs)
      fail("eval: ", path, " was saved with ", what, " ", theirs, ", and ", ours, " is asked for now; leave --data out to measure on ",
           "its own text");
  };
  differ("protocol", asked.name, stored.name);
  differ("a text of hash", asked.data_hash, stored.data_hash);
  differ("a context of", asked.context, stored.context);
  differ("this many chunks:", asked.chunks, stored.chunks);
}

// The chunks of llama.cpp's file, read as the model's. It does not say which text and which tokenizer they came from: what can be
// checked is checked.
TextPlan plan_of(const LlamaReference& reference, const EvalOptions& options, const Model& model, const TextPlan& asked, Protocol& protocol) {
  const std::int64_t vocab = model.checkpoint.config.vocab_size, bos = chunk_bos(model.tokenizer.data());
  if (vocab != reference.vocab_size())
    fail("eval: the model's vocabulary has ", vocab, " entries, that of ", options.reference, " ", reference.vocab_size(),
         "; divergence needs one vocabulary");
  std::vector<Ids> chunks = reference.chunks();
  for (Ids& chunk : chunks)
    if (bos >= 0) chunk.front() = bos;
  TextPlan plan = plan_chunks(chunks, model.tokenizer);
  if (!options.data.empty()) {
    const bool same = protocol.name == "llama-perplexity" &&
                      std::equal(plan.sequences.begin(), plan.sequences.end(), asked.sequences.begin(), asked.sequences.end(),
                                 [](const Sequence& a, const Sequence& b) { return a.ids == b.ids; });
    if (!same)
      fail("eval: ", options.reference, " holds ", chunks.size(), " chunks of ", reference.context(), " tokens that are not those of ",
           options.data, "; give the text and --context that llama-perplexity read, or leave --data out");
    return plan;
  }
  warn(cat("eval: ", options.reference, " does not say which tokenizer made its tokens; give --data, the text, to have them checked"));
  protocol.data = options.reference;
  protocol.context = reference.context();
  protocol.chunks = static_cast<std::int64_t>(chunks.size());
  protocol.tokens = protocol.chunks * protocol.context;
  ByteWriter ids;
  for (const Ids& chunk : reference.chunks())
    for (const std::int64_t id : chunk) ids.write(id);
  protocol.data_hash = content_hash(ids.bytes());
  return plan;
}

void write_items(OutputFile& file, const Task& task, const std::vector<ItemScore>& scores) {
  for (std::size_t i = 0; i < scores.size(); ++i) {
    nlohmann::json line{{"task", task.name}, {"item", task.items[i].where}};
    if (task.kind == TaskKind::kGenerated) {
      line["generated"] = scores[i].generated;
    } else {
      for (const RequestScore& r : scores[i].requests) line["log_likelihood"].push_back(r.log_likelihood), line["greedy"].push_back(r.greedy);
      line["answer"] = answer(scores[i]), line["gold"] = task.items[i].gold;
    }
    file.write(line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  }
}

class TaskRunner {
 public:
  TaskRunner(const EvalOptions& options, const Model& model, const std::optional<Model>& reference, EvalResult& result)
      : options_(options), model_(model), reference_(reference), result_(result) {
    // Both models get as much of an item as either takes.
    context_ = window(model);
    if (reference) context_ = std::min(context_, window(*reference));
    if (!options.items.empty()) items_.emplace(options.items);
  }

  // Fills the samples under the names prefix + metric.
  TaskResult run(const Task& task, const std::string& prefix) {
    TaskResult summary{task.name, name_of(task.kind), task.hash(), static_cast<std::int64_t>(task.items.size()), task.shots, context_, options_.bos, {}};
    const AskOptions how{context_, options_.bos};
    const auto scores = score_task(*model_.predictor, model_.tokenizer, task, how);
    for (TaskMetric& metric : task_metrics(task, scores)) {
      summary.metrics.push_back(metric.name);
      result_.samples[prefix + metric.name] = std::move(metric.samples);
    }
    if (items_) write_items(*items_, task, scores);
    if (reference_)
      for (TaskMetric& metric : task_metrics(task, score_task(*reference_->predictor, reference_->tokenizer, task, how)))
        result_.reference_samples[prefix + metric.name] = std::move(metric.samples);
    return summary;
  }

  void finish() {
    if (items_) items_->commit();
  }

 private:
  static std::int64_t window(const Model& model) {
    const std::int64_t trained = model.checkpoint.config.max_positions;
    return trained > 0 ? trained : 2048;
  }

  const EvalOptions& options_;
  const Model& model_;
  const std::optional<Model>& reference_;
  EvalResult& result_;
  std::int64_t context_;
  std::optional<OutputFile> items_;
};

// The built-in items count by the choice's likelihood alone, as a task's acc.
void run_cloze(TaskRunner& runner, std::int64_t count, EvalResult& result) {
  const TaskResult task = runner.run(cloze_task(cloze_items(Split::kHeldout, count)), "cloze.");
  for (auto* samples : {&result.samples, &result.reference_samples}) {
    if (auto acc = samples->extract("cloze.acc")) {
      acc.key() = "cloze.accuracy";
      samples->insert(std::move(acc));
    }
    samples->erase("cloze.acc_norm");
    samples->erase("cloze.acc_bytes");
  }
  const std::vector<double>& right = result.samples.at("cloze.accuracy").sums;
  result.cloze = {share(std::count(right.begin(), right.end(), 1.0), task.items), task.items, task.hash};
}

// Plain groups meet floats: the decoder in floats says the same of them, and sooner where texts are read.
bool rounds_activations(const Checkpoint& checkpoint) {
  return std::any_of(checkpoint.tensors.begin(), checkpoint.tensors.end(),
                     [](const Tensor& tensor) { return tensor.shape.size() == 2 && default_rounding(tensor.type) != Rounding::kNone; });
}

std::unique_ptr<Predictor> load(const Model& model, const EvalOptions& options, const at::Device& device) {
  if (runs_on_kernels(model.checkpoint, device, options.floats) && rounds_activations(model.checkpoint)) return predictor(std::make_unique<Runner>(model.checkpoint));
  return predictor(load_decoder(model.checkpoint, device));
}

bool measures_cloze(const EvalOptions& options) { return options.data == "builtin:heldout" && options.cloze_items > 0; }

}  // namespace

Planned plan(const EvalOptions& options) {
  const bool llama = !options.reference.empty() && is_llama_reference(options.reference);
  const bool stored = llama || (!options.reference.empty() && is_reference_file(options.reference));
  if (options.data.empty() && !stored && options.tasks.empty())
    fail("eval: nothing to measure; give --data TEXT, --tasks FILE, or as --reference a file that --save-reference wrote");
  if (!options.save_reference.empty() && options.data.empty())
    fail("eval: --save-reference needs --data, the text to save the model's predictions on");
  if (!options.save_reference.empty() && !options.reference.empty())
    fail("eval: --save-reference writes what MODEL predicts; give it without --reference");
  if (!options.items.empty() && options.tasks.empty()) fail("eval: --items writes the scores of task items; give --tasks");
  Planned planned{.text = !options.data.empty() || stored,
                  .rolling = llama ? false : stored ? StoredReference(options.reference).protocol().name == "rolling" : options.protocol == "rolling",
                  .reference = !options.reference.empty(),
                  .cloze = measures_cloze(options),
                  .tasks_of_reference = !options.reference.empty() && !stored};
  for (const Task& task : read_tasks(options))
    for (const TaskMetric& metric : task_metrics(task, {})) planned.tasks[task.name].push_back(metric.name);
  return planned;
}

EvalResult evaluate(const EvalOptions& options, const Baseline* baseline) {
  const at::Device device = parse_device(options.device);
  const std::vector<Task> tasks = read_tasks(options);
  Model model(open_checkpoint(options.model));
  EvalResult result;
  result.model = model.summary(options.model);
  result.protocol.tokenizer_hash = model.tokenizer.hash(), result.protocol.packed = on_kernels(options);  // of tasks too
  TextPlan plan;
  if (!options.data.empty()) plan = plan_text(options, model, result.protocol);

  // Whatever can be refused is refused before weights are read.
  std::optional<Model> reference, whole;  // whole: the reference, if the model's vocabulary is a part of its own
  std::unique_ptr<ReferenceScores> file;
  if (!options.reference.empty() && is_llama_reference(options.reference)) {
    auto stored = std::make_unique<LlamaReference>(options.reference);
    plan = plan_of(*stored, options, model, plan, result.protocol);
    result.reference = ModelSummary{.path = options.reference, .hash = stored->hash(), .vocab_size = stored->vocab_size()};
    result.stored_reference = true;
    file = std::move(stored);
  } else if (!options.reference.empty() && is_reference_file(options.reference)) {
    auto stored = std::make_unique<StoredReference>(options.reference);
    require_comparable(model, *stored, options.reference);
    if (!options.data.empty()) require_same_text(result.protocol, stored->protocol(), options.reference);
    else result.protocol = stored->protocol(), result.protocol.packed = on_kernels(options);
    plan = stored->plan();
    result.reference = stored->model(), result.stored_reference = true;
    file = std::move(stored);
  } else if (!options.reference.empty()) {
    Checkpoint other = open_checkpoint(options.reference);
    const auto kept = model.checkpoint.config.vocab_size < other.config.vocab_size
                          ? ids_within(model.checkpoint.tokenizer, other.tokenizer)
                          : std::nullopt;
    if (kept) whole.emplace(std::exchange(other, select_tokens(other, *kept)));
    reference.emplace(std::move(other));
    require_comparable(options, model, *reference);
    reference->warn_about_length(result.protocol.context);
    result.reference = (whole ? *whole : *reference).summary(options.reference);
  }
  result.protocol.scored = scored_positions(plan);
  if (baseline != nullptr && !whole) baseline->require_comparable(result);  // with whole, its own tokens are to be counted first
  if (reference) reference->predictor = load(*reference, options, device);
  model.warn_about_length(result.protocol.context);
  model.predictor = load(model, options, device);

  if (!plan.sequences.empty()) {
    std::vector<Bytes> encoded;
    const Against against{.model = reference ? reference->predictor.get() : nullptr,
                          .stored = file.get(),
                          .encoded = options.save_reference.empty() ? nullptr : &encoded};
    TokenScores scores = measure(*model.predictor, against, plan.sequences, "eval");
    scores.bytes = scored_bytes(model.tokenizer, plan.sequences);
    summarise(std::move(scores), result, plan);
    result.breakdown = break_down(plan, result.scores, model.tokenizer, options.worst);
    if (against.encoded != nullptr) write_reference(options.save_reference, result.model, result.protocol, plan, encoded);
  }
  if (whole) {
    reference.reset();  // tasks are for the whole one
    whole->predictor = load(*whole, options, device);
    if (!plan.sequences.empty()) measure_whole_reference(*whole, options, result);
  }
  TaskRunner runner(options, model, whole ? whole : reference, result);
  if (measures_cloze(options)) run_cloze(runner, options.cloze_items, result);
  for (const Task& task : tasks) result.tasks.push_back(runner.run(task, cat("tasks.", task.name, ".")));
  runner.finish();
  return result;
}

}  // namespace attar
