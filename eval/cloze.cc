#include "eval/cloze.h"

#include <algorithm>

namespace attar {
namespace {

// Context and choice are tokenized together, as the model would meet them; the choice's tokens are those after what the two
// encodings share.
Sequence sequence(const Tokenizer& tokenizer, const Ids& context, const ClozeItem& item, const std::string& choice) {
  Ids whole = tokenizer.encode(item.context + choice, true);
  const TokenizerData& data = tokenizer.data();
  if (data.add_eos && !whole.empty() && whole.back() == data.eos_id) whole.pop_back();
  const auto shared = std::mismatch(whole.begin(), whole.end(), context.begin(), context.end()).first - whole.begin();
  const auto size = static_cast<std::int64_t>(whole.size());
  if (shared == 0 || shared >= size)
    fail("cloze: '", choice, "' after '", item.context, "' has no token of its own to score");
  return {std::move(whole), shared - 1, size - 1};
}

}  // namespace

ClozeAccuracy cloze_accuracy(Decoder& model, const Tokenizer& tokenizer, const std::vector<ClozeItem>& items) {
  std::vector<Sequence> sequences;
  for (std::size_t i = 0; i < items.size(); ++i) {
    const ClozeItem& item = items[i];
    if (item.choices.empty()) fail("cloze: item ", i, " has no choices");
    if (item.gold < 0 || static_cast<std::size_t>(item.gold) >= item.choices.size())
      fail("cloze: item ", i, " says choice ", item.gold, " is right, but it has ", item.choices.size());
    const Ids context = tokenizer.encode(item.context, true);
    for (const std::string& choice : item.choices) {
      if (choice.empty()) fail("cloze: item ", i, " has an empty choice");
      sequences.push_back(sequence(tokenizer, context, item, choice));
    }
  }
  const TokenScores scores = measure(model, nullptr, sequences, "cloze");

  std::int64_t right = 0;
  std::size_t slot = 0, s = 0;
  for (const ClozeItem& item : items) {
    std::vector<double> nll;
    for (std::size_t c = 0; c < item.choices.size(); ++c, ++s) {
      double sum = 0;
      for (std::int64_t p = sequences[s].begin; p < sequences[s].end; ++p) sum += scores.nll[slot++];
      nll.push_back(sum);
    }
    right += std::min_element(nll.begin(), nll.end()) - nll.begin() == item.gold;
  }
  const auto total = static_cast<std::int64_t>(items.size());
  return {share(right, total), total};
}

}  // namespace attar
