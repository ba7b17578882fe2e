#include "quantize/report.h"

#include <cmath>

#include "base/console.h"
#include "base/error.h"
#include "base/text.h"
#include "datasets/corpus.h"

namespace attar {
namespace {

std::string hash_of(const ImportanceMatrix& matrix) {
  ContentHash hash;
  for (const auto& [name, entry] : matrix.entries) {
    hash.add(name);
    hash.add(ByteView(std::as_bytes(std::span(entry.sums))));
  }
  return hash.hex();
}

}  // namespace

const char* name_of(Method method) {
  switch (method) {
    case Method::kRtn: return "rtn";
    case Method::kHqq: return "hqq";
    default: return "gptq";
  }
}

void judge_layer_error(std::int64_t layer, double error, bool strict) {
  if (error < 1) return;
  const std::string message = cat("quantize: after layer ", layer, " hidden states are ", std::sqrt(error), " times their length away from the original's; give the ",
                                  "layer more bits, or more or other calibration text");
  if (strict) fail(message);
  warn(message);
}

std::string vanished_message(const TensorPlan& plan) {
  return cat(plan.name, ": nothing but zeros is left of it in ", info(plan.got).name, ", whose smallest scale is larger than these weights; give --override '",
             plan.gguf_name, "=bf16'");
}

nlohmann::json run_identity(const Checkpoint& model, const QuantizeOptions& options) {
  const PlanOptions& plan = options.plan;
  nlohmann::json overrides = nlohmann::json::array(), assigned = nlohmann::json::object();
  for (const TypeOverride& one : plan.overrides) overrides.push_back(one.text);
  for (const auto& [name, type] : plan.assigned) assigned[name] = info(type).name;
  return {{"--type", plan.preset->name},
          {"--pure", plan.pure},
          {"--override", std::move(overrides)},
          {"the choice of types", std::move(assigned)},
          {"--method", cat(options.rotated ? "rotate+" : "", options.scaled ? "awq+" : "", options.fisher ? "fisher+" : "", name_of(options.method),
                           options.autoround ? "+autoround" : "")},
          {"--damp", options.gptq.damping},
          {"--no-act-order", !options.gptq.act_order},
          {"--no-correction", !options.corrected_target},
          {"--strict", options.strict},
          {"--seed", options.seed},
          {"--samples", options.calibration.size()},
          {"--context", options.calibration.empty() ? 0 : options.calibration.front().size()},
          {"the calibration text", chunks_hash(options.calibration)},
          {"--imatrix", options.importance ? hash_of(*options.importance) : ""},
          {"the model", checkpoint_hash(model)}};
}

nlohmann::json outcome(const TensorReport& tensor) {
  nlohmann::json one = {{"method", tensor.method}, {"weight_error", tensor.weight_error}, {"seconds", tensor.seconds}};
  if (tensor.output_error >= 0) one["output_error"] = tensor.output_error;
  if (tensor.rounded_error >= 0) one.update({{"rounded_error", tensor.rounded_error}, {"gptq_error", tensor.gptq_error}});
  if (tensor.clipped >= 0) one["clipped"] = tensor.clipped;
  if (tensor.vanished) one["vanished"] = true;
  if (tensor.lp_error >= 0) one.update({{"lp_error_before", tensor.lp_error_before}, {"lp_error", tensor.lp_error}});
  if (tensor.method.starts_with("gptq"))
    one.update({{"damping", tensor.damping}, {"damping_raises", tensor.damping_raises}});
  if (tensor.method.starts_with("gptq") || tensor.method.starts_with("rtn+importance")) one["dead_columns"] = tensor.dead_columns;
  return one;
}

void read_outcome(const nlohmann::json& from, TensorReport& tensor) {
  tensor.method = from.at("method");
  tensor.weight_error = from.at("weight_error");
  tensor.seconds = from.at("seconds");
  tensor.output_error = from.value("output_error", -1.0);
  tensor.rounded_error = from.value("rounded_error", -1.0);
  tensor.gptq_error = from.value("gptq_error", -1.0);
  tensor.clipped = from.value("clipped", -1.0);
  tensor.vanished = from.value("vanished", false);
  tensor.lp_error_before = from.value("lp_error_before", -1.0);
  tensor.lp_error = from.value("lp_error", -1.0);
  tensor.damping = from.value("damping", 0.0);
  tensor.damping_raises = from.value("damping_raises", 0);
  tensor.dead_columns = from.value("dead_columns", std::int64_t{0});
}

std::vector<Gain> gains(const QuantizeReport& report) {
  struct Mean {
    double before = 0, after = 0, count = 0;
    void add(double from, double to) { before += from, after += to, ++count; }
  };
  Mean gptq, hqq, halves;
  for (const TensorReport& tensor : report.tensors) {
    if (tensor.rounded_error >= 0) gptq.add(tensor.rounded_error, tensor.gptq_error);
    if (tensor.lp_error >= 0) hqq.add(tensor.lp_error_before, tensor.lp_error);
  }
  for (const AutoRoundResult& half : report.autoround) halves.add(half.before, half.after);
  std::vector<Gain> found;
  const auto put = [&](const char* method, const char* measure, const Mean& mean) {
    if (mean.count > 0) found.push_back({method, measure, mean.before / mean.count, mean.after / mean.count});
  };
  put("gptq", "output error of a matrix, rounded to nearest before", gptq);
  put("hqq", "p-norm of the error of a matrix", hqq);
  put("autoround", "error of hidden states after half a layer", halves);
  return found;
}

nlohmann::json to_json(const std::vector<Gain>& gains) {
  nlohmann::json list = nlohmann::json::array();
  for (const Gain& gain : gains) list.push_back({{"method", gain.method}, {"measure", gain.measure}, {"before", gain.before}, {"after", gain.after}});
  return list;
}

nlohmann::json sums(const QuantizeReport& report) {
  double weights = 0, weight_error = 0, with_output = 0, output_error = 0, with_clipped = 0, clipped = 0, seconds = 0;
  std::int64_t dead_columns = 0, damping_raises = 0;
  for (const TensorReport& tensor : report.tensors) {
    const auto count = static_cast<double>(element_count(tensor.plan.shape));
    weights += count, weight_error += count * tensor.weight_error;
    if (tensor.output_error >= 0) with_output += count, output_error += count * tensor.output_error;
    if (tensor.clipped >= 0) with_clipped += count, clipped += count * tensor.clipped;
    dead_columns += tensor.dead_columns, damping_raises += tensor.damping_raises, seconds += tensor.seconds;
  }
  nlohmann::json json = {{"weights", weights}, {"weight_error", weights > 0 ? weight_error / weights : 0.0}, {"dead_columns", dead_columns},
                         {"damping_raises", damping_raises}, {"seconds", seconds}};
  if (with_output > 0) json["output_error"] = output_error / with_output;
  if (with_clipped > 0) json["clipped"] = clipped / with_clipped;
  return json;
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
                           {"calibration_tokens", report.calibration_tokens}, {"sums", sums(report)}};
  if (!report.layer_error.empty()) result["layer_error"] = report.layer_error;
  for (const AutoRoundResult& half : report.autoround) result["autoround"].push_back({{"before", half.before}, {"after", half.after}});
  return result;
}

void settle(QuantizeReport& report) {
  for (TensorReport& tensor : report.tensors) {
    if (tensor.loss == nullptr) continue;
    tensor.weight_error = tensor.loss->weight_error();
    tensor.clipped = tensor.loss->clipped_share();
    tensor.vanished = tensor.loss->vanished();
    tensor.seconds = tensor.loss->seconds;
    report.seconds += tensor.seconds;
    tensor.loss = nullptr;
  }
}

}  // namespace attar
