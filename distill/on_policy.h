// The student learns from what it says itself: it goes on from the beginning of a text, and its teacher tells what it would have said.
//
// R. Agarwal et al., "On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes" (GKD), 2024,
// https://arxiv.org/abs/2306.13649, algorithm 1: a share lambda of the sequences is the student's own, sampled at temperature 1
// without a gradient through the sampling. Chosen chunk by chunk here, by batch there.
#pragma once

#include <cstdint>
#include <vector>

#include "distill/packing.h"
#include "model/decoder.h"

namespace attar {

struct OnPolicy {
  double lambda = 0.0;     // share of chunks that the student writes
  std::uint64_t seed = 0;
  std::vector<std::int64_t> end_ids;  // tokens after which it is silent
};

// Whether chunk `index` of a step is the student's to write.
bool is_on_policy(const OnPolicy& options, std::int64_t step, std::int64_t index);

// Replaces chunks `which` by beginnings that the student continued: of a conversation all before the first answer, of a text a quarter
// of the chunk. Only its own words, and the end, are learnt. indices: of the chunks in the step, which choose the random numbers.
void write_own_texts(Decoder& student, const OnPolicy& options, std::int64_t step, const std::vector<std::int64_t>& indices,
                     const std::vector<Chunk*>& chunks);

}  // namespace attar
