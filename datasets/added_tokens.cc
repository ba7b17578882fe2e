#include "datasets/added_tokens.h"

#include "datasets/unicode.h"

namespace attar {

void AddedTokenMatcher::add(const AddedToken& token, std::string_view pattern) {
  if (pattern.empty()) return;
  trie_.insert(pattern, static_cast<std::uint32_t>(tokens_.size()));
  tokens_.push_back(token);
}

void AddedTokenMatcher::split(std::string_view text, const std::function<void(std::string_view)>& plain,
                              const std::function<void(std::int64_t)>& token) const {
  std::size_t given = 0;  // text before this is done
  for (std::size_t i = 0; i < text.size() && !tokens_.empty();) {
    const ByteTrie::Match match = trie_.longest_at(text, i);
    if (match.length == 0) {
      ++i;
      continue;
    }
    const AddedToken& found = tokens_[match.value];
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
