// A quantized model seen tensor by tensor: which of them cost what it lost?
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "convert/checkpoint.h"
#include "quantize/divergence.h"

namespace attar {

struct TensorView {
  std::string name;
  Type type = Type::kF32;              // in the quantized model
  std::uint64_t bytes = 0;
  double weight_error = 0;             // |Q - W|^2 / |W|^2
  std::optional<double> output_error;  // on the text; only matrices have outputs
  double kl = 0;                       // mean KL(original || original with this tensor alone as it is in the quantized model), nats
  double share = 0;                    // of the sum of all kl
};

struct LayerView {
  std::vector<TensorView> tensors;  // every matrix, and whatever else differs, in the model's order
  double kl_sum = 0;                // of the tensors one by one
  double kl_together = 0;           // of the quantized model
  // One by one they say what they cost together: false for a rotated or scaled model, whose tensors only fit each other.
  bool separable() const { return kl_sum <= 4 * kl_together; }
};

// Throws Error naming the first tensor that one has and the other does not, or in another shape.
void require_same_tensors(const Checkpoint& original, const Checkpoint& quantized);

// original: what was quantized. One run of the layers behind it per tensor. Same result at any number of threads. Throws Error for
// models that do not have the same tensors; Interrupted.
LayerView view_layers(const Checkpoint& original, const Checkpoint& quantized, const std::vector<Ids>& chunks, Positions positions);

nlohmann::json to_json(const LayerView& view);
// The `count` tensors that cost most, and the sums.
std::string table_text(const LayerView& view, std::size_t count);

}  // namespace attar
