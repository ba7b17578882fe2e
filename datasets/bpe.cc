#include "datasets/bpe.h"

#include <algorithm>
#include <bit>

#include "base/console.h"
#include "base/error.h"

namespace attar {
namespace {

std::uint64_t pair_key(TokenId left, TokenId right) {
  return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
}

std::uint64_t spread(std::uint64_t key) {  // the finaliser of SplitMix64
  key = (key ^ (key >> 30)) * 0xbf58476d1ce4e5b9u;
  key = (key ^ (key >> 27)) * 0x94d049bb133111ebu;
  return key ^ (key >> 31);
}

}  // namespace

Vocabulary make_vocabulary(const TokenizerData& data) {
  Vocabulary vocabulary;
  vocabulary.reserve(data.tokens.size());
  for (std::size_t id = 0; id < data.tokens.size(); ++id)
    vocabulary.try_emplace(data.tokens[id], static_cast<TokenId>(id));
  return vocabulary;
}

std::vector<BpeMerge> ranked_merges(const TokenizerData& data, const Vocabulary& vocabulary) {
  std::vector<BpeMerge> merges;
  merges.reserve(data.merges.size());
  for (std::size_t rank = 0; rank < data.merges.size(); ++rank) {
    const auto& [left, right] = data.merges[rank];
    const auto id_of = [&, &left = left, &right = right](const std::string& token) {
      const auto found = vocabulary.find(token);
      if (found == vocabulary.end())
        fail("tokenizer: merge ", rank, " (", left, " ", right, ") needs the token '", token,
             "', which the vocabulary of ", data.tokens.size(), " tokens does not have");
      return found->second;
    };
    merges.push_back({id_of(left), id_of(right), id_of(left + right), static_cast<std::uint32_t>(rank)});
  }
  return merges;
}

BpeMerger::BpeMerger(const std::vector<BpeMerge>& merges) {
  table_.resize(std::bit_ceil(std::max<std::size_t>(16, merges.size() * 2)));
  mask_ = table_.size() - 1;
  for (const BpeMerge& merge : merges) {
    const Entry entry = {pair_key(merge.left, merge.right), merge.rank, merge.result};
    std::uint64_t slot = spread(entry.key) & mask_;
    while (table_[slot].result != kNoToken && table_[slot].key != entry.key) slot = (slot + 1) & mask_;
    table_[slot] = entry;
  }
}

const BpeMerger::Entry* BpeMerger::find(TokenId left, TokenId right) const {
  const std::uint64_t key = pair_key(left, right);
  for (std::uint64_t slot = spread(key) & mask_; table_[slot].result != kNoToken; slot = (slot + 1) & mask_)
    if (table_[slot].key == key) return &table_[slot];
  return nullptr;
}

void BpeMerger::merge(std::vector<TokenId>& word, Workspace& workspace) const {
  auto& symbols = workspace.symbols;
  auto& heap = workspace.heap;
  using Candidate = Workspace::Candidate;
  const auto later = [](const Candidate& a, const Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
  };
  const auto length = static_cast<std::int64_t>(word.size());
  symbols.clear();
  heap.clear();
  for (std::int64_t i = 0; i < length; ++i)
    symbols.push_back({word[static_cast<std::size_t>(i)], i - 1, i + 1 < length ? i + 1 : -1});
  const auto at = [&](std::int64_t i) -> Workspace::Symbol& { return symbols[static_cast<std::size_t>(i)]; };
  const auto candidate = [&](std::int64_t left, auto&& add) {
    if (left < 0 || at(left).next < 0) return;
    if (const Entry* entry = find(at(left).id, at(at(left).next).id)) add(Candidate{entry->rank, entry->result, left});
  };
  for (std::int64_t i = 0; i < length; ++i) candidate(i, [&](const Candidate& c) { heap.push_back(c); });
  std::make_heap(heap.begin(), heap.end(), later);
  const auto push = [&](const Candidate& c) {
    heap.push_back(c);
    std::push_heap(heap.begin(), heap.end(), later);
  };
  for (std::uint64_t step = 0; !heap.empty(); ++step) {
    if (step % 65536 == 65535) check_interrupt();
    std::pop_heap(heap.begin(), heap.end(), later);
    const Candidate best = heap.back();
    heap.pop_back();
    Workspace::Symbol& left = at(best.left);
    if (left.id == kNoToken || left.next < 0) continue;  // swallowed by an earlier merge
    Workspace::Symbol& right = at(left.next);
    const Entry* entry = find(left.id, right.id);
    if (entry == nullptr || entry->result != best.result) continue;  // the pair has changed since
    workspace.last = {left.id, right.id};
    left.id = best.result;
    right.id = kNoToken;
    left.next = right.next;
    if (right.next >= 0) at(right.next).previous = best.left;
    candidate(left.previous, push);
    candidate(best.left, push);
  }
  word.clear();
  for (const auto& symbol : symbols)
    if (symbol.id != kNoToken) word.push_back(symbol.id);
}

void BpeMerger::merge_short_of(TokenId whole, std::vector<TokenId>& word, Workspace& workspace) const {
  const std::size_t characters = word.size();
  merge(word, workspace);
  if (word.size() == 1 && word[0] == whole && characters > 1) word.assign(workspace.last.begin(), workspace.last.end());
}

const std::vector<TokenId>* WordCache::find(std::string_view word) const {
  if (word.size() > kLongestWord) return nullptr;
  const Slot& slot = slots_[slot_of(word)];
  return slot.word == word && !word.empty() ? &slot.ids : nullptr;
}

void WordCache::put(std::string_view word, const std::vector<TokenId>& ids) {
  if (word.size() > kLongestWord) return;
  Slot& slot = slots_[slot_of(word)];
  slot.word = word;
  slot.ids = ids;
}

}  // namespace attar
