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
  double acceptance = 0;  // sum of min(p, q): how likely the reference takes a token that the model drafts (Leviathan et al., "Fast
                          // Inference from Transformers via Speculative Decoding", 2023, corollary 3.6)
};

// ln of the probabilities that a row of logits gives to every token, without writing them down.
struct RowNorm {
  double peak = 0, log_sum = 0;  // the largest logit; ln of the sum of exp(logits - peak)
  std::int64_t top = 0;          // the most probable token; the first of equals
  bool finite = true;
  double log_Z() const { return peak + log_sum; }  // ln p(i) = logits[i] - log_Z()
};
RowNorm row_norm(std::span<const float> logits);

// logit: of the token that came next, in the row of this norm. A row that is not finite makes nll NaN.
TokenScore token_score(const RowNorm& norm, float logit);

// logits: (vocab) float32. target: the token that came next. A logit that is NaN or infinite makes nll NaN.
TokenScore score_row(std::span<const float> logits, std::int64_t target);

// Both rows over the same vocabulary. Equal rows give a kl of exactly 0 and an acceptance of
// exactly 1.
PairScore score_rows(std::span<const float> model, std::span<const float> reference, std::int64_t target);

// The scores of all scored positions, in the order of the text. The second group is empty without a reference.
struct TokenScores {
  std::vector<double> nll;
  std::vector<std::int64_t> top;              // the model's most probable token
  std::vector<double> reference_nll, kl, acceptance;
  std::vector<std::int64_t> reference_top;
  std::vector<std::uint8_t> same_top;
  std::vector<double> bytes;  // of the text that the token stands for

  std::size_t size() const { return nll.size(); }
  // p(target) of the model minus that of the reference, per position.
  std::vector<double> delta_p() const;
};

}  // namespace attar
