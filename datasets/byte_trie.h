// Strings found at a place in a text: the longest, or all.
#pragma once

#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace attar {

class ByteTrie {
 public:
  // value < 2^32 - 1; a string inserted again takes the new value. Empty strings are never found.
  void insert(std::string_view text, std::uint32_t value) {
    if (text.empty()) return;
    std::uint32_t node = 0;
    for (const char c : text) {
      const auto next = static_cast<std::uint32_t>(values_.size());
      const auto [child, inserted] = children_.try_emplace(key(node, c), next);
      if (inserted) values_.push_back(kNone);
      node = child->second;
    }
    values_[node] = value;
    starts_[static_cast<unsigned char>(text[0])] = true;
  }

  bool empty() const { return children_.empty(); }

  struct Match {
    std::size_t length = 0;  // 0: nothing
    std::uint32_t value = 0;
  };
  Match longest_at(std::string_view text, std::size_t begin) const {
    Match longest;
    for_each_at(text, begin, [&](const Match& match) { longest = match; });
    return longest;
  }

  // Calls found(match) for every string that text has at begin, the shortest first.
  template <class F>
  void for_each_at(std::string_view text, std::size_t begin, F found) const {
    if (begin >= text.size() || !starts_[static_cast<unsigned char>(text[begin])]) return;
    std::uint32_t node = 0;
    for (std::size_t i = begin; i < text.size(); ++i) {
      const auto child = children_.find(key(node, text[i]));
      if (child == children_.end()) return;
      node = child->second;
      if (values_[node] != kNone) found(Match{i + 1 - begin, values_[node]});
    }
  }

 private:
  static constexpr std::uint32_t kNone = 0xffffffffu;
  static std::uint64_t key(std::uint32_t node, char c) {
    return std::uint64_t{node} * 256 + static_cast<unsigned char>(c);
  }

  std::vector<std::uint32_t> values_ = {kNone};                // by node; 0 is the root
  std::unordered_map<std::uint64_t, std::uint32_t> children_;  // node * 256 + byte -> node
  bool starts_[256] = {};
};

}  // namespace attar
