#include "datasets/cloze.h"

#include <map>
#include <utility>

#include "datasets/story_teller.h"

namespace attar {
namespace {

constexpr std::uint64_t kSeed = 0x636c6f7a65;  // "cloze"

}  // namespace

std::vector<ClozeItem> cloze_items(Split split, std::int64_t count) {
  std::vector<ClozeItem> items;
  items.reserve(static_cast<std::size_t>(count));
  Random random(kSeed ^ static_cast<std::uint64_t>(split));
  Story story;
  std::vector<int> positions;
  std::map<std::string, std::int64_t> made;  // by kind
  for (std::uint64_t index = 0; std::cmp_less(items.size(), count); ++index) {
    tell_story(story, split, kSeed, index, true);
    // One item a story, of the kind that there are fewest of so far among those the story offers.
    std::vector<const ClozeItem*> offered;
    for (const ClozeItem& item : story.items()) {
      if (!offered.empty() && made[item.kind] > made[offered[0]->kind]) continue;
      if (!offered.empty() && made[item.kind] < made[offered[0]->kind]) offered.clear();
      offered.push_back(&item);
    }
    if (offered.empty()) continue;
    ClozeItem item = *offered[random.below(offered.size())];
    if (positions.empty()) {
      positions = {0, 1, 2, 3};
      random.shuffle(positions);
    }
    std::vector<std::string> wrong(item.choices.begin() + 1, item.choices.end());
    random.shuffle(wrong);
    const std::string gold = item.choices[0];
    item.gold = positions.back();
    positions.pop_back();
    item.choices = wrong;
    item.choices.insert(item.choices.begin() + item.gold, gold);
    ++made[item.kind];
    items.push_back(std::move(item));
  }
  return items;
}

}  // namespace attar
