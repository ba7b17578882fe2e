#include "datasets/added_tokens.h"

#include "datasets/unicode.h"

namespace attar {

void AddedTokenMatcher::add(const AddedToken& token, std::string_view pattern) {
  if (pattern.empty()) return;
  std::uint32_t node = 0;
  for (const char c : pattern) {
    const auto next = static_cast<std::uint32_t>(token_of_node_.size());
    const auto [child, inserted] = children_.try_emplace(std::uint64_t{node} * 256 + static_cast<unsigned char>(c), next);
    if (inserted) token_of_node_.push_back(kNone);
    node = child->second;
  }
  token_of_node_[node] = static_cast<std::uint32_t>(tokens_.size());
  tokens_.push_back(token);
  starts_[static_cast<unsigned char>(pattern[0])] = true;
}

AddedTokenMatcher::Match AddedTokenMatcher::longest_at(std::string_view text, std::size_t begin) const {
  Match best;
  std::uint32_t node = 0;
  for (std::size_t i = begin; i < text.size(); ++i) {
    const auto child = children_.find(std::uint64_t{node} * 256 + static_cast<unsigned char>(text[i]));
    if (child == children_.end()) break;
    node = child->second;
    if (token_of_node_[node] != kNone) best = {i + 1 - begin, token_of_node_[node]};
  }
  return best;
}

void AddedTokenMatcher::split(std::string_view text, const std::function<void(std::string_view)>& plain,
                              const std::function<void(std::int64_t)>& token) const {
  std::size_t given = 0;  // text before this is done
  for (std::size_t i = 0; i < text.size() && !tokens_.empty();) {
    if (!starts_[static_cast<unsigned char>(text[i])]) {
      ++i;
      continue;
    }
    const Match match = longest_at(text, i);
    if (match.length == 0) {
      ++i;
      continue;
    }
    const AddedToken& found = tokens_[match.token];
    std::size_t begin = i, end = i + match.length;
    i = end;
    if (found.single_word && (ends_with_word(text.substr(0, begin)) || starts_with_word(text.substr(end)))) continue;
    if (found.lstrip) begin -= trailing_space(text.substr(given, begin - given));
    if (found.rstrip) end += leading_space(text.substr(end));
    if (given < begin) plain(text.substr(given, begin - given));
    token(found.id);
    given = i = end;
  }
  if (given < text.size()) plain(text.substr(given));
}

}  // namespace attar
