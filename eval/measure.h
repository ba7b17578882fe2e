// Runs models over token sequences and scores what they say of the tokens that came.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "eval/predictor.h"
#include "eval/protocol.h"
#include "eval/scores.h"

namespace attar {

class ReferenceScores;

// What the model is measured against, if anything; and what happens to its logits.
struct Against {
  Predictor* model = nullptr;                // must have the model's vocabulary size
  const ReferenceScores* stored = nullptr;   // instead; its sequences must be those measured
  std::vector<Bytes>* encoded = nullptr;     // gets every position of the model as a stored reference has it
};

// Scores in the order of the sequences and, within each, of their positions. label names the work in the progress line.
//
// Each thread runs whole batches of sequences by itself, and how sequences are batched does not depend on the number of
// threads: neither do the results, to the last bit. Logits exist for a slice of scored positions at a time.
// Throws Error for logits that are not finite, Interrupted.
TokenScores measure(Predictor& model, const Against& against, std::span<const Sequence> sequences, const std::string& label);
TokenScores measure(Decoder& model, Decoder* reference, std::span<const Sequence> sequences, const std::string& label);

}  // namespace attar
