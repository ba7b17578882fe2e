// Where in the text the model is good and where it is not.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "eval/protocol.h"
#include "eval/scores.h"

namespace attar {

// Means over some positions; those of the reference only if there is one.
struct Part {
  std::int64_t from = 0, to = 0;  // bands: places in the context, from <= place < to; units: from is the unit's number
  std::int64_t scored = 0;
  double nll = 0, reference_nll = 0, kl = 0;
  std::string begins;             // units: the first words
};

struct WorstToken {
  std::size_t unit = 0;
  std::int64_t place = 0;                    // of the token in its context
  std::string before, token, after;          // text around it
  std::string top, reference_top;            // what each model finds most probable
  double p = 0, reference_p = 0, kl = 0;     // p of the token
};

struct Breakdown {
  bool compared = false;             // with a reference
  std::vector<Part> bands, units;    // by place in the context; by chunk or document
  std::vector<WorstToken> worst;     // by KL, without a reference by -ln p
};

Breakdown break_down(const TextPlan& plan, const TokenScores& scores, const Tokenizer& tokenizer, std::size_t worst = 20);

nlohmann::json to_json(const Breakdown& breakdown);
// The first `count` of the worst tokens, two lines each.
std::string worst_text(const Breakdown& breakdown, std::size_t count);

}  // namespace attar
