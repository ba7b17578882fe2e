#include "eval/result.h"

#include <algorithm>

namespace attar {
namespace {

Distribution distribution(std::vector<double> values) {
  Distribution result;
  result.mean = mean(values);
  std::sort(values.begin(), values.end());
  result.ascending = std::move(values);
  return result;
}

}  // namespace

void summarise(TokenScores scores, EvalResult& result) {
  result.nll = mean(scores.nll);
  result.perplexity = exponential(result.nll);
  result.bits_per_byte = bits_per_byte(scores.nll, scores.bytes);
  result.protocol.scored = static_cast<std::int64_t>(scores.size());
  if (!scores.kl.empty()) {
    Divergence divergence;
    const PairedMeans pair = paired_means(scores.nll, scores.reference_nll);
    divergence.reference_perplexity = exponential(mean(scores.reference_nll));
    divergence.reference_bits_per_byte = bits_per_byte(scores.reference_nll, scores.bytes);
    divergence.log_ratio = pair.difference;
    divergence.perplexity_ratio = exponential(pair.difference);
    divergence.perplexity_difference =
        difference(result.perplexity, divergence.reference_perplexity,
                   result.perplexity.value * divergence.reference_perplexity.value * pair.covariance);
    divergence.correlation = pair.correlation;
    divergence.kl = distribution(scores.kl);
    std::vector<double> delta_p = scores.delta_p();
    divergence.delta_p_rms = root_mean_square(delta_p);
    divergence.delta_p = distribution(std::move(delta_p));
    divergence.same_top = share(std::count(scores.same_top.begin(), scores.same_top.end(), 1),
                                static_cast<std::int64_t>(scores.same_top.size()));
    result.divergence = std::move(divergence);
  }
  result.scores = std::move(scores);
}

}  // namespace attar
