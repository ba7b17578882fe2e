// Which layer of the teacher a layer of the student is compared with.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace attar {

using LayerPair = std::pair<std::int64_t, std::int64_t>;  // layer of the student, of the teacher; both counted from 0

// uniform  layer m of M with layer m N / M of N, counted from 1: X. Jiao et al., "TinyBERT: Distilling BERT for Natural Language
//          Understanding", 2020, https://arxiv.org/abs/1909.10351 (its uniform strategy); rounded up where M does not divide N.
// last     the last with the last: W. Wang et al., "MiniLM", 2020, https://arxiv.org/abs/2002.10957, section 3.
// learned  every layer with all, each pair's distance weighted by a softmax over the teacher's layers: D. Chen et al., "Cross-Layer
//          Distillation with Semantic Calibration", 2021, https://arxiv.org/abs/2012.03236, section 3; the weights are parameters of their
//          own here, there they follow from each batch.
// given    pairs as they are.
struct LayerMap {
  enum class Kind { kUniform, kLast, kLearned, kGiven };
  Kind kind = Kind::kUniform;
  std::vector<LayerPair> pairs;  // given: ascending by the student's layer
  bool operator==(const LayerMap&) const = default;
};

// "uniform", "last", "learned" or "STUDENT:TEACHER,...", as --layer-map takes it. Throws Error for anything else, and if a layer of
// the student comes twice.
LayerMap parse_layer_map(const std::string& text);
std::string layer_map_text(const LayerMap& map);  // what parse_layer_map reads

// The pairs for models of these many layers, ascending; of a learned map all there are. Throws Error for a layer that does not exist.
std::vector<LayerPair> layer_pairs(const LayerMap& map, std::int64_t student_layers, std::int64_t teacher_layers);

}  // namespace attar
