// Asks a model a task's questions. The context that an item's choices share, and that all items share (the shots), runs once.
#pragma once

#include <string>
#include <vector>

#include "datasets/tokenizer.h"
#include "eval/predictor.h"
#include "eval/significance.h"
#include "eval/task.h"

namespace attar {

struct AskOptions {
  std::int64_t context = 0;  // tokens that the model takes; what is longer loses its beginning
  bool bos = true;           // BOS before the context if the tokenizer adds one
};

struct RequestScore {
  double log_likelihood = 0;  // of the continuation's tokens
  bool greedy = false;        // each of them is the most probable one
};

struct ItemScore {
  std::vector<RequestScore> requests;
  std::string generated;      // of generated tasks, instead
};

// Tokens of a request: those of context and continuation together, of which [begin + 1, size) are scored. lm-evaluation-harness's
// _encode_pair: spaces at the context's end belong to the continuation, and what follows as many tokens as the context has by
// itself is scored. Throws Error: nothing is left to score, more to score than the model takes.
Sequence encode_request(const Tokenizer& tokenizer, const std::string& context, const std::string& continuation,
                        const AskOptions& options, const std::string& where);

// In the order of the items. An item's scores depend on its task's items only, not on threads or other tasks, to the last bit.
// Throws Error for logits that are not finite; Interrupted.
std::vector<ItemScore> score_task(Predictor& model, const Tokenizer& tokenizer, const Task& task, const AskOptions& options);
std::vector<ItemScore> score_task(Decoder& model, const Tokenizer& tokenizer, const Task& task, const AskOptions& options);

// The index that a multiple-choice or two-contexts item is answered with; the first of equals.
std::size_t answer(const ItemScore& score);

// One entry per item, by name:
//   acc          the likeliest request is the right one; continuation: every token is the most probable one
//   acc_norm     the same with the sum divided by the choice's length in characters (multiple choice)
//   acc_bytes    in bytes
//   perplexity   exp of the mean of -sum (continuation)
//   exact_match  the text written is one of the right ones (generated)
struct TaskMetric {
  std::string name;
  Samples samples;
};
std::vector<TaskMetric> task_metrics(const Task& task, const std::vector<ItemScore>& scores);

}  // namespace attar
