// Telling one story of a split, for the corpus and for the cloze items.
#pragma once

#include <cstdint>

#include "datasets/story_writer.h"

namespace attar {

// The index-th story of a stream; story holds it afterwards.
void tell_story(Story& story, Split split, std::uint64_t seed, std::uint64_t index, bool collect);

}  // namespace attar
