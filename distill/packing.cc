#include "distill/packing.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <span>

namespace attar {
namespace {

// Whether there is anything to learn of it; counts why not.
bool is_usable(const Document& document, SkipCounts& counts) {
  const auto learnt = [&] { return std::find(document.learn.begin() + 1, document.learn.end(), 1) != document.learn.end(); };
  if (document.ids.empty())
    ++counts.empty;
  else if (document.ids.size() == 1)
    ++counts.one_token;
  else if (!document.learn.empty() && !learnt())
    ++counts.masked;
  else
    return true;
  return false;
}

// A part of a document, at most a chunk long.
struct Piece {
  std::span<const std::int64_t> ids;
  std::span<const std::uint8_t> learn;  // empty: all
};

std::vector<Piece> pieces_of(const std::vector<Document>& documents, std::size_t length, SkipCounts& counts) {
  std::vector<Piece> pieces;
  for (const Document& document : documents) {
    if (!is_usable(document, counts)) continue;
    counts.cut += document.ids.size() > length;
    std::size_t used = 0;
    for (std::size_t begin = 0; begin < document.ids.size(); begin += length) {
      const std::size_t size = std::min(length, document.ids.size() - begin);
      Piece piece{std::span(document.ids).subspan(begin, size), {}};
      if (!document.learn.empty()) piece.learn = std::span(document.learn).subspan(begin, size);
      const auto learnt = [&] { return std::find(piece.learn.begin() + 1, piece.learn.end(), 1) != piece.learn.end(); };
      if (size < 2 || (!piece.learn.empty() && !learnt())) continue;
      pieces.push_back(piece);
      ++used;
    }
    counts.masked += used == 0;
  }
  return pieces;
}

void append(Chunk& chunk, const Piece& piece) {
  chunk.starts.push_back(std::ssize(chunk.ids));
  chunk.ids.insert(chunk.ids.end(), piece.ids.begin(), piece.ids.end());
  const std::size_t first = chunk.learn.size();
  if (piece.learn.empty())
    chunk.learn.resize(chunk.ids.size(), 1);
  else
    chunk.learn.insert(chunk.learn.end(), piece.learn.begin(), piece.learn.end());
  chunk.learn[first] = 0;  // nothing stands before it to tell it from
}

}  // namespace

std::int64_t targets_of(const Chunk& chunk) {
  if (chunk.learn.empty()) return std::ssize(chunk.ids) - 1;
  return std::accumulate(chunk.learn.begin() + 1, chunk.learn.end(), std::int64_t{0});
}

SkipCounts& SkipCounts::operator+=(const SkipCounts& other) {
  empty += other.empty;
  one_token += other.one_token;
  masked += other.masked;
  cut += other.cut;
  return *this;
}

void to_json(nlohmann::json& json, const SkipCounts& counts) {
  json = {{"empty", counts.empty}, {"one_token", counts.one_token}, {"masked", counts.masked}, {"cut", counts.cut}};
}

void from_json(const nlohmann::json& json, SkipCounts& counts) {
  counts = {json.at("empty"), json.at("one_token"), json.at("masked"), json.at("cut")};
}

std::vector<Chunk> join_documents(const std::vector<Document>& documents, std::int64_t length, SkipCounts& counts) {
  Chunk all;
  for (const Document& document : documents) {
    if (!is_usable(document, counts)) continue;
    all.ids.insert(all.ids.end(), document.ids.begin(), document.ids.end());
    if (!document.learn.empty()) all.learn.insert(all.learn.end(), document.learn.begin(), document.learn.end());
    all.learn.resize(all.ids.size(), 1);
  }
  std::vector<Chunk> chunks;
  for (std::ptrdiff_t begin = 0; std::ssize(all.ids) - begin >= length; begin += length) {
    Chunk chunk(Ids(all.ids.begin() + begin, all.ids.begin() + begin + length));
    chunk.learn.assign(all.learn.begin() + begin, all.learn.begin() + begin + length);
    const auto targets = targets_of(chunk);
    if (targets == length - 1) chunk.learn.clear();
    if (targets > 0) chunks.push_back(std::move(chunk));
  }
  return chunks;
}

std::vector<Chunk> pack_documents(const std::vector<Document>& documents, std::int64_t length, std::int64_t padding,
                                  SkipCounts& counts) {
  std::vector<Piece> pieces = pieces_of(documents, static_cast<std::size_t>(length), counts);
  std::stable_sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) { return a.ids.size() > b.ids.size(); });
  std::vector<Chunk> chunks;
  std::multimap<std::size_t, std::size_t> by_room;  // tokens free, chunk
  for (const Piece& piece : pieces) {
    auto place = by_room.lower_bound(piece.ids.size());
    if (place == by_room.end()) {
      chunks.emplace_back();
      place = by_room.emplace(static_cast<std::size_t>(length), chunks.size() - 1);
    }
    const auto [room, index] = *place;
    by_room.erase(place);
    append(chunks[index], piece);
    by_room.emplace(room - piece.ids.size(), index);
  }
  for (Chunk& chunk : chunks) {
    if (std::ssize(chunk.ids) < length) chunk.starts.push_back(std::ssize(chunk.ids));
    chunk.ids.resize(static_cast<std::size_t>(length), padding);
    chunk.learn.resize(chunk.ids.size(), 0);
  }
  return chunks;
}

}  // namespace attar
