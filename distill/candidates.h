// Students of several shapes, each retrained briefly, ranked by what it then says of held-out text.
//
// S. Muralidharan et al., "Compact Language Models via Pruning and Knowledge Distillation" (Minitron), 2024,
// https://arxiv.org/abs/2407.14679, section 2.3: right after pruning the ranking of candidates is not yet that which training
// leads to; it settles after a lightweight retraining (the paper's "lightweight neural architecture search").
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "convert/checkpoint.h"
#include "distill/prune.h"
#include "distill/search_text.h"
#include "quantize/work_folder.h"

namespace attar {

struct RetrainOptions {
  std::int64_t tokens = 100'000;  // that each candidate learns from, up to whole steps
  std::int64_t batch = 8;         // chunks a step
  std::int64_t context = 256;     // tokens of a chunk
  double rate = 3e-4;             // peak of the learning rate: a tenth of the steps up to it, then a cosine down to a tenth
  std::uint64_t seed = 0;         // of the order of the text, which is the same for all
  std::string device = "cpu";

  std::int64_t steps() const { return (tokens + batch * context - 1) / (batch * context); }
};
constexpr std::int64_t kHeldOutChunks = 64;  // of held-out text; SearchText should give so many

// Divergences in nats per token of the held-out text, under the teacher's whole vocabulary. A student over fewer tokens is compared
// with its teacher over those (KL), and what the teacher itself loses by being cut to them is added: the text's loss under the
// cut teacher less that under the whole one. So vocabularies of different sizes compare.
struct TriedShape {
  StudentShape shape;
  std::uint64_t parameters = 0;
  std::uint64_t bytes = 0;         // of all files, as written
  double vocabulary_cost = 0;      // 0 over the whole vocabulary
  double kl_before = 0, kl_after = 0;  // retraining; with vocabulary_cost

  // So short a training can do harm to a student that has lost little.
  bool retrained() const { return kl_after < kl_before; }
  double kl() const { return retrained() ? kl_after : kl_before; }  // what it is ranked by
};

struct Ranking {
  std::vector<TriedShape> candidates;  // the best first
  Checkpoint best;                     // retrained, or as cut if that was better
  std::int64_t steps = 0, tokens = 0;  // of each candidate's retraining
  std::int64_t heldout_tokens = 0;     // of the teacher's, targets only
};

// stored: how the best one will be written. Same inputs, seed and number of threads give the same result. Throws Error: too little text,
// a candidate that cannot be trained; Interrupted. work: keeps finished candidates, made for a run that is given the same of all that
// decides the result; those it holds already are not retrained. May be null.
Ranking retrain_and_rank(const Cutter& cutter, const std::vector<StudentShape>& shapes, const SearchText& text, const HfOptions& stored,
                         const RetrainOptions& options, const WorkFolder* work = nullptr);

}  // namespace attar
