#include "quantize/round.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/text.h"
#include "quantize/report.h"

namespace attar {

std::vector<TensorReport> planned(const Checkpoint& model, const QuantizeOptions& options) {
  std::vector<TensorReport> tensors;
  for (TensorPlan& plan : plan_types(model, options.plan)) {
    if (!plan.reason.empty() && options.strict)
      fail("quantize: ", plan.name, " cannot be ", info(plan.asked).name, ": ", plan.reason, "; give another --type, --override '",
           plan.gguf_name, "=", info(plan.got).name, "', or leave out --strict to take that");
    tensors.push_back({std::move(plan)});
  }
  return tensors;
}

void check_vectors(const Checkpoint& model) {
  for (const Tensor& tensor : model.tensors)
    if (tensor.shape.size() < 2) check_finite(read_floats(tensor), tensor.columns(), tensor.name);
}

void check_importance(const QuantizeOptions& options, const std::vector<TensorReport>& tensors) {
  if (!options.importance) return;
  const auto known = [&](const auto& has) { return std::any_of(tensors.begin(), tensors.end(), has); };
  const bool head = known([](const TensorReport& tensor) { return tensor.plan.name == "lm_head.weight"; });
  for (const auto& [name, entry] : options.importance->entries)
    if (!known([&, &name = name](const TensorReport& tensor) { return tensor.plan.gguf_name == name; }) && !(name == "output.weight" && !head))
      fail("quantize: the importance matrix knows ", name, ", which the model has not; it was made from another model");
}

std::vector<float> importance_of(const QuantizeOptions& options, const TensorPlan& plan) {
  if (!options.importance) return {};
  const auto& entries = options.importance->entries;
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
  return found->second.mean();
}

void refuse_inputs(std::string_view name) {
  fail("quantize: the inputs of ", name, " hold NaN or Inf, or overflow when squared; the model does not compute on this calibration text");
}

void check_inputs(const std::vector<float>& importance, std::string_view name) {
  if (!std::all_of(importance.begin(), importance.end(), [](float square) { return std::isfinite(square); })) refuse_inputs(name);
}

std::int64_t lift_dead_columns(std::vector<float>& importance) {
  const double sum = std::accumulate(importance.begin(), importance.end(), 0.0);
  const auto lift = static_cast<float>(GptqOptions{}.damping * sum / std::max<double>(1, static_cast<double>(importance.size())));
  const auto dead = std::count(importance.begin(), importance.end(), 0.0f);
  std::replace(importance.begin(), importance.end(), 0.0f, lift);
  return dead;
}

void report_dead_columns(TensorReport& tensor, std::int64_t dead, bool strict) {
  if (!info(tensor.plan.got).quantized) return;
  tensor.dead_columns = dead;
  if (strict && dead > 0)
    fail("quantize: no calibration token reaches ", dead, " of the ", tensor.plan.shape.back(), " columns of ", tensor.plan.name,
         "; give more calibration text, or leave out --strict to round them to nearest");
}

const char* rounding_name(Type type, const std::vector<float>& importance) {
  return !info(type).quantized ? "convert" : importance.empty() ? "rtn" : "rtn+importance";
}

Checkpoint round_when_read(const Checkpoint& model, const QuantizeOptions& options, QuantizeReport& report) {
  const auto start = std::chrono::steady_clock::now();
  if (options.method != Method::kRtn || !options.calibration.empty())
    fail("quantize: only what is rounded to nearest without calibration can wait until it is read");
  report = {planned(model, options)};
  check_vectors(model);
  check_importance(options, report.tensors);
  Checkpoint result = model;
  for (TensorReport& tensor : report.tensors) {
    std::vector<float> importance = importance_of(options, tensor.plan);
    report_dead_columns(tensor, lift_dead_columns(importance), options.strict);
    tensor.method = rounding_name(tensor.plan.got, importance);
    const auto matrix = std::find_if(result.tensors.begin(), result.tensors.end(), [&](const Tensor& one) { return one.name == tensor.plan.name; });
    RoundedWhenRead rounded = rtn_when_read(tensor.plan.got, *matrix, std::move(importance));
    if (options.strict)  // before the file is whole
      rounded.Q.read_rows = [read = rounded.Q.read_rows, loss = rounded.loss, plan = tensor.plan](std::int64_t begin, std::int64_t end, std::byte* out) {
        read(begin, end, out);
        if (end == plan.shape.front() && loss->vanished()) fail("quantize: ", vanished_message(plan));
      };
    *matrix = std::move(rounded.Q);
    tensor.loss = std::move(rounded.loss);
  }
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace attar
