// Reads stories again without knowing how they were made: words, names, numbers.
#pragma once

#include <algorithm>
#include <cctype>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "datasets/stories.h"
#include "datasets/story_world.h"

namespace attar::test {

inline bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

template <class List>
bool is_one_of(std::string_view word, const List& list) {
  return std::find(std::begin(list), std::end(list), word) != std::end(list);
}

inline std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words(1);
  for (const char c : text) {
    if (std::isalpha(static_cast<unsigned char>(c)) != 0) {
      words.back() += c;
    } else if (!words.back().empty()) {
      words.emplace_back();
    }
  }
  if (words.back().empty()) words.pop_back();
  return words;
}

inline std::optional<int> number_of(std::string_view word) {
  for (int n = 0; n <= 20; ++n) {
    if (word == number_word(n)) return n;
  }
  return std::nullopt;
}

// Gender by the name of a child; nothing for animals and grown-ups.
inline std::optional<Gender> gender_of(std::string_view name) {
  if (is_one_of(name, girl_names())) return Gender::kFemale;
  if (is_one_of(name, boy_names())) return Gender::kMale;
  return std::nullopt;
}

// Numbers that count `nouns` in a sentence, in order.
inline std::vector<int> counts_in(std::string_view sentence, std::string_view singular, std::string_view plural) {
  std::vector<int> counts;
  const auto words = words_of(sentence);
  for (std::size_t i = 0; i + 1 < words.size(); ++i) {
    const auto n = number_of(words[i]);
    if (n && (words[i + 1] == singular || words[i + 1] == plural)) counts.push_back(*n);
  }
  return counts;
}

// The end of a chain of counts as a child would follow it: what the story's sharing, buying or gathering comes to.
// Nothing if the story is of another kind. `holds` is called with every statement of the story about the present count.
struct Tally {
  int now = 0;         // what there is after all sentences
  int statements = 0;  // sentences that say how many there are now
  int wrong = 0;       // ... and are wrong
};

inline std::optional<Tally> tally(std::string_view story) {
  const std::string_view body = story.substr(0, std::min(story.find('\n'), story.size()));
  const auto sentences = split_sentences(body);
  const auto states = [](std::string_view s) {
    for (const std::string_view verb : {" had ", " there were ", " was left with "}) {
      if (contains(s, verb)) return true;
    }
    return false;
  };
  const auto follow = [&](std::string_view singular, std::string_view plural) -> std::optional<Tally> {
    Tally result;
    bool begun = false;
    for (const std::string_view s : sentences) {
      const auto n = counts_in(s, singular, plural);
      if (!begun) {
        if (n.size() == 2) {  // "Tom brought three eggs, and Mia found four eggs."
          result.now = n[0] + n[1];
          begun = true;
        } else if (n.size() == 1 && contains(s, " gave ")) {
          result.now = n[0];
          begun = true;
        }
        continue;
      }
      if (states(s) && n.size() == 1) {
        ++result.statements;
        result.wrong += n[0] != result.now ? 1 : 0;
        continue;
      }
      // Something is given, paid, stolen or eaten.
      static constexpr std::string_view kTaking[] = {" gave ",        " counted out ", " took ", " paid ",
                                                     "You can have ", " ate ",         " stole "};
      for (const std::string_view verb : kTaking) {
        if (!contains(s, verb)) continue;
        const auto words = words_of(s);
        int taken = n.size() == 1 ? n[0] : 0;
        for (std::size_t i = 0; n.empty() && i < words.size(); ++i) {
          if (const auto k = number_of(words[i])) taken = *k;
        }
        result.now -= taken;
        break;
      }
    }
    return begun && result.statements > 0 ? std::optional(result) : std::nullopt;
  };
  if (contains(body, " coins ")) return follow("coin", "coins");
  if (contains(body, " seeds")) return std::nullopt;
  for (const Thing& food : foods()) {
    if (const auto result = follow(food.noun, food.plural)) return result;
  }
  return std::nullopt;
}

}  // namespace attar::test
