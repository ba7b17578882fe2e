// The built-in corpus: short English stories told by a small world simulation. A plot moves people, things and numbers
// about (story_plots_*.cc), and a grammar says what happened in one of many ways (story_writer.h). The same split and
// seed give the same stories on every machine. docs/builtin-corpus.md describes it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace attar {

// No sentence of one split occurs in another: a sentence's own hash says which split may use it (sentence_split).
enum class Split { kTrain, kCalibration, kHeldout };

Split parse_split(std::string_view name);  // "train", "calibration", "heldout"; throws Error for another name
std::string_view split_name(Split split);

// How many stories builtin:NAME stands for: 20,000 to train on, 256 to calibrate with, 256 held out.
std::int64_t default_story_count(Split split);

class Story;

// Stories without end. Two streams of the same split with different seeds are different stories.
class StoryStream {
 public:
  explicit StoryStream(Split split, std::uint64_t seed = 0);
  ~StoryStream();
  std::string next();

 private:
  Split split_;
  std::uint64_t seed_;
  std::uint64_t index_ = 0;
  std::unique_ptr<Story> story_;
};

// The first `count` stories of the stream with seed 0; count < 0: as many as builtin:NAME has.
std::vector<std::string> story_documents(Split split, std::int64_t count = -1);

// The sentences of a text: each ends with . ! or ?, with a closing quotation mark if there is one.
std::vector<std::string_view> split_sentences(std::string_view text);
// The split that owns a sentence: a hash of its letters and digits, in lower case.
Split sentence_split(std::string_view sentence);

}  // namespace attar
