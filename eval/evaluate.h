// The whole evaluation of a model, from paths to a result.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "eval/baseline.h"
#include "eval/protocol.h"
#include "eval/result.h"
#include "eval/task.h"

namespace attar {

struct EvalOptions {
  std::string model;                 // path of a checkpoint
  std::string reference;             // a checkpoint, what save_reference wrote, or llama.cpp's base file; empty: none
  std::string data;                  // a text source: a file or "builtin:heldout"; empty: the stored reference's, if any
  std::string save_reference;        // write the model's predictions to this file
  std::string protocol = "llama-perplexity";  // or "rolling"
  ChunkOptions chunking;
  std::string device = "cpu";
  bool floats = false;               // decode quantized weights and compute in float32, as a GPU does anyway, instead of on the kernels
  std::int64_t cloze_items = 200;    // measured if data is builtin:heldout; 0: none
  std::vector<std::string> tasks;    // paths of task files
  TaskOptions asking;
  bool bos = true;                   // tasks begin with BOS if the tokenizer adds one
  std::size_t worst = 20;            // tokens that the breakdown shows
  std::string items;                 // write each task item's scores to this file, a JSON object a line
};

// What options will measure, known before the work.
struct Planned {
  bool text = false, rolling = false, reference = false, cloze = false;
  bool tasks_of_reference = false;   // the reference is a model, not a file
  std::map<std::string, std::vector<std::string>> tasks;  // name: its metrics
};

// Throws Error: options that contradict each other, unreadable tasks or reference file.
Planned plan(const EvalOptions& options);

// Throws Error: unreadable model or text, too little text, text that is not UTF-8, tokenizers that differ, logits that are
// not finite; with a baseline, and before anything is measured, a run that is not comparable with it; Interrupted.
EvalResult evaluate(const EvalOptions& options, const Baseline* baseline = nullptr);

}  // namespace attar
