#include "distill/layer_map.h"

#include <algorithm>
#include <charconv>
#include <sstream>
#include <string_view>

#include "base/error.h"

namespace attar {
namespace {

struct Name {
  LayerMap::Kind kind;
  const char* name;
};
constexpr Name kNames[] = {{LayerMap::Kind::kUniform, "uniform"}, {LayerMap::Kind::kLast, "last"}, {LayerMap::Kind::kLearned, "learned"}};

bool read_layer(std::string_view text, std::int64_t& layer) {
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), layer);
  return error == std::errc() && stop == text.data() + text.size() && layer >= 0;
}

LayerPair read_pair(std::string_view pair, const std::string& text) {
  const std::size_t colon = pair.find(':');
  LayerPair layers;
  if (colon == std::string_view::npos || !read_layer(pair.substr(0, colon), layers.first) ||
      !read_layer(pair.substr(colon + 1), layers.second))
    fail("[distill] layer map '", text, "': expected uniform, last, learned, or pairs of a student's and a teacher's layer, counted from 0, "
         "such as 0:1,1:3; found '", pair, "'");
  return layers;
}

void check_layer(std::int64_t layer, std::int64_t layers, const char* who, const LayerMap& map) {
  if (layer >= layers)
    fail("[distill] layer map '", layer_map_text(map), "': the ", who, " has no layer ", layer, "; its layers are 0 to ", layers - 1);
}

}  // namespace

LayerMap parse_layer_map(const std::string& text) {
  for (const auto& [kind, name] : kNames)
    if (text == name) return {kind, {}};
  LayerMap map{LayerMap::Kind::kGiven, {}};
  for (std::string_view rest = text;;) {
    const std::size_t comma = rest.find(',');
    map.pairs.push_back(read_pair(rest.substr(0, comma), text));
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  std::sort(map.pairs.begin(), map.pairs.end());
  for (std::size_t i = 1; i < map.pairs.size(); ++i)
    if (map.pairs[i].first == map.pairs[i - 1].first)
      fail("[distill] layer map '", text, "': layer ", map.pairs[i].first, " of the student comes twice; it can follow one of the teacher's");
  return map;
}

std::string layer_map_text(const LayerMap& map) {
  for (const auto& [kind, name] : kNames)
    if (map.kind == kind) return name;
  std::ostringstream text;
  for (const auto& [student, teacher] : map.pairs) text << (text.tellp() > 0 ? "," : "") << student << ':' << teacher;
  return text.str();
}

std::vector<LayerPair> layer_pairs(const LayerMap& map, std::int64_t M, std::int64_t N) {
  std::vector<LayerPair> pairs = map.pairs;
  for (const auto& [student, teacher] : map.pairs) {
    check_layer(student, M, "student", map);
    check_layer(teacher, N, "teacher", map);
  }
  if (map.kind == LayerMap::Kind::kLast) pairs = {{M - 1, N - 1}};
  for (std::int64_t m = 0; m < M; ++m) {
    if (map.kind == LayerMap::Kind::kUniform) pairs.emplace_back(m, ((m + 1) * N + M - 1) / M - 1);
    for (std::int64_t n = 0; map.kind == LayerMap::Kind::kLearned && n < N; ++n) pairs.emplace_back(m, n);
  }
  return pairs;
}

}  // namespace attar
