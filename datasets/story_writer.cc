#include "datasets/story_writer.h"

#include <algorithm>

#include "base/error.h"

namespace attar {
namespace {

// Ways to begin a question and an answer, so that each has some wording for every split.
constexpr std::string_view kAsking =
    "{|||Now, |So, |Tell me, |Please tell me, |In this story, |In the story, |Do you remember, }";
constexpr std::string_view kAnswering =
    "{|||Well, |In this story, |In the story, |The story says that |We read that |I remember that |I think that }";
constexpr int kTries = 48;  // wordings drawn for one sentence before the story is given up

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// "an" before what sounds like a vowel; the corpus has no "unicorn".
bool takes_an(std::string_view word) {
  const char c = word[0];
  return c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u' || word.starts_with("honest") ||
         word.starts_with("hour");
}

}  // namespace

void Story::begin(Split split, std::uint64_t seed, bool collect) {
  random_ = Random(seed);
  split_ = split;
  collect_ = collect;
  whole_ = true;
  asks_ = collect || chance(40);
  for (Slot& slot : slots_) slot.bound = Bound::kNothing;
  of_gender_.fill(0);
  persons_ = 0;
  mentions_ = {};
  text_.clear();
  facts_.clear();
  items_.clear();
}

void Story::bind(char key, const Person& person) {
  Slot& slot = slots_[index(key)];
  slot.bound = Bound::kPerson;
  slot.person = person;
  // The same person under a second key keeps its place among those who have been mentioned.
  slot.bit = 0;
  for (const Slot& other : slots_) {
    if (&other != &slot && other.bound == Bound::kPerson && other.person.name == person.name) slot.bit = other.bit;
  }
  if (slot.bit == 0) slot.bit = 1u << persons_++;
  of_gender_[static_cast<std::size_t>(person.gender)] |= slot.bit;
}

void Story::bind(char key, const Thing& thing, std::string_view colour) {
  Slot& slot = slots_[index(key)];
  slot.bound = Bound::kThing;
  slot.thing = thing;
  slot.colour = colour;
}

void Story::bind(char key, std::string_view text) {
  Slot& slot = slots_[index(key)];
  slot.bound = Bound::kText;
  slot.text = text;
}

void Story::put(std::string_view words, Draft& draft) {
  for (std::size_t i = 0; i < words.size(); ++i) {
    const char c = words[i];
    if (c == '@') {
      draft.article = true;
      draft.text += draft.capital ? 'A' : 'a';
      draft.capital = false;
      continue;
    }
    if (is_letter(c)) {
      if (draft.article && takes_an(words.substr(i))) {
        draft.text.back() = 'n';
        draft.text += ' ';
      }
      draft.article = false;
      draft.text += draft.capital && c >= 'a' ? static_cast<char>(c - 'a' + 'A') : c;
      draft.capital = false;
      while (i + 1 < words.size() && is_letter(words[i + 1])) draft.text += words[++i];
      continue;
    }
    if (c == ' ' && (draft.text.empty() || draft.text.back() == ' ')) continue;  // an empty choice between two words
    if (c == '.' && draft.text.ends_with('"') && draft.capital) continue;        // direct speech has ended the sentence
    if ((c == ',' || c == '.' || c == '?' || c == '!') && draft.text.ends_with(' ')) draft.text.pop_back();
    draft.text += c;
    if (c == '"') {
      draft.quoted = !draft.quoted;
      if (draft.quoted) draft.capital = true;
    } else if (c == '.' || c == '!' || c == '?') {
      draft.capital = true;
    }
  }
}

void Story::expand_slot(std::string_view name, Draft& draft) {
  const Slot& slot = slots_[index(name[0])];
  const std::string_view form = name.size() > 2 ? name.substr(2) : std::string_view();
  switch (slot.bound) {
    case Bound::kText:
      return expand(slot.text, draft);
    case Bound::kThing:
      if (form == "c") return put(slot.colour, draft);
      if (form == "m") return put(slot.thing.plural, draft);
      if (form == "f") {
        put(slot.colour, draft);
        put(" ", draft);
      }
      return put(slot.thing.noun, draft);
    case Bound::kPerson: {
      if (form == "k") return put(slot.person.kind, draft);
      Mentions& mentions = draft.mentions;
      const Pronouns& words = pronouns(slot.person.gender);
      const std::uint32_t same = of_gender_[static_cast<std::size_t>(slot.person.gender)];
      const bool clear = ((mentions.before | mentions.now) & same) == slot.bit;
      mentions.now |= slot.bit;
      if (form == "he") return put(words.subject, draft);
      if (form == "him") return put(words.object, draft);
      if (form == "his") return put(words.possessive, draft);
      if (form == "self") return put(words.reflexive, draft);
      if (!form.empty() && clear && chance(75)) {
        return put(form == "s" ? words.subject : form == "o" ? words.object : words.possessive, draft);
      }
      put(slot.person.name, draft);
      if (form == "p") put("'s", draft);
      return;
    }
    case Bound::kNothing:
      fail("[stories] a template names [", name, "], which this plot has not bound");
  }
}

void Story::expand_choice(std::string_view inside, Draft& draft) {
  std::uint64_t count = 1;
  int depth = 0;
  for (const char c : inside) {
    depth += c == '{' ? 1 : c == '}' ? -1 : 0;
    if (c == '|' && depth == 0) ++count;
  }
  std::uint64_t skip = below(count);
  std::size_t from = 0, to = 0;
  for (depth = 0; to < inside.size(); ++to) {
    const char c = inside[to];
    depth += c == '{' ? 1 : c == '}' ? -1 : 0;
    if (c != '|' || depth != 0) continue;
    if (skip-- == 0) break;
    from = to + 1;
  }
  expand(inside.substr(from, to - from), draft);
}

void Story::expand(std::string_view sentence, Draft& draft) {
  std::size_t at = 0;
  while (at < sentence.size()) {
    const std::size_t special = std::min(sentence.find_first_of("{[", at), sentence.size());
    put(sentence.substr(at, special - at), draft);
    if (special == sentence.size()) return;
    std::size_t end = special + 1;
    if (sentence[special] == '[') {
      end = sentence.find(']', special);
      expand_slot(sentence.substr(special + 1, end - special - 1), draft);
    } else {
      for (int depth = 1; depth > 0; ++end) depth += sentence[end] == '{' ? 1 : sentence[end] == '}' ? -1 : 0;
      --end;
      expand_choice(sentence.substr(special + 1, end - special - 1), draft);
    }
    at = end + 1;
  }
}

bool Story::owned(std::string_view text) const {
  for (const std::string_view sentence : split_sentences(text)) {
    if (sentence_split(sentence) != split_) return false;
  }
  return true;
}

void Story::commit(const Draft& draft) {
  if (!text_.empty()) text_ += ' ';
  text_ += draft.text;
  mentions_ = draft.mentions;
  if (mentions_.now != 0) mentions_.before = mentions_.now;
  mentions_.now = 0;
}

bool Story::try_say(std::string_view sentence) {
  for (int i = 0; i < kTries && whole_; ++i) {
    draft_.text.clear();
    draft_.mentions = mentions_;
    draft_.capital = true;
    draft_.article = draft_.quoted = false;
    expand(sentence, draft_);
    if (!owned(draft_.text)) continue;
    commit(draft_);
    return true;
  }
  return false;
}

void Story::say(std::string_view sentence) {
  if (!try_say(sentence)) whole_ = false;
}

void Story::maybe(int percent, std::string_view sentence) {
  if (chance(percent)) try_say(sentence);
}

void Story::quiz(std::string_view kind, std::string_view stem, std::string_view gold,
                 const std::vector<std::string>& others) {
  for (int i = 0; i < kTries && whole_; ++i) {
    Draft draft{{}, mentions_};
    expand(stem, draft);
    const Draft before_gap = draft;
    put(" ", draft);
    expand(gold, draft);
    if (!owned(draft.text)) continue;
    if (collect_)
      collect(kind, text_.empty() ? before_gap.text : text_ + " " + before_gap.text, before_gap, gold, others);
    commit(draft);
    return;
  }
  whole_ = false;
}

void Story::fact(std::string_view kind, std::string_view question, std::string_view stem, std::string_view gold,
                 const std::vector<std::string>& others) {
  if (!asks_) return;
  facts_.push_back({std::string(kind), std::string(question), std::string(stem), std::string(gold), others});
}

void Story::collect(std::string_view kind, std::string context, const Draft& stem, std::string_view gold,
                    const std::vector<std::string>& others) {
  ClozeItem item{std::move(context), {}, 0, std::string(kind)};
  const auto add = [&](std::string_view choice) {
    Draft draft = stem;
    const std::size_t from = draft.text.size();
    put(" ", draft);
    expand(choice, draft);
    item.choices.push_back(draft.text.substr(from));
  };
  add(gold);
  for (const std::string& other : others) add(other);
  items_.push_back(std::move(item));
}

// The first letter in lower case, to follow other words; templates of slots and choices stay.
std::string lower_first(std::string text) {
  if (!text.empty() && text[0] >= 'A' && text[0] <= 'Z') text[0] = static_cast<char>(text[0] - 'A' + 'a');
  return text;
}

// tell: the question and its answer become part of the text; otherwise they are only collected.
void Story::ask(const Fact& fact, bool tell) {
  for (int i = 0; i < kTries && whole_; ++i) {
    Draft draft;
    put("Question: ", draft);
    draft.capital = true;
    expand(kAsking, draft);
    expand(lower_first(fact.question), draft);
    put(" Answer: ", draft);
    draft.capital = true;
    expand(kAnswering, draft);
    expand(lower_first(fact.stem), draft);
    const Draft before_gap = draft;
    put(" ", draft);
    expand(fact.gold, draft);
    if (!owned(draft.text)) continue;
    if (tell) {
      text_ += '\n';
      text_ += draft.text;
    } else {
      collect(fact.kind, text_ + "\n" + before_gap.text, before_gap, fact.gold, fact.others);
    }
    return;
  }
}

void Story::finish() {
  if (!whole_ || facts_.empty()) return;
  if (collect_) {
    for (const Fact& fact : facts_) ask(fact, false);
    return;
  }
  random_.shuffle(facts_);
  const std::size_t count = std::min<std::size_t>(facts_.size(), 1 + below(2));
  for (std::size_t i = 0; i < count; ++i) ask(facts_[i], true);
}

std::vector<std::string> Story::wrong(std::span<const std::string_view> list, std::string_view gold,
                                      std::initializer_list<std::string_view> likely) {
  std::vector<std::string> others;
  if (!collect_) return others;
  const auto offer = [&](std::string_view candidate) {
    if (others.size() == 3 || candidate == gold) return;
    if (std::find(others.begin(), others.end(), candidate) == others.end()) others.emplace_back(candidate);
  };
  for (const std::string_view candidate : likely) offer(candidate);
  while (others.size() < 3) offer(pick(list));
  return others;
}

}  // namespace attar
