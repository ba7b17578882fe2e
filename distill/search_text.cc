#include "distill/search_text.h"

#include <algorithm>
#include <utility>

#include "base/console.h"
#include "base/error.h"
#include "base/text.h"
#include "base/threads.h"

namespace attar {
namespace {

constexpr std::int64_t kApart = 10;  // at most one document in so many is set apart

std::vector<Document> read_all(const Documents& documents) {
  std::vector<Document> all(documents.size());
  parallel_for(std::ssize(all), [&](std::int64_t i) {
    check_interrupt();
    all[static_cast<std::size_t>(i)] = documents.at(static_cast<std::size_t>(i));
  });
  return all;
}

// Documents until they give `tokens`, `most` of them at most (and those that are the same).
std::vector<std::uint8_t> draw(const std::vector<Document>& documents, std::size_t most, std::int64_t tokens, std::uint64_t seed) {
  std::vector<std::pair<std::string, std::size_t>> order;  // by hash
  for (std::size_t i = 0; i < documents.size(); ++i) {
    ContentHash hash;
    hash.add(cat(seed, " "));
    hash.add(ByteView(std::as_bytes(std::span(documents[i].ids))));
    order.emplace_back(hash.hex(), i);
  }
  std::sort(order.begin(), order.end());
  std::vector<std::uint8_t> drawn(documents.size(), 0);
  std::int64_t taken = 0;
  for (std::size_t n = 0; n < order.size(); ++n) {
    const bool same = n > 0 && order[n].first == order[n - 1].first;
    if (!same && (n >= most || taken >= tokens)) break;
    drawn[order[n].second] = 1;
    taken += std::ssize(documents[order[n].second].ids);
  }
  return drawn;
}

std::vector<Document> keep(std::vector<Document> documents, const std::vector<std::uint8_t>& flags, bool flag) {
  std::vector<Document> kept;
  for (std::size_t i = 0; i < documents.size(); ++i)
    if ((flags[i] != 0) == flag) kept.push_back(std::move(documents[i]));
  return kept;
}

}  // namespace

SearchText::SearchText(const Tokenizer& tokenizer, std::string data, const std::string& heldout, std::int64_t heldout_tokens, std::uint64_t seed)
    : data_(std::move(data)), heldout_(heldout.empty() ? data_ : heldout) {
  const Documents documents(tokenizer, heldout_);
  hash_ = documents.hash();
  std::size_t most = documents.size();
  if (!heldout.empty()) {
    hash_ = cat(Documents(tokenizer, data_).hash(), " ", documents.hash());
    if (hash_ == cat(documents.hash(), " ", documents.hash()))
      fail("[prune] --heldout ", heldout_, " is the text of --data; candidates are ranked on text that they did not learn from");
  } else {
    most /= static_cast<std::size_t>(kApart);
    if (most == 0)
      fail("[prune] ", data_, " holds ", documents.size(), " documents (texts between blank lines); at least ", kApart,
           " are needed to set some apart on which candidates are ranked. Give other text as --heldout, or --retrain 0 for the choice "
           "of the formula");
  }
  judged_ = draw(read_all(documents), most, heldout_tokens, seed);
}

std::vector<Document> SearchText::training(const Tokenizer& tokenizer) const {
  std::vector<Document> all = read_all(Documents(tokenizer, data_));
  return heldout_ == data_ ? keep(std::move(all), judged_, false) : all;
}

std::vector<Document> SearchText::heldout(const Tokenizer& tokenizer) const {
  return keep(read_all(Documents(tokenizer, heldout_)), judged_, true);
}

}  // namespace attar
