// The whole evaluation of a model, from paths to a result.
#pragma once

#include <string>

#include "eval/protocol.h"
#include "eval/result.h"

namespace attar {

struct EvalOptions {
  std::string model;                 // path of a checkpoint
  std::string reference;             // empty: perplexity only
  std::string data;                  // a text source: a file or "builtin:heldout"
  ChunkOptions chunking;
  std::string device = "cpu";
  std::int64_t cloze_items = 200;    // measured if data is builtin:heldout; 0: none
};

// Whether these options measure cloze.accuracy.
bool measures_cloze(const EvalOptions& options);

// Throws Error: unreadable model or text, too little text, text that is not UTF-8, tokenizers that differ, logits that are
// not finite; Interrupted.
EvalResult evaluate(const EvalOptions& options);

}  // namespace attar
