// Multiple-choice accuracy on the built-in cloze items.
#pragma once

#include <vector>

#include "datasets/cloze.h"
#include "eval/measure.h"
#include "eval/result.h"

namespace attar {

// The choice with the highest sum of ln p over its tokens, given the context, is the answer (the first of equals): what
// lm-evaluation-harness calls acc. Throws Error for an item without choices, an empty choice, a gold index out of range.
ClozeAccuracy cloze_accuracy(Decoder& model, const Tokenizer& tokenizer, const std::vector<ClozeItem>& items);

}  // namespace attar
