#include "distill/layer_map.h"

#include <gtest/gtest.h>

#include "tests/support.h"

namespace attar {
namespace {

using Pairs = std::vector<LayerPair>;

Pairs pairs(const std::string& text, std::int64_t student, std::int64_t teacher) {
  return layer_pairs(parse_layer_map(text), student, teacher);
}

TEST(LayerMap, IsReadAndWritten) {
  for (const char* text : {"uniform", "last", "learned", "0:0", "0:0,1:2,3:5"}) EXPECT_EQ(layer_map_text(parse_layer_map(text)), text);
  EXPECT_EQ(layer_map_text(parse_layer_map("3:5,0:1")), "0:1,3:5");
}

TEST(LayerMap, PairsLayers) {
  EXPECT_EQ(pairs("uniform", 4, 12), (Pairs{{0, 2}, {1, 5}, {2, 8}, {3, 11}}));  // TinyBERT's g(m) = 3 m
  EXPECT_EQ(pairs("uniform", 3, 3), (Pairs{{0, 0}, {1, 1}, {2, 2}}));
  EXPECT_EQ(pairs("uniform", 4, 6), (Pairs{{0, 1}, {1, 2}, {2, 4}, {3, 5}}));
  EXPECT_EQ(pairs("uniform", 3, 2), (Pairs{{0, 0}, {1, 1}, {2, 1}}));
  EXPECT_EQ(pairs("last", 4, 6), (Pairs{{3, 5}}));
  EXPECT_EQ(pairs("learned", 2, 3), (Pairs{{0, 0}, {0, 1}, {0, 2}, {1, 0}, {1, 1}, {1, 2}}));
  EXPECT_EQ(pairs("3:5,1:5", 4, 6), (Pairs{{1, 5}, {3, 5}}));
}

TEST(LayerMap, RefusesWhatMakesNoSense) {
  const auto refused = [](const char* text) { return test::error_of([&] { pairs(text, 4, 6); }); };
  for (const char* text : {"", "uniforn", "0", "0:", ":1", "0:1,", "0:-1", "0:1;1:2", "0:1x"})
    EXPECT_HAS(refused(text), "expected uniform, last, learned, or pairs") << text;
  EXPECT_HAS(refused("0:1,0:2"), "layer 0 of the student comes twice");
  EXPECT_HAS(refused("4:1"), "the student has no layer 4; its layers are 0 to 3");
  EXPECT_HAS(refused("0:0,1:6"), "layer map '0:0,1:6': the teacher has no layer 6; its layers are 0 to 5");
}

}  // namespace
}  // namespace attar
