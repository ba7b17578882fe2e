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
  std::int64_t kv_heads = 0;  // of a model with key-value groups; 0: all of them
};
// The key-value heads of such a student: as many as heads if the teacher has no groups.
std::int64_t kv_heads_of(const ModelConfig& config, const StudentShape& shape);
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
// importance; heads by theirs inside each key-value group, so that all groups stay as large as each other. Whole groups, a key-value
// head with its query heads, go by the root of the sum of their heads' squares. If every head has a key-value head of its own, both go. Throws Error for a shape that the teacher cannot give.
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

// Students of any shape out of one teacher, by what was measured on it once.
struct Cutter {
  Checkpoint teacher;
  Importance importance;
  std::vector<std::int64_t> keep_layers;  // as of plan_pruning
  std::optional<TokenRanking> tokens;     // if the vocabulary may be cut

  Checkpoint over(std::int64_t vocabulary) const;  // the teacher over its first tokens
  PrunePlan plan(const StudentShape& shape) const { return plan_pruning(teacher.config, importance, shape, keep_layers); }
  Checkpoint student(const StudentShape& shape) const { return prune(over(shape.vocabulary), plan(shape)); }
};

}  // namespace attar
