#include "quantize/pipeline.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>

#include "base/console.h"
#include "base/error.h"
#include "base/text.h"
#include "base/threads.h"
#include "quantize/hqq.h"
#include "quantize/memory.h"
#include "quantize/output_metric.h"
#include "quantize/streams.h"
#include "quantize/tensors.h"
#include "quantize/work_folder.h"

namespace attar {
namespace {

constexpr const char *kEmbedding = "model.embed_tokens.weight", *kHead = "lm_head.weight";

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::string hash_of(const std::vector<Ids>& chunks) {
  ContentHash hash;
  for (const Ids& chunk : chunks) hash.add(ByteView(std::as_bytes(std::span(chunk))));
  return hash.hex();
}

std::string hash_of(const ImportanceMatrix& matrix) {
  ContentHash hash;
  for (const auto& [name, entry] : matrix.entries) {
    hash.add(name);
    hash.add(ByteView(std::as_bytes(std::span(entry.sums))));
  }
  return hash.hex();
}

// Everything that decides the bytes, under the names of the command line.
nlohmann::json run_identity(const Checkpoint& model, const QuantizeOptions& options) {
  const PlanOptions& plan = options.plan;
  nlohmann::json overrides = nlohmann::json::array(), assigned = nlohmann::json::object();
  for (const TypeOverride& one : plan.overrides) overrides.push_back(one.text);
  for (const auto& [name, type] : plan.assigned) assigned[name] = info(type).name;
  return {{"--type", plan.preset->name},
          {"--pure", plan.pure},
          {"--override", std::move(overrides)},
          {"the choice of types", std::move(assigned)},
          {"--method", cat(options.rotated ? "rotate+" : "", options.scaled ? "awq+" : "", name_of(options.method))},
          {"--damp", options.gptq.damping},
          {"--no-act-order", !options.gptq.act_order},
          {"--no-correction", !options.corrected_target},
          {"--fisher-samples", options.fisher_samples},
          {"--strict", options.strict},
          {"--samples", options.calibration.size()},
          {"--context", options.calibration.empty() ? 0 : options.calibration.front().size()},
          {"the calibration text", hash_of(options.calibration)},
          {"--imatrix", options.importance ? hash_of(*options.importance) : ""},
          {"the model", checkpoint_hash(model)}};
}

// What was measured of a tensor, and back.
nlohmann::json outcome(const TensorReport& tensor) {
  nlohmann::json one = {{"method", tensor.method}, {"weight_error", tensor.weight_error}, {"seconds", tensor.seconds}};
  if (tensor.output_error >= 0) one["output_error"] = tensor.output_error;
  if (tensor.clipped >= 0) one["clipped"] = tensor.clipped;
  if (tensor.lp_error >= 0) one.update({{"lp_error_before", tensor.lp_error_before}, {"lp_error", tensor.lp_error}});
  if (tensor.method == "gptq")
    one.update({{"damping", tensor.damping}, {"damping_raises", tensor.damping_raises}, {"dead_columns", tensor.dead_columns}});
  return one;
}

void read_outcome(const nlohmann::json& from, TensorReport& tensor) {
  tensor.method = from.at("method");
  tensor.weight_error = from.at("weight_error");
  tensor.seconds = from.at("seconds");
  tensor.output_error = from.value("output_error", -1.0);
  tensor.clipped = from.value("clipped", -1.0);
  tensor.lp_error_before = from.value("lp_error_before", -1.0);
  tensor.lp_error = from.value("lp_error", -1.0);
  tensor.damping = from.value("damping", 0.0);
  tensor.damping_raises = from.value("damping_raises", 0);
  tensor.dead_columns = from.value("dead_columns", std::int64_t{0});
}

class Pipeline {
 public:
  Pipeline(const Checkpoint& model, const QuantizeOptions& options, QuantizeReport& report)
      : model_(model), options_(options), report_(report) {
    for (TensorPlan& entry : plan_types(model, options.plan)) {
      report_.tensors.push_back({std::move(entry)});
      TensorReport& tensor = report_.tensors.back();
      if (!tensor.plan.reason.empty() && options.strict)
        fail("quantize: ", tensor.plan.name, " cannot be ", info(tensor.plan.asked).name, ": ", tensor.plan.reason,
             "; give another --type, --override '", tensor.plan.gguf_name, "=", info(tensor.plan.got).name,
             "', or leave out --strict to take that");
    }
    for (std::size_t i = 0; i < report_.tensors.size(); ++i) index_[report_.tensors[i].plan.name] = i;
  }

  Checkpoint run() {
    check_vectors();
    const bool gptq = options_.method == Method::kGptq, calibrated = !options_.calibration.empty();
    const auto length = calibrated ? static_cast<std::int64_t>(options_.calibration.front().size()) : 0;
    check_memory(model_.config, options_);
    if (!options_.folder.empty()) folder_.emplace(options_.folder, run_identity(model_, options_), options_.resume);
    const OneTorchThread one_thread;
    const at::NoGradGuard no_grad;
    if (calibrated) {
      report_.calibration_tokens = length * static_cast<std::int64_t>(options_.calibration.size());
      streams_.emplace(model_, options_.calibration, StreamsOptions{gptq && options_.corrected_target, options_.folder});
    }
    if (gptq && options_.fisher_samples > 0) measure_outputs();
    Progress progress(name_of(options_.method), report_.tensors.size(), "tensors");
    for (const Part& part : parts()) {
      if (restore(part)) {
        progress.skip(part.tensors.size());
        continue;
      }
      if (calibrated) ready_streams(part);
      nlohmann::json notes;
      if (!calibrated)
        for (const std::string& name : part.tensors) round(name, importance_of(entry(name).plan)), progress.advance(1, name);
      else if (part.layer >= 0)
        calibrate_layer(part.layer, notes, progress);
      else
        calibrate_table(part.tensors.front(), progress);
      finish(part, std::move(notes));
    }
    Checkpoint result = model_;
    for (Tensor& tensor : result.tensors)
      if (const auto found = done_.find(tensor.name); found != done_.end()) tensor = found->second;
    return result;
  }

 private:
  // Biases and norms stay as they are, but must be numbers.
  void check_vectors() const {
    for (const Tensor& tensor : model_.tensors)
      if (tensor.shape.size() < 2) check_finite(read_floats(tensor), tensor.columns(), tensor.name);
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

  // What the outputs of linears mean, from the folder if an earlier run has measured it.
  void measure_outputs() {
    constexpr const char* kPart = "output-metric";
    if (const auto found = folder_ ? folder_->find(kPart) : std::nullopt) {
      for (const Tensor& tensor : found->tensors) metrics_.emplace(tensor.name, read_tensor(tensor));
      return;
    }
    std::vector<Ids> chunks = options_.calibration;
    chunks.resize(std::min(chunks.size(), static_cast<std::size_t>(options_.fisher_samples)));
    metrics_ = measure_output_metrics(model_, chunks, 0, options_.folder);
    if (!folder_) return;
    std::map<std::string, QuantizedTensor> kept;
    for (const auto& [name, V] : metrics_) {
      const at::Tensor whole = V.contiguous();
      const auto* bytes = static_cast<const std::byte*>(whole.data_ptr());
      kept.emplace(name, QuantizedTensor{Type::kF32, whole.sizes().vec(), Bytes(bytes, bytes + whole.nbytes())});
    }
    folder_->store(kPart, kept, nlohmann::json::object());
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
    if (found->notes.contains("layer_error")) report_.layer_error.push_back(found->notes["layer_error"]);
    sealed_ = found->notes.value("hidden", "");
    streams_ready_ = false;
    return true;
  }

  void finish(const Part& part, nlohmann::json notes) {
    if (notes.contains("layer_error")) report_.layer_error.push_back(notes["layer_error"]);
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

  // Round to nearest, straight from the file.
  const QuantizedTensor& round(const std::string& name, std::span<const float> importance) {
    const auto start = Clock::now();
    TensorReport& tensor = entry(name);
    if (options_.method == Method::kHqq && info(tensor.plan.got).quantized) {
      HqqResult result = hqq(tensor.plan.got, model_.at(name));
      tensor.method = "hqq";
      tensor.weight_error = result.weight_error;
      tensor.lp_error_before = result.norm_before;
      tensor.lp_error = result.norm_after;
      tensor.seconds = seconds_since(start);
      return fresh_.insert_or_assign(name, std::move(result.Q)).first->second;
    }
    RtnResult result = rtn(tensor.plan.got, model_.at(name), importance);
    tensor.method = !info(tensor.plan.got).quantized ? "convert" : importance.empty() ? "rtn" : "rtn+importance";
    tensor.weight_error = result.weight_error;
    tensor.seconds = seconds_since(start);
    return fresh_.insert_or_assign(name, std::move(result.Q)).first->second;
  }

  // From the importance matrix, if there is one: mean squares, by column.
  std::vector<float> importance_of(const TensorPlan& plan) const {
    if (!options_.importance) return {};
    const auto& entries = options_.importance->entries;
    const auto found = entries.find(plan.gguf_name);
    if (found == entries.end()) {
      // Nothing is known of what an embedding is multiplied with; llama-imatrix leaves out the head as well.
      if (plan.layer >= 0 && info(plan.got).quantized)
        fail("quantize: the importance matrix has nothing on ", plan.gguf_name, "; it was made from another model");
      return {};
    }
    if (static_cast<std::int64_t>(found->second.sums.size()) != plan.shape.back())
      fail("quantize: the importance matrix has ", found->second.sums.size(), " columns for ", plan.gguf_name, ", the model ",
           plan.shape.back(), "; it was made from another model");
    std::vector<float> mean = found->second.sums;
    for (float& value : mean) value = static_cast<float>(value / found->second.tokens);
    return mean;
  }

  // Inputs taken from the layers before as they are after quantization.
  void calibrate_layer(std::int64_t layer, nlohmann::json& notes, Progress& progress) {
    for (const Half half : {Half::kAttention, Half::kMlp}) {
      streams_->enter(layer, half);
      const std::vector<std::string> names = streams_->linear_weights();
      for (auto begin = names.begin(); begin != names.end();) {
        const int input = input_of(entry(*begin).plan.role);
        const auto end = std::find_if(begin, names.end(), [&](const std::string& name) {
          return input_of(entry(name).plan.role) != input;
        });
        const std::vector<std::string> together(begin, end);
        options_.method == Method::kGptq ? solve(together, progress) : weigh(together, progress);
        begin = end;
      }
      const double error = streams_->leave();
      if (half == Half::kMlp && options_.method == Method::kGptq && options_.corrected_target) notes["layer_error"] = error;
    }
  }

  // A tied embedding is the output head too: there its inputs are the last hidden states, for which the original model is run
  // once ahead. As an embedding alone, each row is what it is, and nearest is best.
  void calibrate_table(const std::string& name, Progress& progress) {
    const bool head = name == kHead || !index_.contains(kHead), gptq = options_.method == Method::kGptq;
    if (head && gptq && worth_solving(name))
      quantize_one(name, read_tensor(model_.at(name)),
                   make_curvature(name == kHead ? streams_->final_sums() : original_final_sums(), options_.gptq, name));
    else
      round(name, name == kHead ? streams_->final_mean_squares() : std::vector<float>());
    if (name == kEmbedding) {
      streams_->start(make_tensor(name, fresh_.at(name)));
      progress.skip(1);  // says nothing about how long layers take
    } else {
      progress.advance(1, name);
    }
  }

  InputSums original_final_sums() {
    Streams streams(model_, options_.calibration, {});
    Progress progress("original ahead", static_cast<std::uint64_t>(model_.config.layers), "layers");
    streams.start(model_.at(kEmbedding));
    for (std::int64_t layer = 0; layer < model_.config.layers; ++layer) {
      for (const Half half : {Half::kAttention, Half::kMlp}) {
        streams.enter(layer, half);
        streams.leave();
      }
      progress.advance(1);
    }
    return streams.final_sums();
  }

  // What 8 bits lose nobody can measure.
  bool worth_solving(const std::string& name) {
    const TypeInfo& type = info(entry(name).plan.got);
    return type.quantized && type.grid.levels < 256;
  }

  void weigh(const std::vector<std::string>& names, Progress& progress) {
    const std::vector<float> importance = streams_->mean_squares(names.front());
    for (const std::string& name : names) {
      streams_->replace(name, decoded(round(name, importance)));
      progress.advance(1, name);
    }
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
    if (options_.strict && curvature.dead_columns > 0)
      fail("gptq: no calibration token reaches ", curvature.dead_columns, " of the ", curvature.order.size(),
           " columns of ", name, "; give more calibration text, or leave out --strict to round them to nearest");
    const auto metric = metrics_.find(name);
    GptqResult result = gptq(tensor.plan.got, W, curvature, options_.gptq, name, metric == metrics_.end() ? at::Tensor() : metric->second);
    tensor.method = "gptq";
    tensor.weight_error = result.weight_error;
    tensor.output_error = result.output_error;
    tensor.clipped = result.clipped;
    tensor.damping = curvature.damping;
    tensor.damping_raises = curvature.damping_raises;
    tensor.dead_columns = curvature.dead_columns;
    fresh_.insert_or_assign(name, std::move(result.Q));
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
  std::map<std::string, at::Tensor> metrics_;    // V of every linear
  std::map<std::string, QuantizedTensor> fresh_; // of the part being worked on
  std::map<std::string, Tensor> done_;
};

}  // namespace

void check_memory(const ModelConfig& config, const QuantizeOptions& options) {
  if (options.calibration.empty() || options.max_memory == 0) return;
  const auto length = static_cast<std::int64_t>(options.calibration.front().size());
  const bool metric = options.method == Method::kGptq && options.fisher_samples > 0;
  const std::uint64_t needed = (metric ? metric_memory : calibrated_memory)(config, length, thread_count()) +
                               (options.rotated ? rotated_memory(config) : 0);
  if (needed > options.max_memory)
    fail("quantize: --max-memory allows ", size_text(options.max_memory), ", calibrating this model may take ", size_text(needed),
         " with ", thread_count(), " threads; allow that much, or give fewer --threads or a shorter --context");
}

const char* name_of(Method method) {
  switch (method) {
    case Method::kRtn: return "rtn";
    case Method::kHqq: return "hqq";
    default: return "gptq";
  }
}

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

nlohmann::json to_json(const QuantizeReport& report) {
  nlohmann::json tensors = nlohmann::json::array();
  for (const TensorReport& tensor : report.tensors) {
    nlohmann::json one = {{"name", tensor.plan.name},
                          {"gguf_name", tensor.plan.gguf_name},
                          {"shape", tensor.plan.shape},
                          {"type_asked", info(tensor.plan.asked).name},
                          {"type", info(tensor.plan.got).name}};
    if (!tensor.plan.reason.empty()) one["fallback"] = tensor.plan.reason;
    one.update(outcome(tensor));
    tensors.push_back(std::move(one));
  }
  nlohmann::json result = {{"tensors", std::move(tensors)}, {"seconds", report.seconds},
                           {"calibration_tokens", report.calibration_tokens}};
  if (!report.layer_error.empty()) result["layer_error"] = report.layer_error;
  return result;
}

}  // namespace attar
