#include "quantize/pipeline.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>

#include "base/console.h"
#include "base/error.h"
#include "base/text.h"
#include "base/threads.h"
#include "datasets/corpus.h"
#include "quantize/autoround.h"
#include "quantize/hqq.h"
#include "quantize/matrix_loss.h"
#include "quantize/memory.h"
#include "quantize/output_metric.h"
#include "quantize/report.h"
#include "quantize/round.h"
#include "quantize/shared_inputs.h"
#include "quantize/streams.h"
#include "quantize/tensors.h"
#include "quantize/work_folder.h"

namespace attar {
namespace {

constexpr const char *kEmbedding = "model.embed_tokens.weight", *kHead = "lm_head.weight";
constexpr const char* kRowGradients = "model.embed_tokens";  // among metrics: of columns, not of rows as the others are

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

class Pipeline {
 public:
  Pipeline(const Checkpoint& model, const QuantizeOptions& options, QuantizeReport& report)
      : model_(model), options_(options), report_(report) {
    report_.tensors = planned(model, options);
    for (std::size_t i = 0; i < report_.tensors.size(); ++i) index_[report_.tensors[i].plan.name] = i;
  }

  Checkpoint run() {
    check_vectors(model_);
    const bool gptq = options_.method == Method::kGptq, calibrated = !options_.calibration.empty();
    const auto length = calibrated ? static_cast<std::int64_t>(options_.calibration.front().size()) : 0;
    check_memory(model_.config, options_);
    check_importance(options_, report_.tensors);
    if (!options_.folder.empty()) folder_.emplace(options_.folder, run_identity(model_, options_), options_.resume);
    const OneTorchThread one_thread;
    const at::NoGradGuard no_grad;
    if (calibrated) {
      report_.calibration_tokens = length * static_cast<std::int64_t>(options_.calibration.size());
      streams_.emplace(model_, options_.calibration,
                       StreamsOptions{.with_original = true, .targets = gptq && options_.corrected_target, .again = options_.autoround, .folder = options_.folder});
    }
    if (options_.fisher) measure_outputs();
    Progress progress(name_of(options_.method), report_.tensors.size(), "tensors");
    for (const Part& part : parts()) {
      if (restore(part)) {
        progress.skip(part.tensors.size());
        continue;
      }
      if (calibrated) ready_streams(part);
      nlohmann::json notes;
      if (!calibrated)
        for (const std::string& name : part.tensors) round_by(name, importance_of(options_, entry(name).plan)), progress.advance(1, name);
      else if (part.layer >= 0)
        calibrate_layer(part.layer, notes, progress);
      else
        calibrate_table(part.tensors.front(), progress);
      finish(part, std::move(notes));
    }
    return with_tensors(done_);
  }

 private:
  Checkpoint with_tensors(const std::map<std::string, Tensor>& rounded) const {
    Checkpoint result = model_;
    for (Tensor& tensor : result.tensors)
      if (const auto found = rounded.find(tensor.name); found != rounded.end()) tensor = found->second;
    return result;
  }

  // What is finished, and kept, together: a table, or the matrices of a layer.
  struct Part {
    std::string name;
    std::int64_t layer = -1;
    std::vector<std::string> tensors;
  };
  std::vector<Part> parts() const {
    std::vector<Part> parts;
    for (const TensorReport& tensor : report_.tensors) {
      const std::int64_t layer = tensor.plan.layer;
      if (layer < 0 || parts.empty() || parts.back().layer != layer)
        parts.push_back({layer < 0 ? tensor.plan.gguf_name : cat("layer-", layer), layer, {}});
      parts.back().tensors.push_back(tensor.plan.name);
    }
    return parts;
  }

  // What the outputs of linears and rows of the embedding mean; in the folder, one part per layer and one for the embedding, if there is one.
  static std::string metric_part(std::int64_t layer) { return layer < 0 ? "embedding-metric" : cat("output-metric-", layer); }
  void measure_outputs() {
    if (folder_ && folder_->find(metric_part(-1))) return;  // the last that is measured
    nlohmann::json before;
    for (std::int64_t layer = 0; folder_ && before.is_null() && layer < model_.config.layers; ++layer)
      if (const auto part = folder_->find(metric_part(layer))) before = part->notes;
    const auto keep = [&](std::int64_t layer, std::map<std::string, at::Tensor> metrics, const nlohmann::json& reached) {
      if (!folder_) return metrics_.merge(metrics);
      std::map<std::string, QuantizedTensor> kept;
      for (const auto& [name, A] : metrics) kept.emplace(name, kept_floats(A.sizes().vec(), {A.data_ptr<float>(), static_cast<std::size_t>(A.numel())}));
      folder_->store(metric_part(layer), kept, reached);
    };
    keep(-1, {{kRowGradients, measure_output_metrics(model_, options_.calibration, options_.seed, options_.folder, keep, before)}}, {});
  }
  // layer: -1: of the embedding.
  void load_metrics(std::int64_t layer) {
    if (!folder_ || !options_.fisher) return;
    metrics_.clear();
    const auto part = folder_->find(metric_part(layer));
    if (!part)
      throw ResumeError(cat("cannot resume: ", metric_part(layer), " in ", options_.folder.string(), " is missing; remove the folder to start again"));
    for (const Tensor& tensor : part->tensors) metrics_.emplace(tensor.name, read_tensor(tensor));
  }

  // Takes what an earlier run has finished.
  bool restore(const Part& part) {
    const auto found = folder_ ? folder_->find(part.name) : std::nullopt;
    if (!found) return false;
    for (const Tensor& tensor : found->tensors) done_.insert_or_assign(tensor.name, tensor);
    for (const std::string& name : part.tensors) {
      if (!done_.contains(name) || !found->notes["tensors"].contains(name))
        throw ResumeError(cat("cannot resume: ", part.name, " in ", options_.folder.string(), " lacks ", name,
                              "; remove the folder to start again"));
      read_outcome(found->notes["tensors"][name], entry(name));
    }
    take_notes(found->notes);
    sealed_ = found->notes.value("hidden", "");
    streams_ready_ = false;
    return true;
  }

  void take_notes(const nlohmann::json& notes) {
    if (notes.contains("layer_error")) report_.layer_error.push_back(notes["layer_error"]);
    if (notes.contains("autoround"))
      for (const auto& half : notes["autoround"]) report_.autoround.push_back({half.at("before"), half.at("after")});
  }

  void finish(const Part& part, nlohmann::json notes) {
    take_notes(notes);
    if (!folder_) {
      for (auto& [name, Q] : fresh_) done_.insert_or_assign(name, make_tensor(name, std::move(Q)));
      return fresh_.clear();
    }
    for (const std::string& name : part.tensors) notes["tensors"][name] = outcome(entry(name));
    if (streams_ && part.tensors.front() != kHead) notes["hidden"] = streams_->seal();
    folder_->store(part.name, fresh_, notes);
    fresh_.clear();
    const auto stored = folder_->find(part.name);
    for (const Tensor& tensor : stored->tensors) done_.insert_or_assign(tensor.name, tensor);
  }

  // Hidden states as they come to `part`.
  void ready_streams(const Part& part) {
    if (!streams_ready_ && part.tensors.front() != kEmbedding)
      streams_->resume(part.layer >= 0 ? part.layer : model_.config.layers, sealed_);
    streams_ready_ = true;
  }

  TensorReport& entry(const std::string& name) { return report_.tensors[index_.at(name)]; }

  const QuantizedTensor& take(const std::string& name, QuantizedTensor Q) {
    TensorReport& tensor = entry(name);
    tensor.vanished = vanished(Q, model_.at(name));
    if (tensor.vanished && options_.strict) fail("quantize: ", vanished_message(tensor.plan));
    return fresh_.insert_or_assign(name, std::move(Q)).first->second;
  }

  // Round to nearest, straight from the file.
  const QuantizedTensor& round(const std::string& name, const std::vector<float>& importance) {
    const auto start = Clock::now();
    TensorReport& tensor = entry(name);
    if (options_.method == Method::kHqq && info(tensor.plan.got).quantized) {
      HqqResult result = hqq(tensor.plan.got, model_.at(name));
      tensor.method = "hqq";
      tensor.weight_error = result.weight_error;
      tensor.lp_error_before = result.norm_before;
      tensor.lp_error = result.norm_after;
      tensor.clipped = loss_of(result.Q, read_tensor(model_.at(name))).clipped;
      tensor.seconds = seconds_since(start);
      return take(name, std::move(result.Q));
    }
    RtnResult result = rtn(tensor.plan.got, model_.at(name), importance);
    tensor.method = rounding_name(tensor.plan.got, importance);
    tensor.weight_error = result.weight_error;
    tensor.clipped = result.clipped;
    tensor.seconds = seconds_since(start);
    return take(name, std::move(result.Q));
  }

  const QuantizedTensor& round_by(const std::string& name, std::vector<float> importance) {
    check_inputs(importance, name);
    report_dead_columns(entry(name), lift_dead_columns(importance), options_.strict);
    return round(name, importance);
  }

  // Inputs taken from the layers before as they are after quantization.
  void calibrate_layer(std::int64_t layer, nlohmann::json& notes, Progress& progress) {
    load_metrics(layer);
    for (const Half half : {Half::kAttention, Half::kMlp}) {
      streams_->enter(layer, half);
      const std::vector<std::string> names = streams_->linear_weights();
      for (const auto& together : groups(names)) options_.method == Method::kGptq ? solve(together, progress) : weigh(together, progress);
      if (options_.autoround) learn(names, notes);
      const double error = streams_->leave();
      if (half != Half::kMlp) continue;
      notes["layer_error"] = error;
      judge_layer_error(layer, error, options_.strict);
    }
  }

  // AutoRound, from what the half's matrices are rounded to.
  void learn(const std::vector<std::string>& names, nlohmann::json& notes) {
    const auto start = Clock::now();
    std::map<std::string, at::Tensor> W;
    std::map<std::string, QuantizedTensor> Q;
    for (const std::string& name : names) {
      if (!worth_solving(name)) continue;
      Q.emplace(name, fresh_.at(name));
      W.emplace(name, options_.method == Method::kGptq ? decoded(fresh_.at(name)) : read_tensor(model_.at(name)));
    }
    if (Q.empty()) return;
    streams_->lead();
    const auto metric = metrics_.find(names.back());  // of what is added to the residual stream
    const bool known = metric != metrics_.end() && !model_.config.post_norms;
    const AutoRoundResult result = autoround(*streams_, W, Q, known ? metric->second : at::Tensor(), options_.rounding, options_.seed);
    notes["autoround"].push_back({{"before", result.before}, {"after", result.after}});
    for (auto& [name, q] : Q) {
      entry(name).seconds += seconds_since(start) / static_cast<double>(Q.size());
      fresh_.insert_or_assign(name, std::move(q));
    }
    for (const auto& together : groups(names)) {
      const at::Tensor XtX = streams_->input_sums(together.front()).XtX;
      for (const std::string& name : together)
        if (Q.contains(name)) look_again(entry(name), "autoround", loss_of(fresh_.at(name), read_tensor(model_.at(name)), XtX));
    }
  }

  // The inputs of an output head are the last hidden states: those of the original, which is run once ahead, if the head is the embedding
  // too. What the rows of an embedding are good for is known from the gradients behind it, or not at all: then nearest is best for one alone.
  void calibrate_table(const std::string& name, Progress& progress) {
    const bool head = name == kHead || !index_.contains(kHead);
    if (options_.method == Method::kGptq && worth_solving(name) && (head || options_.fisher))
      quantize_one(name, read_tensor(model_.at(name)),
                   make_curvature(name == kHead ? streams_->final_sums() : head ? tied_sums() : embedding_sums(), options_.gptq, name));
    else if (name == kHead)
      weigh(name, read_tensor(model_.at(name)), streams_->final_sums().XtX);
    else
      round(name, {});
    if (name == kEmbedding) {
      streams_->start(make_tensor(name, fresh_.at(name)));
      progress.skip(1);  // says nothing about how long layers take
    } else {
      progress.advance(1, name);
    }
  }

  // A row is off by e where it is looked up, and where its logit is e x off: the token is met as often as it is predicted, so that both sums
  // weigh alike.
  InputSums tied_sums() {
    InputSums sums = original_final_sums();
    if (options_.fisher) sums.XtX.add_(embedding_sums().XtX);
    return sums;
  }

  InputSums embedding_sums() {
    load_metrics(-1);
    return {metrics_.at(kRowGradients), {}, {}};
  }

  InputSums original_final_sums() {
    const fs::path folder = options_.folder.empty() ? fs::path() : options_.folder / "ahead";
    if (!folder.empty()) fs::create_directories(folder);
    Streams streams(model_, options_.calibration, {.folder = folder});
    Progress progress("original ahead", static_cast<std::uint64_t>(model_.config.layers), "layers");
    streams.start(model_.at(kEmbedding));
    for (std::int64_t layer = 0; layer < model_.config.layers; ++layer) {
      for (const Half half : {Half::kAttention, Half::kMlp}) {
        streams.enter(layer, half);
        streams.leave();
      }
      progress.advance(1);
    }
    InputSums sums = streams.final_sums();
    std::error_code ignored;
    if (!folder.empty()) fs::remove_all(folder, ignored);
    return sums;
  }

  std::vector<std::vector<std::string>> groups(const std::vector<std::string>& names) {
    return sharing_inputs(names, [&](const std::string& name) { return entry(name).plan.role; });
  }

  // What 8 bits lose nobody can measure.
  bool worth_solving(const std::string& name) {
    const TypeInfo& type = info(entry(name).plan.got);
    return type.quantized && type.grid.levels < 256;
  }

  void weigh(const std::vector<std::string>& names, Progress& progress) {
    const at::Tensor XtX = streams_->input_sums(names.front()).XtX;
    for (const std::string& name : names) {
      streams_->replace(name, decoded(weigh(name, streams_->weight(name), XtX)));
      progress.advance(1, name);
    }
  }

  const QuantizedTensor& weigh(const std::string& name, const at::Tensor& W, const at::Tensor& XtX) {
    const at::Tensor mean_squares = (XtX.diagonal() / static_cast<double>(report_.calibration_tokens)).contiguous();
    const float* begin = mean_squares.data_ptr<float>();
    const QuantizedTensor& Q = round_by(name, {begin, begin + mean_squares.numel()});
    TensorReport& tensor = entry(name);
    if (!info(Q.type).quantized) return Q;
    const auto start = Clock::now();
    tensor.output_error = loss_of(Q, W, XtX).output_error;
    tensor.seconds += seconds_since(start);
    return Q;
  }

  void solve(const std::vector<std::string>& names, Progress& progress) {
    const auto start = Clock::now();
    std::optional<Curvature> curvature;
    for (const std::string& name : names) {
      TensorReport& tensor = entry(name);
      if (!info(tensor.plan.got).quantized) {
        streams_->replace(name, decoded(round(name, {})));
        progress.advance(1, name);
        continue;
      }
      if (!curvature) {
        curvature = make_curvature(streams_->input_sums(name), options_.gptq, name);
        tensor.seconds = seconds_since(start);  // counted where it was needed first
      }
      quantize_one(name, streams_->weight(name), *curvature);
      streams_->replace(name, decoded(fresh_.at(name)));
      progress.advance(1, name);
    }
  }

  void quantize_one(const std::string& name, const at::Tensor& W, const Curvature& curvature) {
    const auto start = Clock::now();
    TensorReport& tensor = entry(name);
    if (options_.strict && curvature.damping_raises > 0)
      fail("gptq: the Hessian of ", name, " needed damping ", curvature.damping, " instead of ", options_.gptq.damping,
           "; give more calibration text or --damp ", curvature.damping);
    report_dead_columns(tensor, curvature.dead_columns, options_.strict);
    const auto metric = metrics_.find(name);
    GptqResult result = gptq(tensor.plan.got, W, curvature, options_.gptq, name, metric == metrics_.end() ? at::Tensor() : metric->second);
    tensor.method = "gptq";
    tensor.weight_error = result.weight_error;
    tensor.output_error = tensor.gptq_error = result.output_error;
    tensor.rounded_error = result.rounded_error;
    tensor.clipped = result.clipped;
    tensor.damping = curvature.damping;
    tensor.damping_raises = curvature.damping_raises;
    take(name, std::move(result.Q));
    tensor.seconds += seconds_since(start);
  }

  const Checkpoint& model_;
  const QuantizeOptions& options_;
  QuantizeReport& report_;
  std::map<std::string, std::size_t> index_;
  std::optional<WorkFolder> folder_;
  std::optional<Streams> streams_;
  bool streams_ready_ = true;
  std::string sealed_;                           // hash of the hidden states behind the last part restored
  std::map<std::string, at::Tensor> metrics_;    // A of linears: of the layer, or without a folder of all
  std::map<std::string, QuantizedTensor> fresh_; // of the part being worked on
  std::map<std::string, Tensor> done_;
};

}  // namespace

Checkpoint quantize(const Checkpoint& model, const QuantizeOptions& options, QuantizeReport& report) {
  if (options.method == Method::kHqq && !options.calibration.empty()) fail("hqq: looks at weights only and takes no calibration text");
  if (options.method == Method::kGptq && options.calibration.empty())
    fail("gptq: needs calibration text; give --calibration FILE or --calibration builtin:calibration");
  if (options.method == Method::kGptq && !info(options.plan.preset->type).quantized && options.plan.overrides.empty())
    fail("gptq: ", options.plan.preset->name, " only converts, there is nothing to choose; use --method rtn");
  report = {};
  const auto start = Clock::now();
  Checkpoint result = Pipeline(model, options, report).run();
  report.seconds = seconds_since(start);
  return result;
}

}  // namespace attar
