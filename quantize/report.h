// What a run of quantize() was asked, and what it says of the result, as JSON: in its work folder and in the report.
#pragma once

#include <nlohmann/json.hpp>

#include "quantize/pipeline.h"

namespace attar {

// Everything that decides the bytes, under the names of the command line.
nlohmann::json run_identity(const Checkpoint& model, const QuantizeOptions& options);

// Of a matrix that vanished: what happened and what helps.
std::string vanished_message(const TensorPlan& plan);

// What was measured of a tensor, and back.
nlohmann::json outcome(const TensorReport& tensor);
void read_outcome(const nlohmann::json& from, TensorReport& tensor);

// What a method gained: a mean before and after it.
struct Gain {
  std::string method, measure;
  double before = 0, after = 0;
};

// Of gptq, hqq and autoround, each over the matrices (or halves of layers) that it was used on.
std::vector<Gain> gains(const QuantizeReport& report);
nlohmann::json to_json(const std::vector<Gain>& gains);

// Over all tensors: weights, mean errors by weights, columns never reached, raises of damping, seconds.
nlohmann::json sums(const QuantizeReport& report);

}  // namespace attar
