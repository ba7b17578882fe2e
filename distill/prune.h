// A smaller student cut out of a teacher: the parts that matter most are kept, untouched.
//
// S. Muralidharan et al., "Compact Language Models via Pruning and Knowledge Distillation" (Minitron), 2024,
// https://arxiv.org/abs/2407.14679.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "convert/checkpoint.h"
#include "datasets/vocabulary.h"
#include "distill/importance.h"

namespace attar {

// What a student has; the rest of its config is the teacher's.
struct StudentShape {
  std::int64_t layers = 0, hidden = 0, ffn = 0, heads = 0, vocabulary = 0;
};
StudentShape shape_of(const ModelConfig& config);

// The indices that stay, ascending.
struct PrunePlan {
  struct Layer {
    std::int64_t index = 0;  // in the teacher
    std::vector<std::int64_t> channels, heads, kv_heads;
  };
  std::vector<Layer> layers;
  std::vector<std::int64_t> hidden;
  // What the weights of the norms are multiplied with, so that they give the kept channels as before on average: the root
  // of the kept channels' mean energy. By layer; 1 where no hidden channel is cut.
  std::vector<double> attention_scale, mlp_scale;
  double final_scale = 1.0;
};

// Layers with the least block influence go, unless keep_layers says which stay; channels and hidden channels go by their
// importance; heads by theirs inside each key-value group, so that all groups stay as large as each other. If every head
// has a key-value head of its own, both go. Throws Error for a shape that the teacher cannot give.
PrunePlan plan_pruning(const ModelConfig& config, const Importance& importance, const StudentShape& shape,
                       const std::vector<std::int64_t>& keep_layers = {});

// Throws Error if the shape cannot be cut from this config. Its vocabulary is TokenRanking's to judge.
void check_shape(const ModelConfig& config, const StudentShape& shape);

ModelConfig pruned_config(const ModelConfig& config, const PrunePlan& plan);
ModelConfig shaped_config(ModelConfig config, const StudentShape& shape);  // sizes only, to count parameters

// The student over the teacher's tensors, read when it is written. Its vocabulary is the teacher's: select_tokens
// (convert/vocabulary.h) comes before.
Checkpoint prune(const Checkpoint& teacher, const PrunePlan& plan);

std::uint64_t parameter_count(const ModelConfig& config);

// Which sizes the search may use, in steps that leave rows the quantizers like: multiples of 256 if the teacher's size is
// one (and more than 256), else of 32, else of the largest power of two below that divides it.
std::int64_t legal_step(std::int64_t size);

// The shape nearest under target_params that costs least. fixed: sizes already chosen (0: free). Width goes before depth:
// the cost of a shape is a weighted sum of squared logarithms of how far each size is cut; docs/methods/pruning.md gives
// the weights. tokens: if given, the vocabulary may be cut as well. Throws Error if even the smallest shape is larger, naming
// what can be reached.
StudentShape find_shape(const ModelConfig& config, std::uint64_t target_params, const StudentShape& fixed,
                        const TokenRanking* tokens = nullptr);

}  // namespace attar
