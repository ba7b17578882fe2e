// Casting, beginnings and ends.
#include <algorithm>
#include <array>

#include "datasets/story_plots.h"

namespace attar {
namespace {

constexpr Verb kEveningVerbs[] = {
    {"go to bed early", "goes to bed early", "going to bed early", "went to bed early"},
    {"sleep very well", "sleeps very well", "sleeping very well", "slept very well"},
    {"sing a happy song", "sings a happy song", "singing a happy song", "sang a happy song"},
    {"write a long letter", "writes a long letter", "writing a long letter", "wrote a long letter"},
    {"eat warm soup", "eats warm soup", "eating warm soup", "ate warm soup"},
    {"draw a picture", "draws a picture", "drawing a picture", "drew a picture"},
    {"give [R] a big hug", "gives [R] a big hug", "giving [R] a big hug", "gave [R] a big hug"},
    {"drink a cup of milk", "drinks a cup of milk", "drinking a cup of milk", "drank a cup of milk"},
    {"tell everyone about it", "tells everyone about it", "telling everyone about it", "told everyone about it"},
    {"have a good dream", "has a good dream", "having a good dream", "had a good dream"}};

constexpr std::string_view kMorals[] = {"told the truth",
                                        "shared with other people",
                                        "said please and thank you",
                                        "helped people who were in trouble",
                                        "listened to good advice",
                                        "took good care of {small|little} things",
                                        "asked for help when things were hard",
                                        "tried again when something went wrong",
                                        "thought twice before getting angry",
                                        "tried to be kind to everyone",
                                        "kept every promise",
                                        "looked after [F]",
                                        "shared every {good|nice} thing with [F]",
                                        "waited patiently for a turn"};

// Each name once, so that a name means one person for the whole story.
std::string_view fresh_name(Story& s, std::span<const std::string_view> names, std::array<std::string_view, 3>& taken) {
  for (;;) {
    const std::string_view name = s.pick(names);
    if (std::find(taken.begin(), taken.end(), name) != taken.end()) continue;
    *std::find(taken.begin(), taken.end(), std::string_view()) = name;
    return name;
  }
}

}  // namespace

void cast(Story& s) {
  std::array<std::string_view, 3> taken{};
  const bool animals = s.chance(30);
  for (const char key : {'H', 'F', 'G'}) {
    const Gender gender = s.chance(50) ? Gender::kFemale : Gender::kMale;
    if (animals) {
      s.bind(key, Person{fresh_name(s, animal_names(), taken), s.pick(animal_kinds()), gender});
    } else if (gender == Gender::kFemale) {
      s.bind(key, Person{fresh_name(s, girl_names(), taken), "girl", gender});
    } else {
      s.bind(key, Person{fresh_name(s, boy_names(), taken), "boy", gender});
    }
  }
  s.bind('R', s.pick(relatives()));
  s.bind('S', s.pick(strangers()));
  s.bind('L', s.pick(places()));
  s.bind('P', s.pick(places()));
  s.bind('T', s.pick(traits()));
  s.bind('D', "{sunny|warm|cold|bright|windy|cloudy|quiet|fine} {morning|afternoon|day}");
}

void introduce_hero(Story& s) {
  s.say(
      "{{Once upon a time|Long ago|Once}, there {was|lived} @ [T] {little|} [H.k] named [H]|"
      "[H] was @ [T] {little|young|} [H.k] who lived {near|by|not far from} the [L]|"
      "{In a small house|In a little village|On a quiet street|In a cozy home} {near|by} the [L] lived @ [T] [H.k] "
      "{named|called} [H]|"
      "There was once @ [T] [H.k] {named|called} [H]}.");
  s.maybe(25,
          "[H.s] {liked|loved} to {sing|play|read|run|draw|dance|climb trees|look at the clouds|tell stories} "
          "{near|by|at} the [L]{| with [F]| every day| after school}.");
}

void introduce_friend(Story& s) {
  s.say(
      "[H.p] best friend was {@ {kind|funny|brave|clever|quiet} [F.k] named [F]|[F], @ {kind|funny|brave|clever|quiet} "
      "[F.k]|[F], who lived {next door|near the [L]|on the other side of the [L]}}.");
}

void close(Story& s, std::string_view deed) {
  if (s.chance(60)) {
    const Gender gender = s.person('H').gender;
    const std::string rest = std::string("[Z.he] had ") + std::string(deed) + ".";
    // The wrong answers are the same words about somebody else, so each needs its own pronouns: keys 1 to 4.
    constexpr char kKeys[] = {'1', '2', '3', '4'};
    std::vector<std::string> others;
    std::string gold;
    for (int g = 0; g < 4; ++g) {
      if (!s.collecting() && static_cast<int>(gender) != g) continue;
      s.bind(kKeys[g], Person{"", "", static_cast<Gender>(g)});
      std::string choice = rest;
      for (std::size_t at = 0; (at = choice.find("[Z", at)) != std::string::npos;) choice[at + 1] = kKeys[g];
      if (static_cast<int>(gender) == g) {
        gold = choice;
      } else {
        others.push_back(choice);
      }
    }
    s.quiz("pronoun",
           "{In the end|At last|Now|Afterward}, [H] {was {happy|proud|glad|very happy|very glad}|smiled|felt "
           "{happy|proud|wonderful}} because",
           gold, others);
  }
  if (s.chance(50)) {
    const Verb& verb = s.pick(kEveningVerbs);
    const auto end = [](std::string_view words) { return std::string(words) + "."; };
    std::vector<std::string> others;
    if (s.collecting()) others = {end(verb.base), end(verb.third), end(verb.present_participle)};
    s.quiz("verb", "{That {night|evening}|Late that {night|evening}|When it got dark|When the stars came out}, [H]",
           end(verb.past), others);
  }
  if (s.chance(60)) {
    s.bind('M', s.pick(kMorals));
    s.say(
        "{{From that day on|After that {day|}|Ever since that day}, [H] always [M]|[H] {never forgot|always "
        "remembered} "
        "that day{ at the [L]|}, and always [M]|And so [H] learned a lesson: {after that|from then on}, [H.he] always "
        "[M]}.");
  } else {
    s.maybe(
        60,
        "{[H] and [F] {were|stayed} {good|best|close} friends {for a long time|all {summer|winter|year} long|ever "
        "after}|"
        "[H] and [F] {walked|went|ran|skipped} home {together|side by side|hand in hand|past the [L]}{|, and both of "
        "them were {happy|tired|hungry|glad}}|It {was|had been} a {good|happy|long|wonderful} day "
        "for [H]{| and [F]}}.");
  }
}

const Thing& pick_toy(Story& s, char key) {
  const Thing& toy = s.pick(toys());
  s.bind(key, toy, s.pick(colours()));
  return toy;
}

const Thing& pick_food(Story& s, char key) {
  const Thing& food = s.pick(foods());
  s.bind(key, food, "");
  return food;
}

namespace {

std::vector<std::string> wrong_counts(Story& s, int gold, std::initializer_list<int> likely, const Thing& thing) {
  std::vector<std::string> others;
  if (!s.collecting()) return others;
  const auto offer = [&](int n) {
    if (others.size() == 3 || n < 1 || n > 20 || n == gold) return;
    const std::string text = counted(n, thing) + ".";
    if (std::find(others.begin(), others.end(), text) == others.end()) others.push_back(text);
  };
  for (const int n : likely) offer(n);
  for (const int n : {gold + 1, gold - 1, gold + 2, gold + 3}) offer(n);
  return others;
}

std::vector<std::string> ended(std::vector<std::string> answers) {
  for (std::string& answer : answers) answer += '.';
  return answers;
}

}  // namespace

void fact_who(Story& s, std::string_view question, std::string_view stem, char gold, std::string_view likely) {
  const std::string_view right = s.person(gold).name;
  std::array<std::string_view, 3> names{right, right, right};
  for (std::size_t i = 0; i < std::min<std::size_t>(3, likely.size()); ++i) names[i] = s.person(likely[i]).name;
  s.fact("who", question, stem, std::string(right) + ".",
         ended(s.wrong(all_names(), right, {names[0], names[1], names[2]})));
}

void fact_from(Story& s, std::string_view kind, std::string_view question, std::string_view stem, Words list,
               std::string_view gold, std::initializer_list<std::string_view> likely) {
  s.fact(kind, question, stem, std::string(gold) + ".", ended(s.wrong(list, gold, likely)));
}

void fact_count(Story& s, std::string_view question, std::string_view stem, int gold, std::initializer_list<int> likely,
                const Thing& thing) {
  s.fact("count", question, stem, counted(gold, thing) + ".", wrong_counts(s, gold, likely, thing));
}

void fact_colour(Story& s, std::string_view question, std::string_view stem, char thing) {
  fact_from(s, "colour", question, stem, colours(), s.colour_of(thing));
}

void quiz_count(Story& s, std::string_view stem, int gold, std::initializer_list<int> likely, const Thing& thing) {
  s.quiz("count", stem, counted(gold, thing) + ".", wrong_counts(s, gold, likely, thing));
}

std::string_view other_than(Story& s, Words list, std::initializer_list<std::string_view> taken) {
  for (;;) {
    const std::string_view word = s.pick(list);
    if (std::find(taken.begin(), taken.end(), word) == taken.end()) return word;
  }
}

}  // namespace attar
