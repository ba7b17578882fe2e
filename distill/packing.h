// Documents into chunks of one length.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <vector>

#include "datasets/documents.h"

namespace attar {

// What the student sees at a time, and one token more: the last one's target.
struct Chunk {
  Chunk() = default;
  Chunk(Ids tokens) : ids(std::move(tokens)) {}  // one text, all of it to be learnt

  Ids ids;
  std::vector<std::uint8_t> learn;   // one for each id: whether it counts as a target; empty: all
  std::vector<std::int64_t> starts;  // where texts begin that see nothing of what stands before; empty: one text
  auto operator<=>(const Chunk&) const = default;
};

std::int64_t targets_of(const Chunk& chunk);  // how many count

// Documents of which a model cannot learn, or not all.
struct SkipCounts {
  std::int64_t empty = 0;      // no token
  std::int64_t one_token = 0;  // nothing follows it
  std::int64_t masked = 0;     // nothing is to be learnt: a conversation without an answer, or with it beyond a cut
  std::int64_t cut = 0;        // longer than a chunk: its parts do not see each other

  SkipCounts& operator+=(const SkipCounts& other);
  std::int64_t skipped() const { return empty + one_token + masked; }
};
void to_json(nlohmann::json& json, const SkipCounts& counts);
void from_json(const nlohmann::json& json, SkipCounts& counts);

// Documents behind each other, cut wherever a chunk is full: a token sees all of its chunk, whatever document it is from. The last
// tokens that fill no chunk are dropped, and so are chunks with nothing to learn.
std::vector<Chunk> join_documents(const std::vector<Document>& documents, std::int64_t length, SkipCounts& counts);

// Documents whole, several to a chunk, none seeing another: the longest first, each into the fullest chunk that has room (best
// fit decreasing; H. Ding et al., "Fewer Truncations Improve Language Modeling", 2024, https://arxiv.org/abs/2404.10830,
// section 3). Longer ones than a chunk are cut. What stays empty is filled with `padding`, of which nothing is learnt.
std::vector<Chunk> pack_documents(const std::vector<Document>& documents, std::int64_t length, std::int64_t padding,
                                  SkipCounts& counts);

}  // namespace attar
