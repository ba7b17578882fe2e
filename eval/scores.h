// What one row of logits says about the token that really came next, alone or against a reference model's row.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace attar {

struct TokenScore {
  double nll = 0;         // -ln p(target)
  std::int64_t top = 0;   // the most probable token; the first of equals
};

struct PairScore {
  TokenScore model, reference;
  double kl = 0;          // KL(reference || model) over the whole vocabulary, in nats
};

// logits: (vocab) float32. target: the token that came next. A logit that is NaN or infinite makes nll NaN.
TokenScore score_row(std::span<const float> logits, std::int64_t target);

// Both rows over the same vocabulary. Equal rows give a kl of exactly 0.
PairScore score_rows(std::span<const float> model, std::span<const float> reference, std::int64_t target);

// The scores of all scored positions, in the order of the text. The second group is empty without a reference.
struct TokenScores {
  std::vector<double> nll;
  std::vector<double> reference_nll, kl;
  std::vector<std::uint8_t> same_top;
  std::vector<double> bytes;  // of the text that the token stands for

  std::size_t size() const { return nll.size(); }
  // p(target) of the model minus that of the reference, per position.
  std::vector<double> delta_p() const;
};

}  // namespace attar
