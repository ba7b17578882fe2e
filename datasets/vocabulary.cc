#include "datasets/vocabulary.h"

#include <algorithm>

#include "base/error.h"
#include "datasets/encoder.h"
#include "datasets/unicode.h"

namespace attar {
namespace {

bool is_one_character(std::string_view token) { return !token.empty() && token.size() == utf8_length(token[0]); }

TokenType type_of(const TokenizerData& data, std::size_t id) {
  return data.types.empty() ? TokenType::kNormal : data.types[id];
}

// By id: whether every text needs it, or something outside the text does.
std::vector<bool> required_tokens(const TokenizerData& data, const std::vector<std::int64_t>& also_required) {
  std::vector<bool> required(data.size());
  const auto require = [&](std::int64_t id) {
    if (id >= 0 && id < static_cast<std::int64_t>(data.size())) required[static_cast<std::size_t>(id)] = true;
  };
  for (const std::int64_t id : also_required) require(id);
  for (const std::int64_t id : {data.bos_id, data.eos_id, data.unk_id, data.pad_id}) require(id);
  for (const AddedToken& token : data.added) require(token.id);
  const bool bytes = data.kind == TokenizerKind::kByteBpe;
  for (std::size_t id = 0; id < data.size(); ++id) {
    const std::string& token = data.tokens[id];
    const TokenType type = type_of(data, id);
    if (type != TokenType::kNormal && type != TokenType::kUnused) required[id] = true;
    // A space has no bytes to fall back on: those of its mark would come out as the mark.
    if (type == TokenType::kNormal && is_one_character(token) && (bytes || !data.byte_fallback || token == kMetaspace))
      required[id] = true;
  }
  return required;
}

}  // namespace

std::vector<std::int64_t> TokenRanking::first(std::int64_t count) const {
  if (count < required)
    fail("[prune] a vocabulary of ", count, " tokens is too small: ", required,
         " are bytes, special or added tokens, or single characters that nothing else can stand for");
  if (count > size()) fail("[prune] a vocabulary of ", count, " tokens cannot be cut: the tokenizer has ", size());
  std::vector<std::int64_t> ids(order.begin(), order.begin() + count);
  std::sort(ids.begin(), ids.end());
  return ids;
}

TokenRanking rank_tokens(const TokenizerData& data, const std::vector<Ids>& documents,
                         const std::vector<std::int64_t>& also_required, std::vector<double> expected) {
  expected.resize(data.size(), 0.0);
  const std::vector<bool> required = required_tokens(data, also_required);
  std::vector<std::int64_t> uses(data.size(), 0);
  TokenRanking ranking;
  std::int64_t tokens = 0;
  for (const Ids& ids : documents) {
    for (const std::int64_t id : ids) ++uses.at(static_cast<std::size_t>(id));
    tokens += static_cast<std::int64_t>(ids.size());
  }
  for (std::size_t id = 0; id < data.size(); ++id)
    if (required[id] || type_of(data, id) != TokenType::kUnused) ranking.order.push_back(static_cast<std::int64_t>(id));
  const auto bytes = [&](std::int64_t id) { return data.tokens[static_cast<std::size_t>(id)].size(); };
  std::vector<std::int64_t> longest_first = ranking.order;
  std::stable_sort(longest_first.begin(), longest_first.end(), [&](auto a, auto b) { return bytes(a) > bytes(b); });
  const auto encoder = make_encoder(data);
  std::vector<std::int64_t> replaced_by(data.size(), 1);  // so many tokens
  for (const std::int64_t id : longest_first) {
    const auto i = static_cast<std::size_t>(id);
    if (required[i]) continue;
    const std::vector<TokenId> parts = encoder->parts(static_cast<TokenId>(id));
    for (const TokenId part : parts) {
      uses[static_cast<std::size_t>(part)] += uses[i];
      expected[static_cast<std::size_t>(part)] += expected[i];
    }
    replaced_by[i] = static_cast<std::int64_t>(parts.empty() ? data.tokens[i].size() : parts.size());
  }
  std::sort(ranking.order.begin(), ranking.order.end(), [&](std::int64_t a, std::int64_t b) {
    const auto i = static_cast<std::size_t>(a), j = static_cast<std::size_t>(b);
    if (required[i] != required[j]) return static_cast<bool>(required[i]);
    if (uses[i] != uses[j]) return uses[i] > uses[j];
    if (expected[i] != expected[j]) return expected[i] > expected[j];
    return bytes(a) != bytes(b) ? bytes(a) < bytes(b) : a < b;
  });
  ranking.required = std::count(required.begin(), required.end(), true);
  ranking.length.resize(static_cast<std::size_t>(ranking.size() - ranking.required) + 1, tokens);
  for (std::size_t n = ranking.length.size() - 1; n > 0; --n) {
    const auto id = static_cast<std::size_t>(ranking.order[static_cast<std::size_t>(ranking.required) + n - 1]);
    ranking.length[n - 1] = ranking.length[n] + uses[id] * (replaced_by[id] - 1);
  }
  return ranking;
}

std::optional<std::vector<std::int64_t>> ids_within(const TokenizerData& part, const TokenizerData& whole) {
  const auto used = [](const TokenizerData& data) {
    return static_cast<std::int64_t>(data.size()) - std::count(data.types.begin(), data.types.end(), TokenType::kUnused);
  };
  if (used(part) >= used(whole)) return std::nullopt;
  const Vocabulary vocabulary = make_vocabulary(whole);
  std::vector<std::int64_t> ids;
  for (const std::string& token : part.tokens) {
    const auto found = vocabulary.find(token);
    if (found == vocabulary.end())
      fail("the tokenizers differ: '", token, "', id ", ids.size(), " of the smaller vocabulary (", part.size(),
           " tokens), is no token of the larger one (", whole.size(), "); expected the same tokenizer, or one pruned from it");
    if (!ids.empty() && found->second <= ids.back())
      fail("the tokenizers differ: '", token, "', id ", ids.size(), " of the smaller vocabulary, stands before '",
           part.tokens[ids.size() - 1], "' in the larger one; expected the same tokenizer, or one pruned from it");
    ids.push_back(found->second);
  }
  return ids;
}

}  // namespace attar
