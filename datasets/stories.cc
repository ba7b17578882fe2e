#include "datasets/stories.h"

#include <utility>

#include "base/error.h"
#include "datasets/story_plots.h"
#include "datasets/story_teller.h"

namespace attar {
namespace {

constexpr Plot kPlots[] = {lost_thing,    broken_toy, secret_gift, passed_along, quarrel,       sharing_food,
                           market,        garden,     race,        biggest,      building,      rain,
                           hungry_animal, lost_way,   swimming,    night_noise,  basket_of_food};

constexpr int kRedraws = 100000;

std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  Random random(a * 0x9e3779b97f4a7c15u + b);
  return random.next();
}

}  // namespace

Split parse_split(std::string_view name) {
  for (const Split split : {Split::kTrain, Split::kCalibration, Split::kHeldout}) {
    if (name == split_name(split)) return split;
  }
  fail("[stories] the built-in corpus has no part '", name, "'; one of train, calibration, heldout");
}

std::string_view split_name(Split split) {
  switch (split) {
    case Split::kTrain:
      return "train";
    case Split::kCalibration:
      return "calibration";
    case Split::kHeldout:
      return "heldout";
  }
  fail("[stories] split out of range");
}

std::int64_t default_story_count(Split split) { return split == Split::kTrain ? 20000 : 256; }

// The plot is drawn first and kept while the story is told again and again until all
// its sentences belong to the split, so that every plot is as frequent in every split.
void tell_story(Story& story, Split split, std::uint64_t seed, std::uint64_t index, bool collect) {
  Random random(mix(mix(seed, static_cast<std::uint64_t>(split)), index));
  const Plot plot = kPlots[random.below(std::size(kPlots))];
  for (int i = 0; i < kRedraws; ++i) {
    story.begin(split, random.next(), collect);
    cast(story);
    plot(story);
    story.finish();
    if (story.whole()) return;
  }
  fail("[stories] story ", index, ": no wording belongs to split ", split_name(split));
}

StoryStream::StoryStream(Split split, std::uint64_t seed)
    : split_(split), seed_(seed), story_(std::make_unique<Story>()) {}
StoryStream::~StoryStream() = default;

std::string StoryStream::next() {
  tell_story(*story_, split_, seed_, index_++, false);
  return story_->text();
}

std::vector<std::string> story_documents(Split split, std::int64_t count) {
  if (count < 0) count = default_story_count(split);
  std::vector<std::string> documents;
  documents.reserve(static_cast<std::size_t>(count));
  StoryStream stream(split);
  while (std::cmp_less(documents.size(), count)) documents.push_back(stream.next());
  return documents;
}

std::vector<std::string_view> split_sentences(std::string_view text) {
  std::vector<std::string_view> sentences;
  std::size_t from = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '.' && text[i] != '!' && text[i] != '?') continue;
    std::size_t end = i + 1;
    if (end < text.size() && text[end] == '"') ++end;
    if (end < text.size() && text[end] != ' ' && text[end] != '\n') continue;
    sentences.push_back(text.substr(from, end - from));
    while (end < text.size() && (text[end] == ' ' || text[end] == '\n')) ++end;
    from = end;
    i = end - 1;
  }
  if (from < text.size()) sentences.push_back(text.substr(from));
  return sentences;
}

// FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv/), its bits mixed once more, in sixteenths: 12 train, 2
// calibration, 2 held out.
Split sentence_split(std::string_view sentence) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  bool gap = false, any = false;
  const auto add = [&](unsigned char c) { hash = (hash ^ c) * 0x100000001b3u; };
  for (const char c : sentence) {
    const auto byte = static_cast<unsigned char>(c);
    const bool lower = byte >= 'a' && byte <= 'z', upper = byte >= 'A' && byte <= 'Z';
    if (!lower && !upper && !(byte >= '0' && byte <= '9')) {
      gap = any;
      continue;
    }
    if (gap) add(' ');
    gap = false;
    any = true;
    add(upper ? static_cast<unsigned char>(byte - 'A' + 'a') : byte);
  }
  hash ^= hash >> 33;
  hash *= 0xff51afd7ed558ccdu;
  hash ^= hash >> 33;
  const auto sixteenth = hash >> 60;
  return sixteenth < 12 ? Split::kTrain : sixteenth < 14 ? Split::kCalibration : Split::kHeldout;
}

}  // namespace attar
