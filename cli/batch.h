// generate --batch: texts of a teacher as training data.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "convert/checkpoint.h"
#include "model/batch_text.h"

namespace attar::cli {

struct TextBatch {
  std::string prompts;             // a source: lines with "prompt" or "messages"; of other texts the first tokens
  std::string output;              // a .jsonl file
  std::int64_t prompt_tokens = 8;  // taken of each text that is no prompt already
  std::int64_t limit = 0;          // prompts; 0: all
  bool resume = false;
  BatchOptions options;
  TextFilter filter;
};

// Writes OUTPUT when all is done, until then OUTPUT.unfinished, from which a run that was ended goes on with resume. Returns how many
// texts were kept, and how many dropped and why.
nlohmann::json write_text_batch(const TextBatch& batch, const Checkpoint& model, const std::string& device);

}  // namespace attar::cli
