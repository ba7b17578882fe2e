// The story in progress: who and what is in it, the text so far, and a small grammar that turns templates into text.
//
// A template is one sentence:
//   {a|b|c}   one of these, at random; may be nested, may be empty
//   [X]       what is bound to the letter X: a person's name, a thing's noun, or a text
//   [X.s] [X.o] [X.p]  a person as subject, object, owner: a pronoun where only that person can be meant, else the name
//   [X.he] [X.him] [X.his] [X.self]  always the pronoun;  [X.k]  what the person is ("girl", "fox")
//   [X.f] [X.c] [X.m]  a thing with its colour, its colour alone, its plural
//   @         a or an, as the next letter asks
// The first letter of a sentence and of direct speech becomes a capital.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "datasets/cloze.h"
#include "datasets/story_world.h"

namespace attar {

class Story {
 public:
  // collect: also keep the multiple-choice items that the story offers.
  void begin(Split split, std::uint64_t seed, bool collect);
  // False: some sentence found no wording that belongs to the split; the story must be told again with another seed.
  bool whole() const { return whole_; }
  // Appends the questions and answers; the story is complete.
  void finish();
  const std::string& text() const { return text_; }
  const std::vector<ClozeItem>& items() const { return items_; }  // gold is choices[0]

  void bind(char key, const Person& person);
  void bind(char key, const Thing& thing, std::string_view colour);
  void bind(char key, std::string_view text);
  const Person& person(char key) const { return slots_[index(key)].person; }
  const std::string& text_of(char key) const { return slots_[index(key)].text; }
  std::string_view noun_of(char key) const { return slots_[index(key)].thing.noun; }
  std::string_view colour_of(char key) const { return slots_[index(key)].colour; }

  void say(std::string_view sentence);
  void maybe(int percent, std::string_view sentence);
  // A sentence of the story, stem + " " + gold, that tells whether a reader has followed: the others would be wrong.
  void quiz(std::string_view kind, std::string_view stem, std::string_view gold,
            const std::vector<std::string>& others);
  // Something that is true when the story ends; some stories ask for it after the end.
  void fact(std::string_view kind, std::string_view question, std::string_view stem, std::string_view gold,
            const std::vector<std::string>& others);
  // Three wrong answers: `likely` first, the rest drawn from the list; none equals gold. Empty if nothing is collected.
  std::vector<std::string> wrong(std::span<const std::string_view> list, std::string_view gold,
                                 std::initializer_list<std::string_view> likely = {});

  std::uint64_t below(std::uint64_t bound) { return random_.below(bound); }
  int between(int low, int high) { return low + static_cast<int>(below(static_cast<std::uint64_t>(high - low + 1))); }
  bool chance(int percent) { return below(100) < static_cast<std::uint64_t>(percent); }
  template <class Range>
  const auto& pick(const Range& range) {
    return range[below(std::size(range))];
  }
  bool collecting() const { return collect_; }

 private:
  enum class Bound : std::uint8_t { kNothing, kPerson, kThing, kText };
  struct Slot {
    Bound bound = Bound::kNothing;
    Person person;
    Thing thing;
    std::string_view colour;
    std::string text;
    std::uint32_t bit = 0;  // of a person, in the masks below
  };
  // What has been mentioned, for pronouns: persons of this sentence and of the one before.
  struct Mentions {
    std::uint32_t before = 0, now = 0;
  };
  struct Fact {
    std::string kind, question, stem, gold;
    std::vector<std::string> others;
  };
  // Text under construction: what the next letter has to be.
  struct Draft {
    std::string text;
    Mentions mentions;
    bool capital = true, article = false, quoted = false;
  };

  static std::size_t index(char key) { return static_cast<std::size_t>(key) & 127; }
  void expand(std::string_view sentence, Draft& draft);
  void expand_choice(std::string_view inside, Draft& draft);
  void expand_slot(std::string_view name, Draft& draft);
  void put(std::string_view words, Draft& draft);
  bool owned(std::string_view text) const;
  bool try_say(std::string_view sentence);
  void commit(const Draft& draft);
  void collect(std::string_view kind, std::string context, const Draft& stem, std::string_view gold,
               const std::vector<std::string>& others);
  void ask(const Fact& fact, bool tell);

  Random random_{0};
  Split split_ = Split::kTrain;
  bool collect_ = false, whole_ = true;
  bool asks_ = false;  // facts are wanted: to be asked after the end, or collected
  std::array<Slot, 128> slots_;
  std::array<std::uint32_t, 4> of_gender_{};  // masks of the persons of each Gender
  std::uint32_t persons_ = 0;
  Mentions mentions_;
  Draft draft_;
  std::string text_;
  std::vector<Fact> facts_;
  std::vector<ClozeItem> items_;
};

}  // namespace attar
