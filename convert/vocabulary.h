// A model over a part of its tokens: fewer rows in embedding and output projection, and a tokenizer that knows only those.
#pragma once

#include <cstdint>
#include <vector>

#include "convert/checkpoint.h"

namespace attar {

// kept: ids of the tokenizer, ascending; the i-th becomes id i. Merges stay if their parts and their whole do. The files that are
// carried along (tokenizer.json, tokenizer.model, tokenizer_config.json) are cut too, and otherwise say what they said. Throws
// Error for ids that are not ascending or not there, and for a file that numbers tokens in a way that is not known.
TokenizerData select_tokens(const TokenizerData& tokenizer, const std::vector<std::int64_t>& kept);

// Rows are read when they are asked for, in the type they are stored in. What comes out of the model is the distribution of the
// whole one, given that the token is a kept one.
Checkpoint select_tokens(const Checkpoint& model, const std::vector<std::int64_t>& kept);

}  // namespace attar
