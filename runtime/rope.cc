#include "runtime/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"

namespace attar {
namespace {

constexpr double kTwoPi = 2.0 * std::numbers::pi;

std::vector<double> plain_theta(double base, std::int64_t d) {
  std::vector<double> theta(static_cast<std::size_t>(d / 2));
  for (std::size_t j = 0; j < theta.size(); ++j)
    theta[j] = std::pow(base, -2.0 * static_cast<double>(j) / static_cast<double>(d));
  return theta;
}

void scale_llama3(std::vector<double>& theta, const Rope& rope, double original) {
  const double low_wavelength = original / rope.low_freq_factor, high_wavelength = original / rope.high_freq_factor;
  for (double& t : theta) {
    const double wavelength = kTwoPi / t;
    if (wavelength < high_wavelength) continue;
    if (wavelength > low_wavelength) {
      t /= rope.factor;
      continue;
    }
    const double smooth =
        (original / wavelength - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
    t = (1.0 - smooth) * t / rope.factor + smooth * t;
  }
}

void scale_yarn(std::vector<double>& theta, const Rope& rope, std::int64_t d, double original) {
  // The dimension (times two pairs) that turns `rotations` times over the original context: section 3.2.
  const auto correction = [&](double rotations) {
    return static_cast<double>(d) * std::log(original / (rotations * kTwoPi)) / (2.0 * std::log(rope.theta));
  };
  double low = correction(rope.beta_fast), high = correction(rope.beta_slow);
  if (rope.truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(d - 1));
  if (low == high) high += 0.001;
  for (std::size_t j = 0; j < theta.size(); ++j) {
    const double ramp = std::clamp((static_cast<double>(j) - low) / (high - low), 0.0, 1.0);  // 1: interpolate
    theta[j] = theta[j] / rope.factor * ramp + theta[j] * (1.0 - ramp);
  }
}

double yarn_attention_factor(const Rope& rope) {
  if (rope.attention_factor) return *rope.attention_factor;
  const auto m = [&](double mscale) { return rope.factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(rope.factor) + 1.0; };
  return rope.mscale != 0.0 && rope.mscale_all_dim != 0.0 ? m(rope.mscale) / m(rope.mscale_all_dim) : m(1.0);
}

// factor: the ratio of the two context lengths.
double longrope_attention_factor(const Rope& rope, double original) {
  if (rope.attention_factor) return *rope.attention_factor;
  return rope.factor <= 1.0 ? 1.0 : std::sqrt(1.0 + std::log(rope.factor) / std::log(original));
}

void scale_longrope(std::vector<double>& theta, const Rope& rope, bool beyond) {
  const std::vector<double>& divisors = beyond ? rope.long_factor : rope.short_factor;
  if (divisors.size() != theta.size())
    fail("longrope: ", beyond ? "long_factor" : "short_factor", " has ", divisors.size(), " entries, expected ",
         theta.size(), ", one per pair of rotated dimensions");
  for (std::size_t j = 0; j < theta.size(); ++j) theta[j] /= divisors[j];
}

}  // namespace

std::int64_t rotary_dims(const Rope& rope, std::int64_t head_dim) {
  const auto d = static_cast<std::int64_t>(static_cast<double>(head_dim) * rope.partial_rotary_factor);
  if (d < 2 || d > head_dim || d % 2 != 0)
    fail("rope: head_dim ", head_dim, " with partial_rotary_factor ", rope.partial_rotary_factor, " rotates ", d,
         " dimensions; expected an even number from 2 to head_dim");
  return d;
}

bool depends_on_length(const Rope& rope) {
  return rope.type == RopeType::kDynamic || rope.type == RopeType::kLongrope;
}

RopeFrequencies rope_frequencies(const Rope& rope, std::int64_t head_dim, std::int64_t max_positions,
                                 std::int64_t length) {
  const std::int64_t d = rotary_dims(rope, head_dim);
  const double longest = static_cast<double>(max_positions);
  const double original = rope.original_max_positions > 0 ? static_cast<double>(rope.original_max_positions) : longest;
  RopeFrequencies result;
  double base = rope.theta;
  if (rope.type == RopeType::kDynamic && length > max_positions) {
    if (d == 2) fail("rope: dynamic scaling needs more than 2 rotated dimensions");
    const double stretch = rope.factor * static_cast<double>(length) / longest - (rope.factor - 1.0);
    base *= std::pow(stretch, static_cast<double>(d) / static_cast<double>(d - 2));
  }
  std::vector<double> theta = plain_theta(base, d);
  switch (rope.type) {
    case RopeType::kDefault:
    case RopeType::kDynamic:
      break;
    case RopeType::kLinear:
      for (double& t : theta) t /= rope.factor;
      break;
    case RopeType::kLlama3:
      scale_llama3(theta, rope, original);
      break;
    case RopeType::kYarn:
      scale_yarn(theta, rope, d, original);
      result.attention_factor = yarn_attention_factor(rope);
      break;
    case RopeType::kLongrope:
      scale_longrope(theta, rope, static_cast<double>(length) > original);
      result.attention_factor = longrope_attention_factor(rope, original);
      break;
  }
  result.theta.assign(theta.begin(), theta.end());
  for (const float t : result.theta)
    if (!std::isfinite(t)) fail("rope: the config's rope parameters give an angle that is not finite");
  return result;
}

}  // namespace attar
