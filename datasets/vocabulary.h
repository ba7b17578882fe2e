// Which of a tokenizer's tokens a corpus needs, and finding a cut vocabulary again inside the whole one.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "datasets/tokenizer.h"

namespace attar {

// All tokens, the ones to keep first, so that any part of the list from its beginning on (not shorter than `required`) is a
// vocabulary that still encodes every text and decodes it to the same bytes.
//
// Removing a BPE token from a text puts the two tokens of its last merge in its place, and each of these is used at least as
// often as the whole: counting a use of a token as a use of its parts too, and theirs, the uses of a token are both how often
// its merge is done in the corpus and how many tokens longer the corpus gets without it. Sorted by uses, among equals (most are
// those that the corpus does not have) by what is expected of them, counted in the same way, then shorter ones first: parts stand
// before their wholes, so whatever is kept can still be built.
struct TokenRanking {
  std::vector<std::int64_t> order;  // ids; padding is not among them
  std::int64_t required = 0;        // the first so many: bytes, special, added and otherwise needed tokens
  std::vector<std::int64_t> length; // [n]: tokens of the corpus under the first `required + n` of `order`, to first order

  std::int64_t size() const { return static_cast<std::int64_t>(order.size()); }
  std::int64_t corpus_tokens(std::int64_t count) const { return length[static_cast<std::size_t>(count - required)]; }
  // The first `count`, ascending. Throws Error if that is less than `required` or more than there are.
  std::vector<std::int64_t> first(std::int64_t count) const;
};

// documents: the corpus in tokens. also_required: ids that must stay whatever the tokenizer says of them; those it does not
// have count for nothing. expected: by id, how often a token would be in other such text, in any unit; empty if nobody knows.
TokenRanking rank_tokens(const TokenizerData& tokenizer, const std::vector<Ids>& documents,
                         const std::vector<std::int64_t>& also_required, std::vector<double> expected = {});

// The ids in `whole` of the tokens of `part`, ascending, if it has fewer of them (padding not counted); nothing if not. Throws
// Error if `part` has a token that `whole` does not have, or has them in another order. select_tokens(whole, ids) then
// shows whether both work alike.
std::optional<std::vector<std::int64_t>> ids_within(const TokenizerData& part, const TokenizerData& whole);

}  // namespace attar
