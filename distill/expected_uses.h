// How often a model expects each of its tokens in a text, seen there or not.
//
//   expected(t) = sum over the positions of the text of p(t | what stands before)
//
// A text has only the tokens that chance brought; of those it lacks, this still tells which belong there.
#pragma once

#include <cstdint>
#include <vector>

#include "datasets/tokenizer.h"
#include "model/decoder.h"

namespace attar {

// By id, as many as the decoder has tokens; together they make the number of positions. chunks: token ids of one length, of
// which the last is only predicted. batch: chunks at a time.
std::vector<double> expected_uses(Decoder& decoder, const std::vector<Ids>& chunks, std::int64_t batch);

}  // namespace attar
