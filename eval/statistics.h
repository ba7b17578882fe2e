// The arithmetic of an evaluation: means with their uncertainty, percentiles, shares, paired ratios.
//
// Each follows llama.cpp's tools/perplexity/perplexity.cpp (mean_and_uncertainty, covariance, percentile), so that
// figures can be compared. What cannot be known from the data (the spread of a single value) is NaN, never 0.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace attar {

struct Estimate {
  double value = 0;
  double uncertainty = 0;  // one standard error; NaN if it cannot be known
};

// Mean and its standard error sqrt(variance / (n - 1)), the variance being the mean square deviation. Empty: NaN.
Estimate mean(std::span<const double> values);

// Root mean square; its error is that of the mean square, carried through the square root.
Estimate root_mean_square(std::span<const double> values);

// count of total, with the binomial error sqrt(share (1 - share) / (total - 1)).
Estimate share(std::int64_t count, std::int64_t total);

// The value that `fraction` of the values lie below, interpolated linearly between the two nearest ranks.
double percentile(std::span<const double> ascending, double fraction);

// -log2 p of all tokens by all bytes, so that tokenizers that cut a text differently can be compared. nll: -ln p of each token;
// bytes: of the text that it stands for. The error is that of a ratio of two sums by the delta method: of the mean of
// nll - ratio * bytes, over the mean of bytes. Not as many of both, or none: NaN.
Estimate bits_per_byte(std::span<const double> nll, std::span<const double> bytes);

// exp of an estimate: the error scales with the value.
Estimate exponential(const Estimate& logarithm);

// How the mean of a relates to the mean of b when both were measured on the same tokens.
struct PairedMeans {
  Estimate difference;     // mean(a) - mean(b); the error knows that both go up and down together
  double covariance = 0;   // of the two means
  double correlation = 0;  // NaN if one of them does not vary
};
PairedMeans paired_means(std::span<const double> a, std::span<const double> b);

// value_a - value_b, errors and covariance of the two values given.
Estimate difference(const Estimate& a, const Estimate& b, double covariance);

}  // namespace attar
