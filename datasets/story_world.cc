#include "datasets/story_world.h"

#include <algorithm>
#include <vector>

namespace attar {
namespace {

using Words = std::string_view;

constexpr Words kGirls[] = {"Lily",  "Anna", "Mia",  "Sara", "Ella", "Lucy", "Nora",  "Zoe",
                            "Amy",   "Kate", "Ruby", "Ivy",  "Emma", "Jane", "Molly", "Grace",
                            "Clara", "Ada",  "Tess", "Nina", "Eva",  "Maya", "Rosa",  "Alice"};
constexpr Words kBoys[] = {"Tom",  "Ben",  "Max",   "Sam",  "Tim",   "Jack",  "Leo",   "Dan",
                           "Finn", "Noah", "Luke",  "Adam", "Peter", "Oscar", "Henry", "Theo",
                           "Jake", "Hugo", "Felix", "Paul", "Carl",  "Otto",  "Eric",  "George"};
constexpr Words kAnimalNames[] = {"Pip",   "Dot",  "Fern", "Moss",   "Hazel",  "Patch", "Puff",    "Dash",
                                  "Tilly", "Bobo", "Mimi", "Clover", "Pebble", "Sunny", "Biscuit", "Willow"};
constexpr Words kAnimals[] = {"fox",    "rabbit", "bear", "mouse", "squirrel", "duck",   "hedgehog", "frog",
                              "badger", "otter",  "cat",  "lamb",  "pony",     "beaver", "mole",     "goat"};
constexpr Person kRelatives[] = {{"Grandma", "grandmother", Gender::kFemale}, {"Grandpa", "grandfather", Gender::kMale},
                                 {"Mom", "mother", Gender::kFemale},          {"Dad", "father", Gender::kMale},
                                 {"Aunt May", "aunt", Gender::kFemale},       {"Uncle Bill", "uncle", Gender::kMale}};
constexpr Person kStrangers[] = {
    {"the baker", "baker", Gender::kMale},         {"the farmer", "farmer", Gender::kFemale},
    {"the teacher", "teacher", Gender::kFemale},   {"the old man", "man", Gender::kMale},
    {"the old woman", "woman", Gender::kFemale},   {"the postman", "postman", Gender::kMale},
    {"the fisherman", "fisherman", Gender::kMale}, {"the miller", "miller", Gender::kMale},
    {"the shepherd", "shepherd", Gender::kFemale}, {"the blacksmith", "blacksmith", Gender::kMale},
    {"the gardener", "gardener", Gender::kFemale}, {"the doctor", "doctor", Gender::kFemale}};
constexpr Thing kToys[] = {{"ball", "balls"},       {"kite", "kites"},           {"doll", "dolls"},
                           {"drum", "drums"},       {"boat", "boats"},           {"hat", "hats"},
                           {"scarf", "scarves"},    {"book", "books"},           {"cup", "cups"},
                           {"ring", "rings"},       {"bell", "bells"},           {"lamp", "lamps"},
                           {"basket", "baskets"},   {"umbrella", "umbrellas"},   {"puppet", "puppets"},
                           {"robot", "robots"},     {"toy train", "toy trains"}, {"truck", "trucks"},
                           {"whistle", "whistles"}, {"button", "buttons"},       {"necklace", "necklaces"},
                           {"crown", "crowns"},     {"flute", "flutes"},         {"mug", "mugs"}};
constexpr Thing kFoods[] = {{"apple", "apples"},   {"pear", "pears"},     {"cookie", "cookies"}, {"plum", "plums"},
                            {"egg", "eggs"},       {"nut", "nuts"},       {"berry", "berries"},  {"cherry", "cherries"},
                            {"cake", "cakes"},     {"bun", "buns"},       {"orange", "oranges"}, {"peach", "peaches"},
                            {"banana", "bananas"}, {"muffin", "muffins"}, {"fig", "figs"},       {"pie", "pies"}};
constexpr Thing kVegetables[] = {{"pumpkin", "pumpkins"}, {"cabbage", "cabbages"}, {"melon", "melons"},
                                 {"potato", "potatoes"},  {"turnip", "turnips"},   {"onion", "onions"},
                                 {"tomato", "tomatoes"},  {"carrot", "carrots"},   {"bean", "beans"},
                                 {"radish", "radishes"},  {"tulip", "tulips"},     {"sunflower", "sunflowers"}};
constexpr Words kColours[] = {"red",   "blue",  "green", "yellow", "orange", "purple",
                              "white", "black", "brown", "pink",   "gray",   "golden"};
constexpr Words kTraits[] = {"kind",     "brave",    "shy",     "curious", "clever",     "careful",
                             "gentle",   "cheerful", "patient", "honest",  "helpful",    "quiet",
                             "friendly", "lively",   "busy",    "playful", "thoughtful", "merry"};
constexpr Words kPlaces[] = {"park", "forest", "river", "beach",  "school", "garden",  "hill", "farm",
                             "lake", "meadow", "mill",  "bridge", "barn",   "orchard", "pond", "harbor"};
constexpr Words kIndoor[] = {"under the bed",     "behind the sofa",   "on the kitchen table", "behind the door",
                             "under the blanket", "on the top shelf",  "inside a boot",        "next to the stove",
                             "under the stairs",  "in the wooden box", "behind the curtain",   "in the laundry basket"};
constexpr Words kOutdoor[] = {"behind the barn",     "under a bush",      "near the pond",        "beside the old well",
                              "on the garden wall",  "in the tall grass", "under the bridge",     "next to the gate",
                              "behind the big rock", "in a bird's nest",  "under the apple tree", "by the fence"};
constexpr Words kShelters[] = {"under an old oak tree",  "in a small cave",      "inside an empty barn",
                               "under the stone bridge", "in a wooden hut",      "under a wide roof",
                               "in the bakery",          "inside a hollow tree", "in the school hall",
                               "under a big umbrella",   "in an old boat house", "beneath a cart"};
constexpr Words kNumbers[] = {"zero",     "one",     "two",     "three",     "four",     "five",     "six",
                              "seven",    "eight",   "nine",    "ten",       "eleven",   "twelve",   "thirteen",
                              "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"};

std::vector<Words> joined(std::initializer_list<std::span<const Words>> lists) {
  std::vector<Words> all;
  for (const auto list : lists) all.insert(all.end(), list.begin(), list.end());
  return all;
}

std::vector<Words> nouns_of(std::span<const Thing> things, std::string_view Thing::*form) {
  std::vector<Words> nouns;
  for (const Thing& thing : things) nouns.push_back(thing.*form);
  return nouns;
}

}  // namespace

const Pronouns& pronouns(Gender gender) {
  static constexpr Pronouns kPronouns[] = {{"he", "him", "his", "himself"},
                                           {"she", "her", "her", "herself"},
                                           {"it", "it", "its", "itself"},
                                           {"they", "them", "their", "themselves"}};
  return kPronouns[static_cast<std::size_t>(gender)];
}

std::span<const Words> girl_names() { return kGirls; }
std::span<const Words> boy_names() { return kBoys; }
std::span<const Words> animal_names() { return kAnimalNames; }
std::span<const Words> animal_kinds() { return kAnimals; }
std::span<const Person> relatives() { return kRelatives; }
std::span<const Person> strangers() { return kStrangers; }
std::span<const Thing> toys() { return kToys; }
std::span<const Thing> foods() { return kFoods; }
std::span<const Thing> vegetables() { return kVegetables; }
std::span<const Words> colours() { return kColours; }
std::span<const Words> traits() { return kTraits; }
std::span<const Words> places() { return kPlaces; }
std::span<const Words> indoor_spots() { return kIndoor; }
std::span<const Words> outdoor_spots() { return kOutdoor; }
std::span<const Words> shelters() { return kShelters; }

std::span<const Words> all_names() {
  static const std::vector<Words> all = joined({kGirls, kBoys, kAnimalNames});
  return all;
}
std::span<const Words> all_spots() {
  static const std::vector<Words> all = joined({kIndoor, kOutdoor});
  return all;
}
std::span<const Words> toy_nouns() {
  static const std::vector<Words> all = nouns_of(kToys, &Thing::noun);
  return all;
}
std::span<const Words> food_plurals() {
  static const std::vector<Words> all = nouns_of(kFoods, &Thing::plural);
  return all;
}

std::string_view number_word(int n) { return kNumbers[n]; }

std::string counted(int n, const Thing& thing) {
  std::string text(number_word(n));
  text += ' ';
  text += n == 1 ? thing.noun : thing.plural;
  return text;
}

}  // namespace attar
