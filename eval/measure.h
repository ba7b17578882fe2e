// Runs decoders over token sequences and scores what they say of the tokens that came.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "datasets/tokenizer.h"
#include "eval/scores.h"
#include "model/decoder.h"

namespace attar {

// At each position p in [begin, end) the prediction of ids[p + 1] is scored; end < ids.size().
struct Sequence {
  Ids ids;
  std::int64_t begin = 0, end = 0;
};

// Scores in the order of the sequences and, within each, of their positions. reference: nullptr for none; it must have the
// model's vocabulary size. label names the work in the progress line.
//
// Each thread runs whole batches of sequences by itself, and how sequences are batched does not depend on the number of
// threads: neither do the results, to the last bit. Logits exist for a slice of scored positions at a time.
// Throws Error for logits that are not finite, Interrupted.
TokenScores measure(Decoder& model, Decoder* reference, std::span<const Sequence> sequences, const std::string& label);

}  // namespace attar
