#include "eval/breakdown.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "base/error.h"
#include "base/text.h"

namespace attar {
namespace {

constexpr std::int64_t kBands = 8;
constexpr std::int64_t kBefore = 24, kAfter = 6;  // tokens shown around a worst one
constexpr std::int64_t kBegin = 16;               // and of each chunk or document

void add(Part& part, const TokenScores& scores, std::size_t slot) {
  ++part.scored;
  part.nll += scores.nll[slot];
  if (scores.kl.empty()) return;
  part.reference_nll += scores.reference_nll[slot];
  part.kl += scores.kl[slot];
}

void finish(std::vector<Part>& parts) {
  std::erase_if(parts, [](const Part& p) { return p.scored == 0; });
  for (Part& p : parts) {
    const auto n = static_cast<double>(p.scored);
    p.nll /= n, p.reference_nll /= n, p.kl /= n;
  }
}

// Text of single tokens may begin or end inside a character.
std::string text_of(const Tokenizer& tokenizer, const Ids& ids, std::int64_t begin, std::int64_t end) {
  std::string text;
  for (std::int64_t i = std::max<std::int64_t>(begin, 0); i < std::min<std::int64_t>(end, static_cast<std::int64_t>(ids.size())); ++i)
    if (!tokenizer.is_special(ids[static_cast<std::size_t>(i)])) text += tokenizer.bytes_of(ids[static_cast<std::size_t>(i)]);
  return as_utf8(text);
}

std::string token_text(const Tokenizer& tokenizer, std::int64_t id) {
  return id < tokenizer.vocab_size() ? as_utf8(tokenizer.bytes_of(id)) : cat("<", id, ">");
}

nlohmann::json parts_json(const std::vector<Part>& parts, bool compared, bool units) {
  nlohmann::json list = nlohmann::json::array();
  for (const Part& p : parts) {
    nlohmann::json entry{{"scored", p.scored}, {"nll", p.nll}};
    if (units) entry["unit"] = p.from, entry["begins"] = p.begins;
    else entry["from"] = p.from, entry["to"] = p.to;
    if (compared) entry["reference_nll"] = p.reference_nll, entry["kl"] = p.kl;
    list.push_back(std::move(entry));
  }
  return list;
}

std::string one_line(std::string text) {
  for (char& c : text)
    if (c == '\n' || c == '\r' || c == '\t') c = ' ';
  return text;
}

}  // namespace

Breakdown break_down(const TextPlan& plan, const TokenScores& scores, const Tokenizer& tokenizer, std::size_t worst) {
  Breakdown result;
  result.compared = !scores.kl.empty();
  std::int64_t first = scores.size() == 0 ? 0 : plan.sequences[0].ids.size(), last = 0;
  for (const Sequence& s : plan.sequences) first = std::min(first, s.begin + 1), last = std::max(last, s.end + 1);
  const std::int64_t width = std::max<std::int64_t>(1, (last - first + kBands - 1) / kBands);
  for (std::int64_t from = first; from < last; from += width) result.bands.push_back({from, std::min(from + width, last)});
  for (std::size_t u = 0; u < plan.bytes.size(); ++u) result.units.push_back({static_cast<std::int64_t>(u)});

  struct Spot {
    const Sequence* sequence;
    std::int64_t position;
  };
  std::vector<Spot> spots;
  for (const Sequence& s : plan.sequences) {
    if (std::string& begins = result.units[s.unit].begins; begins.empty()) begins = text_of(tokenizer, s.ids, 0, kBegin);
    for (std::int64_t p = s.begin; p < s.end; ++p) {
      add(result.bands[static_cast<std::size_t>((p + 1 - first) / width)], scores, spots.size());
      add(result.units[s.unit], scores, spots.size());
      spots.push_back({&s, p});
    }
  }
  finish(result.bands);
  finish(result.units);

  const std::vector<double>& badness = result.compared ? scores.kl : scores.nll;
  std::vector<std::size_t> order(spots.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto count = static_cast<std::ptrdiff_t>(std::min(worst, order.size()));
  std::partial_sort(order.begin(), order.begin() + count, order.end(), [&](std::size_t a, std::size_t b) {
    return badness[a] != badness[b] ? badness[a] > badness[b] : a < b;
  });
  for (auto slot = order.begin(); slot != order.begin() + count; ++slot) {
    const auto& [sequence, position] = spots[*slot];
    const Ids& ids = sequence->ids;
    WorstToken token{.unit = sequence->unit,
                     .place = position + 1,
                     .before = text_of(tokenizer, ids, position + 1 - kBefore, position + 1),
                     .token = token_text(tokenizer, ids[static_cast<std::size_t>(position) + 1]),
                     .after = text_of(tokenizer, ids, position + 2, position + 2 + kAfter),
                     .top = token_text(tokenizer, scores.top[*slot]),
                     .p = std::exp(-scores.nll[*slot])};
    if (result.compared) {
      token.reference_top = token_text(tokenizer, scores.reference_top[*slot]);
      token.reference_p = std::exp(-scores.reference_nll[*slot]);
      token.kl = scores.kl[*slot];
    }
    result.worst.push_back(std::move(token));
  }
  return result;
}

nlohmann::json to_json(const Breakdown& b) {
  nlohmann::json worst = nlohmann::json::array();
  for (const WorstToken& w : b.worst) {
    nlohmann::json entry{{"unit", w.unit},   {"place", w.place}, {"before", w.before}, {"token", w.token},
                         {"after", w.after}, {"top", w.top},     {"p", w.p}};
    if (b.compared) entry["reference_top"] = w.reference_top, entry["reference_p"] = w.reference_p, entry["kl"] = w.kl;
    worst.push_back(std::move(entry));
  }
  return {{"by_place", parts_json(b.bands, b.compared, false)}, {"by_unit", parts_json(b.units, b.compared, true)}, {"worst_tokens", worst}};
}

std::string worst_text(const Breakdown& b, std::size_t count) {
  std::string text = b.compared ? "\nworst tokens, by KL divergence\n" : "\nworst tokens, by -ln p\n";
  for (std::size_t i = 0; i < std::min(count, b.worst.size()); ++i) {
    const WorstToken& w = b.worst[i];
    char figures[160];
    if (b.compared)
      std::snprintf(figures, sizeof figures, "%8.4f  p %.4f, reference %.4f", w.kl, w.p, w.reference_p);
    else
      std::snprintf(figures, sizeof figures, "%8.4f  p %.4f", -std::log(w.p), w.p);
    text += cat(figures, "  most probable '", one_line(w.top), "'");
    if (b.compared) text += cat(", reference '", one_line(w.reference_top), "'");
    text += cat("\n          ...", one_line(w.before), "[", one_line(w.token), "]", one_line(w.after), "\n");
  }
  return text;
}

}  // namespace attar
