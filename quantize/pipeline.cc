#include "quantize/pipeline.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>

#include "base/console.h"
#include "base/error.h"
#include "base/threads.h"
#include "quantize/streams.h"
#include "quantize/tensors.h"

namespace attar {
namespace {

constexpr const char *kEmbedding = "model.embed_tokens.weight", *kHead = "lm_head.weight";

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

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
    if (options_.calibration.empty())
      round_everything();
    else
      calibrated();
    Checkpoint result = model_;
    for (Tensor& tensor : result.tensors) {
      const auto found = done_.find(tensor.name);
      if (found == done_.end()) continue;
      tensor = make_tensor(tensor.name, std::move(found->second));
    }
    return result;
  }

 private:
  // Biases and norms stay as they are, but must be numbers.
  void check_vectors() const {
    for (const Tensor& tensor : model_.tensors)
      if (tensor.shape.size() < 2) check_finite(read_floats(tensor), tensor.columns(), tensor.name);
  }

  TensorReport& entry(const std::string& name) { return report_.tensors[index_.at(name)]; }

  // Round to nearest, straight from the file.
  const QuantizedTensor& round(const std::string& name, std::span<const float> importance) {
    const auto start = Clock::now();
    TensorReport& tensor = entry(name);
    RtnResult result = rtn(tensor.plan.got, model_.at(name), importance);
    tensor.method = !info(tensor.plan.got).quantized ? "convert" : importance.empty() ? "rtn" : "rtn+importance";
    tensor.weight_error = result.weight_error;
    tensor.seconds = seconds_since(start);
    return done_.insert_or_assign(name, std::move(result.Q)).first->second;
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

  void round_everything() {
    Progress progress("rtn", report_.tensors.size(), "tensors");
    for (const TensorReport& tensor : report_.tensors) {
      round(tensor.plan.name, importance_of(tensor.plan));
      progress.advance(1, tensor.plan.name);
    }
  }

  // Layer by layer, inputs taken from the layers before as they are after quantization.
  void calibrated() {
    const OneTorchThread one_thread;
    const at::NoGradGuard no_grad;
    const bool gptq = options_.method == Method::kGptq;
    report_.calibration_tokens =
        static_cast<std::int64_t>(options_.calibration.size() * options_.calibration.front().size());
    Progress progress(gptq ? "gptq" : "rtn", report_.tensors.size(), "tensors");
    Streams streams(model_, options_.calibration, gptq && options_.corrected_target);
    calibrate_embedding(progress);
    streams.start(decoded(done_.at(kEmbedding)));
    for (std::int64_t layer = 0; layer < model_.config.layers; ++layer) {
      streams.enter_layer(layer);
      const std::vector<std::string> names = streams.linear_weights();
      for (auto begin = names.begin(); begin != names.end();) {
        const int input = input_of(entry(*begin).plan.role);
        const auto end = std::find_if(begin, names.end(), [&](const std::string& name) {
          return input_of(entry(name).plan.role) != input;
        });
        const std::vector<std::string> together(begin, end);
        gptq ? solve(streams, together, progress) : weigh(streams, together, progress);
        begin = end;
      }
      const double error = streams.leave_layer();
      if (gptq && options_.corrected_target) report_.layer_error.push_back(error);
    }
    if (index_.contains(kHead)) {
      if (gptq && worth_solving(kHead))
        quantize_one(kHead, read_tensor(model_.at(kHead)), make_curvature(streams.final_sums(), options_.gptq, kHead));
      else
        round(kHead, streams.final_mean_squares());
      progress.advance(1, kHead);
    }
  }

  // A tied embedding is the output head too: there its inputs are the last hidden states, for which the original model is run
  // once ahead. As an embedding alone, each row is what it is, and nearest is best.
  void calibrate_embedding(Progress& progress) {
    if (options_.method == Method::kGptq && !index_.contains(kHead) && worth_solving(kEmbedding)) {
      Streams streams(model_, options_.calibration, false);
      const at::Tensor W = read_tensor(model_.at(kEmbedding));
      streams.start(W);
      for (std::int64_t layer = 0; layer < model_.config.layers; ++layer) {
        streams.enter_layer(layer);
        streams.leave_layer();
      }
      quantize_one(kEmbedding, W, make_curvature(streams.final_sums(), options_.gptq, kEmbedding));
    } else {
      round(kEmbedding, {});
    }
    progress.advance(1, kEmbedding);
  }

  // What 8 bits lose nobody can measure.
  bool worth_solving(const std::string& name) {
    const TypeInfo& type = info(entry(name).plan.got);
    return type.quantized && type.grid.levels < 256;
  }

  void weigh(Streams& streams, const std::vector<std::string>& names, Progress& progress) {
    const std::vector<float> importance = streams.mean_squares(names.front());
    for (const std::string& name : names) {
      streams.replace(name, decoded(round(name, importance)));
      progress.advance(1, name);
    }
  }

  void solve(Streams& streams, const std::vector<std::string>& names, Progress& progress) {
    const auto start = Clock::now();
    std::optional<Curvature> curvature;
    for (const std::string& name : names) {
      TensorReport& tensor = entry(name);
      if (!info(tensor.plan.got).quantized) {
        streams.replace(name, decoded(round(name, {})));
        progress.advance(1, name);
        continue;
      }
      if (!curvature) {
        curvature = make_curvature(streams.input_sums(name), options_.gptq, name);
        tensor.seconds = seconds_since(start);  // counted where it was needed first
      }
      quantize_one(name, streams.weight(name), *curvature);
      streams.replace(name, decoded(done_.at(name)));
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
    GptqResult result = gptq(tensor.plan.got, W, curvature, options_.gptq, name);
    tensor.method = "gptq";
    tensor.weight_error = result.weight_error;
    tensor.output_error = result.output_error;
    tensor.clipped = result.clipped;
    tensor.damping = curvature.damping;
    tensor.damping_raises = curvature.damping_raises;
    tensor.dead_columns = curvature.dead_columns;
    done_.insert_or_assign(name, std::move(result.Q));
    tensor.seconds += seconds_since(start);
  }

  const Checkpoint& model_;
  const QuantizeOptions& options_;
  QuantizeReport& report_;
  std::map<std::string, std::size_t> index_;
  std::map<std::string, QuantizedTensor> done_;
};

}  // namespace

Checkpoint quantize(const Checkpoint& model, const QuantizeOptions& options, QuantizeReport& report) {
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
                          {"type", info(tensor.plan.got).name},
                          {"method", tensor.method},
                          {"weight_error", tensor.weight_error},
                          {"seconds", tensor.seconds}};
    if (!tensor.plan.reason.empty()) one["fallback"] = tensor.plan.reason;
    if (tensor.output_error >= 0) one["output_error"] = tensor.output_error;
    if (tensor.clipped >= 0) one["clipped"] = tensor.clipped;
    if (tensor.method == "gptq") {
      one["damping"] = tensor.damping;
      one["damping_raises"] = tensor.damping_raises;
      one["dead_columns"] = tensor.dead_columns;
    }
    tensors.push_back(std::move(one));
  }
  nlohmann::json result = {{"tensors", std::move(tensors)}, {"seconds", report.seconds},
                           {"calibration_tokens", report.calibration_tokens}};
  if (!report.layer_error.empty()) result["layer_error"] = report.layer_error;
  return result;
}

}  // namespace attar
