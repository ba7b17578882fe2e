// Who and what the stories are about.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace attar {

enum class Gender : std::uint8_t { kMale, kFemale, kNeuter, kPlural };

struct Person {
  std::string_view name;  // "Tom", "Grandma", "the baker"
  std::string_view kind;  // "boy", "grandmother", "baker"
  Gender gender = Gender::kNeuter;
};

struct Thing {
  std::string_view noun, plural;
};

struct Verb {
  std::string_view base, third, present_participle, past;
};

struct Pronouns {
  std::string_view subject, object, possessive, reflexive;
};
const Pronouns& pronouns(Gender gender);

std::span<const std::string_view> girl_names();
std::span<const std::string_view> boy_names();
std::span<const std::string_view> animal_names();
std::span<const std::string_view> all_names();  // the three lists above in one
std::span<const std::string_view> animal_kinds();
std::span<const Person> relatives();  // Grandma, Dad, ...
std::span<const Person> strangers();  // the baker, ...
std::span<const Thing> toys();        // things that are owned, lost, broken and given
std::span<const Thing> foods();       // things that are counted and eaten
std::span<const Thing> vegetables();  // things that are sown and harvested; the first eight grow large
std::span<const std::string_view> toy_nouns();
std::span<const std::string_view> food_plurals();
std::span<const std::string_view> colours();
std::span<const std::string_view> traits();
std::span<const std::string_view> places();         // after "the"
std::span<const std::string_view> indoor_spots();   // "under the bed"
std::span<const std::string_view> outdoor_spots();  // "behind the barn"
std::span<const std::string_view> all_spots();
std::span<const std::string_view> shelters();  // "under an old oak tree"

std::string_view number_word(int n);             // 0 to 20
std::string counted(int n, const Thing& thing);  // "one apple", "three apples"

}  // namespace attar
