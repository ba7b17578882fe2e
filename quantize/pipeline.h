// From a checkpoint to its quantized checkpoint: which method, in what order, and a report of what happened.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/files.h"
#include "convert/checkpoint.h"
#include "datasets/tokenizer.h"
#include "quantize/imatrix.h"
#include "quantize/options.h"
#include "quantize/presets.h"
#include "quantize/rtn.h"

namespace attar {

enum class Method { kRtn, kHqq, kGptq };
const char* name_of(Method method);

struct QuantizeOptions {
  PlanOptions plan;
  Method method = Method::kRtn;
  bool rotated = false, scaled = false;  // what the model has been through (rotate.h, awq.h): tells runs apart, and takes memory
  GptqOptions gptq;
  bool corrected_target = true;    // GPTQ repeats the original's outputs, not those of the drifted inputs
  bool fisher = false;             // GPTQ and AutoRound know how much each output matters (output_metric.h)
  bool autoround = false;          // codes and scales of each half of a layer are then learned together
  AutoRoundOptions rounding;
  std::vector<Ids> calibration;    // chunks of one length; empty: RTN without importance. HQQ takes none
  std::optional<ImportanceMatrix> importance;  // for RTN without calibration
  std::uint64_t seed = 0;          // of the signs that fisher draws and the order in which AutoRound learns
  bool strict = false;             // an Error where otherwise the report says so
  // Where finished layers and hidden states are kept, so that they need no memory and a stopped run can go on; the caller removes it
  // once the result is written. Empty: in memory.
  fs::path folder;
  std::uint64_t max_memory = 0;    // bytes: an Error at once if calibrating may take more; 0: whatever it takes
  bool resume = false;             // go on with what `folder` holds, if there is anything
};

struct TensorReport {
  TensorPlan plan;
  std::string method;              // "gptq", "hqq", "rtn", "rtn+importance", "convert"; "gptq+autoround" and its like
  double weight_error = 0;         // |Q - W|^2 / |W|^2
  double output_error = -1;        // on calibration text, against what the method aims at (gptq.h's target, or W); -1: not known
  double rounded_error = -1, gptq_error = -1;  // the same of the target rounded to nearest, and as gptq left it: what it gained
  double clipped = -1;             // share of weights beyond the grid's ends by more than half a step; -1: not looked at
  double lp_error_before = -1, lp_error = -1;  // HQQ's norm without and with its solver; -1: another method
  bool vanished = false;           // nothing but zeros is left of a matrix that was not zero
  double damping = 0;
  int damping_raises = 0;
  std::int64_t dead_columns = 0;
  double seconds = 0;
  std::shared_ptr<const RtnLoss> loss;  // of a matrix that is rounded when it is read
};

struct QuantizeReport {
  std::vector<TensorReport> tensors;
  std::vector<double> layer_error;  // |h_q - h_fp|^2 / |h_fp|^2 after each layer; empty without calibration text
  std::vector<AutoRoundResult> autoround;  // of each half of each layer
  std::int64_t calibration_tokens = 0;
  double seconds = 0;
};

nlohmann::json to_json(const QuantizeReport& report);

// Takes in what matrices rounded when read (round.h) have lost, once they were: until then nothing is known of it.
void settle(QuantizeReport& report);

// Warns if hidden states are lost after a layer: error |h_q - h_fp|^2 / |h_fp|^2 of 1 or more. strict: throws Error.
void judge_layer_error(std::int64_t layer, double error, bool strict);

// Throws Error if calibrating may take more than options.max_memory. quantize() asks as well.
void check_memory(const ModelConfig& config, const QuantizeOptions& options);

// Same model, options and calibration give the same bytes at any number of threads. Throws Error naming the tensor for NaN
// and Inf, and naming what differs for a folder of another run; with `strict` also for a type that does not fit, a matrix that vanishes, a Hessian that needs more damping and columns never reached.
Checkpoint quantize(const Checkpoint& model, const QuantizeOptions& options, QuantizeReport& report);

}  // namespace attar
