// Changes to a model that its function survives: what one tensor is multiplied by, another makes up for. Tensors are changed when they
// are read, so a model of any size is folded at once.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "convert/checkpoint.h"

namespace attar {

// float32. edit: changes rows [first, ...) of the source in place, row-major; no row may depend on another.
Tensor edit_rows(const Tensor& source, std::function<void(std::int64_t first, std::span<float> rows)> edit);

// Tensors whose rows depend on each other are made whole when any row is asked for. The one made last stays in memory.
class WholeEdits {
 public:
  // float32. edit: changes all of the source in place, row-major.
  Tensor add(const Tensor& source, std::function<void(std::span<float> values)> edit) const;

 private:
  struct Last {
    std::mutex mutex;
    std::string name;
    std::vector<float> values;
  };
  std::shared_ptr<Last> last_ = std::make_shared<Last>();
};

// Throws Error if it is not there.
Tensor& tensor_of(Checkpoint& model, const std::string& name);

// What stands where in a layer; names are those within it ("self_attn.o_proj"). Rows are those of the fused matrix where there is one.
struct LayerMap {
  std::string attention_norm, mlp_norm;
  std::vector<std::string> attention_inputs, mlp_inputs;  // linears that read a norm
  std::string value, up;                                  // those that make values, and what the gate is multiplied with
  std::int64_t value_row = 0, up_row = 0;                 // the first row of it
};
LayerMap layer_map(const ModelConfig& config);

}  // namespace attar
