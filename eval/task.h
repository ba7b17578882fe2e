// A task: questions with known answers, read from lines of JSON and, if there is one, a TOML file that says how to ask.
//
//   kind              fields of a line                              what is asked
//   multiple_choice   query, choices, gold                          which choice is the likeliest after the query
//   two_contexts      context_options, continuation, gold           after which context the continuation is the likeliest
//   continuation      context, continuation                         is it what the model would write (LAMBADA)
//   generated         query, answer (one, or a list of right ones)  does the model write it
//
// What is asked and how it is scored follows EleutherAI's lm-evaluation-harness.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "datasets/cloze.h"

namespace attar {

enum class TaskKind { kMultipleChoice, kTwoContexts, kContinuation, kGenerated };
const char* name_of(TaskKind kind);

struct TaskItem {
  std::vector<std::string> contexts;       // one; two_contexts: several, all with the one continuation. Shots stand before it
  std::vector<std::string> continuations;  // one; multiple_choice: several, all after the one context; generated: right answers
  std::int64_t gold = 0;                   // index of the right request
  std::string where;                       // "arc.jsonl:12", for messages

  std::size_t requests() const { return std::max(contexts.size(), continuations.size()); }
  const std::string& context(std::size_t i) const { return contexts[contexts.size() == 1 ? 0 : i]; }
  const std::string& continuation(std::size_t i) const { return continuations[continuations.size() == 1 ? 0 : i]; }
};

struct Task {
  std::string name;
  TaskKind kind = TaskKind::kMultipleChoice;
  std::vector<TaskItem> items;
  std::string delimiter = " ";             // between context and continuation
  std::int64_t shots = 0;                  // solved examples before each question
  // generated only
  std::vector<std::string> stop{"\n\n"};
  std::int64_t max_tokens = 256;
  bool ignore_case = false, ignore_punctuation = false;
  std::string extract;                     // regular expression: its last match (first group) in the text is the answer

  // Of everything that decides a score but the model: equal hashes, the same questions asked alike.
  std::string hash() const;
};

// As answers are compared: without space around it and what the task says to ignore.
std::string comparable(const std::string& text, const Task& task);

struct TaskOptions {
  std::int64_t limit = 0;   // the first so many items only; 0: all
  std::int64_t shots = -1;  // instead of what the task file says
  std::uint64_t seed = 0;   // which solved examples
};

// path: a .jsonl, or a .toml (docs/evaluation.md). Throws Error naming file and line: not JSON, a field that is missing or of
// another type, a gold index out of range, an empty choice, an unknown key, no item, too few items to take the shots from.
Task read_task(const std::string& path, const TaskOptions& options);

// The built-in items as a task named "cloze".
Task cloze_task(const std::vector<ClozeItem>& items);

}  // namespace attar
