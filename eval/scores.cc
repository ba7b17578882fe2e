// KL(P || Q) = sum_i p_i (ln p_i - ln q_i) with p = softmax(a), q = softmax(b). With a' = a - max a, b' = b - max b,
// Z_a = sum exp a'_i, Z_b = sum exp b'_i:
//
//   KL = (sum_i exp(a'_i) (a'_i - b'_i)) / Z_a - ln Z_a + ln Z_b
//
// One exponential per logit, and equal rows give exactly 0. The vocabulary is walked in blocks: inside a block a pairwise
// sum of floats, which compilers turn into vector code, across blocks double. Every result is therefore the same
// whatever the processor and the number of threads.
#include "eval/scores.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>

#include "base/vector_clones.h"

#define ATTAR_INLINE inline __attribute__((always_inline))

namespace attar {
namespace {

constexpr std::size_t kBlock = 512;
using Block = float[kBlock];

// e^x for x <= 0 to about one unit in the last place; below -87 it stays at e^-87, which no sum here can feel.
// Range reduction and polynomial are those of Cephes' expf (S. L. Moshier, https://www.netlib.org/cephes/).
ATTAR_INLINE float exp_of(float x) {
  constexpr float kLog2e = 1.44269504088896341f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  constexpr float kToInteger = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  // max(x, -87) in whole numbers (negative floats order backwards as such): a comparison of floats would keep GCC from
  // vectorizing.
  const float clamped =
      std::bit_cast<float>(std::min(std::bit_cast<std::uint32_t>(x), std::bit_cast<std::uint32_t>(-87.0f)));
  const float shifted = clamped * kLog2e + kToInteger;
  const float n = shifted - kToInteger;
  const float r = (clamped - n * kLn2High) - n * kLn2Low;
  float y = 1.9875691500e-4f;
  y = y * r + 1.3981999507e-3f;
  y = y * r + 8.3334519073e-3f;
  y = y * r + 4.1665795894e-2f;
  y = y * r + 1.6666665459e-1f;
  y = y * r + 5.0000001201e-1f;
  y = y * r * r + r + 1.0f;
  return y * std::bit_cast<float>((std::bit_cast<std::uint32_t>(shifted) << 23) + 0x3f800000u);
}

// block = row[begin, begin + 512) - shift; what lies past the end of the row becomes `filler`.
ATTAR_INLINE void load(const float* row, std::size_t begin, std::size_t n, float shift, float filler, Block& block) {
  const std::size_t count = std::min(kBlock, n - begin);
  for (std::size_t i = 0; i < count; ++i) block[i] = row[begin + i] - shift;
  for (std::size_t i = count; i < kBlock; ++i) block[i] = filler;
}

ATTAR_INLINE double pairwise_sum(Block& block) {
  for (std::size_t half = kBlock / 2; half > 0; half /= 2)
    for (std::size_t i = 0; i < half; ++i) block[i] += block[half + i];
  return block[0];
}

ATTAR_INLINE float pairwise_max(Block& block) {
  for (std::size_t half = kBlock / 2; half > 0; half /= 2)
    for (std::size_t i = 0; i < half; ++i) block[i] = block[i] > block[half + i] ? block[i] : block[half + i];
  return block[0];
}

struct Peak {
  float value;
  std::int64_t index;  // the first of equals
  bool finite;         // of the whole row
};

ATTAR_VECTOR_CLONES Peak find_peak(const float* a, std::size_t n) {
  Peak peak{a[0], 0, true};
  Block x, nothing;
  double zero = 0;  // turns NaN as soon as one logit is NaN or infinite
  for (std::size_t begin = 0; begin < n; begin += kBlock) {
    load(a, begin, n, 0, a[0], x);
    for (std::size_t i = 0; i < kBlock; ++i) nothing[i] = x[i] * 0.0f;
    zero += pairwise_sum(nothing);
    const float best = pairwise_max(x);
    if (best > peak.value) peak = {best, std::find(a + begin, a + std::min(begin + kBlock, n), best) - a, true};
  }
  peak.finite = zero == 0;
  return peak;
}

constexpr float kFarBelow = -100.0f;  // stands for a logit that is not there: it adds e^-87 to a sum of at least 1

ATTAR_VECTOR_CLONES double exp_sum(const float* a, float max_a, std::size_t n) {
  Block x;
  double Z = 0;
  for (std::size_t begin = 0; begin < n; begin += kBlock) {
    load(a, begin, n, max_a, kFarBelow, x);
    for (std::size_t i = 0; i < kBlock; ++i) x[i] = exp_of(x[i]);
    Z += pairwise_sum(x);
  }
  return Z;
}

struct PairSums {
  double Z_a = 0, Z_b = 0, cross = 0;
};

// e_a, e_b: room for n rounded up to whole blocks; left with exp(a'), exp(b').
ATTAR_VECTOR_CLONES PairSums pair_sums(const float* a, const float* b, float max_a, float max_b, std::size_t n, float* e_a,
                                       float* e_b) {
  Block x_a, x_b, cross;
  PairSums sums;
  for (std::size_t begin = 0; begin < n; begin += kBlock) {
    load(a, begin, n, max_a, kFarBelow, x_a);
    load(b, begin, n, max_b, kFarBelow, x_b);
    for (std::size_t i = 0; i < kBlock; ++i) cross[i] = x_a[i] - x_b[i];
    for (std::size_t i = 0; i < kBlock; ++i) x_a[i] = exp_of(x_a[i]);
    for (std::size_t i = 0; i < kBlock; ++i) x_b[i] = exp_of(x_b[i]);
    for (std::size_t i = 0; i < kBlock; ++i) cross[i] *= x_a[i];
    std::copy(x_a, x_a + kBlock, e_a + begin);
    std::copy(x_b, x_b + kBlock, e_b + begin);
    sums.Z_a += pairwise_sum(x_a);
    sums.Z_b += pairwise_sum(x_b);
    sums.cross += pairwise_sum(cross);
  }
  return sums;
}

// Sum of min(e_a Z_b / Z_a, e_b) / Z_b; for equal rows the terms, and so the sum, are those of Z_b.
ATTAR_VECTOR_CLONES double overlap(const float* e_a, const float* e_b, std::size_t n, double Z_a, double Z_b) {
  const auto ratio = static_cast<float>(Z_b / Z_a);
  Block x;
  double sum = 0;
  for (std::size_t begin = 0; begin < n; begin += kBlock) {
    for (std::size_t i = 0; i < kBlock; ++i) {
      const float p = e_a[begin + i] * ratio, q = e_b[begin + i];
      x[i] = p < q ? p : q;
    }
    sum += pairwise_sum(x);
  }
  return sum / Z_b;
}

}  // namespace

RowNorm row_norm(std::span<const float> logits) {
  const Peak peak = find_peak(logits.data(), logits.size());
  return {peak.value, std::log(exp_sum(logits.data(), peak.value, logits.size())), peak.index, peak.finite};
}

TokenScore token_score(const RowNorm& norm, float logit) {
  if (!norm.finite) return {std::nan(""), norm.top};
  return {norm.peak - logit + norm.log_sum, norm.top};
}

TokenScore score_row(std::span<const float> logits, std::int64_t target) {
  assert(target >= 0 && static_cast<std::size_t>(target) < logits.size());
  return token_score(row_norm(logits), logits[static_cast<std::size_t>(target)]);
}

PairScore score_rows(std::span<const float> model, std::span<const float> reference, std::int64_t target) {
  assert(model.size() == reference.size());
  assert(target >= 0 && static_cast<std::size_t>(target) < model.size());
  const Peak peak_a = find_peak(reference.data(), reference.size()), peak_b = find_peak(model.data(), model.size());
  thread_local std::vector<float> e_a, e_b;
  const std::size_t room = (model.size() + kBlock - 1) / kBlock * kBlock;
  e_a.resize(room), e_b.resize(room);
  const PairSums sums =
      pair_sums(reference.data(), model.data(), peak_a.value, peak_b.value, model.size(), e_a.data(), e_b.data());
  const double log_Z_a = std::log(sums.Z_a), log_Z_b = std::log(sums.Z_b);
  const auto t = static_cast<std::size_t>(target);
  return {token_score({peak_b.value, log_Z_b, peak_b.index, peak_b.finite}, model[t]),
          token_score({peak_a.value, log_Z_a, peak_a.index, peak_a.finite}, reference[t]),
          sums.cross / sums.Z_a - log_Z_a + log_Z_b, overlap(e_a.data(), e_b.data(), model.size(), sums.Z_a, sums.Z_b)};
}

std::vector<double> TokenScores::delta_p() const {
  std::vector<double> delta(reference_nll.size());
  for (std::size_t i = 0; i < delta.size(); ++i) delta[i] = std::exp(-nll[i]) - std::exp(-reference_nll[i]);
  return delta;
}

}  // namespace attar
