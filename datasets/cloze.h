// Multiple-choice items with known answers, made from the state of the simulated stories.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "datasets/stories.h"

namespace attar {

struct ClozeItem {
  std::string context;               // the story up to the gap; no space at its end
  std::vector<std::string> choices;  // four; each starts with a space and ends its sentence
  int gold = 0;                      // the index of the right one
  std::string kind;                  // "who", "where", "what", "count", "colour", "why", "order", "pronoun", "verb"
};

// The first `count` items of a split. Their stories are not those of story_documents, and like them share no sentence
// (right answers included) with another split. Every position holds the right answer equally often.
std::vector<ClozeItem> cloze_items(Split split, std::int64_t count);

}  // namespace attar
