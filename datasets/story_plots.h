// The plots. Each simulates one small chain of events, binds who and what takes part, and tells it through a Story.
#pragma once

#include <span>

#include "datasets/story_writer.h"

namespace attar {

using Plot = void (*)(Story&);  // the one table of them is in stories.cc

// story_plots_things.cc: what is had, lost, given, shared and mended
void lost_thing(Story& s);
void broken_toy(Story& s);
void secret_gift(Story& s);
void passed_along(Story& s);
void quarrel(Story& s);
// story_plots_numbers.cc: what is counted, compared and ordered
void sharing_food(Story& s);
void market(Story& s);
void garden(Story& s);
void race(Story& s);
void biggest(Story& s);
void basket_of_food(Story& s);
// story_plots_outside.cc: what happens under way
void building(Story& s);
void rain(Story& s);
void hungry_animal(Story& s);
void lost_way(Story& s);
void swimming(Story& s);
void night_noise(Story& s);

// story_cast.cc: what all plots share. H is the hero, F and G two friends, R a relative, S a stranger.
void cast(Story& s);
void introduce_hero(Story& s);  // one or two sentences
void introduce_friend(Story& s);
// The end of the story; deed completes "had ...", for instance "found [Z.his] red ball", with Z standing for the hero.
void close(Story& s, std::string_view deed);
// Binds key to a toy with a colour, or to a food or vegetable.
const Thing& pick_toy(Story& s, char key);
const Thing& pick_food(Story& s, char key);
// Facts to ask about, by kind of answer. likely: wrong answers that the story itself suggests; for persons their keys.
using Words = std::span<const std::string_view>;
void fact_who(Story& s, std::string_view question, std::string_view stem, char gold, std::string_view likely);
void fact_from(Story& s, std::string_view kind, std::string_view question, std::string_view stem, Words list,
               std::string_view gold, std::initializer_list<std::string_view> likely = {});
void fact_count(Story& s, std::string_view question, std::string_view stem, int gold, std::initializer_list<int> likely,
                const Thing& thing);
void fact_colour(Story& s, std::string_view question, std::string_view stem, char thing);
// A sentence of the story that ends with a count.
void quiz_count(Story& s, std::string_view stem, int gold, std::initializer_list<int> likely, const Thing& thing);
// An entry of the list that is none of the taken.
std::string_view other_than(Story& s, Words list, std::initializer_list<std::string_view> taken);

}  // namespace attar
