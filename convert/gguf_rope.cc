// Rotary embeddings in GGUF: keys under ARCH.rope, and tensors that hold one number for each frequency.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "convert/gguf_model.h"

namespace attar {

std::vector<float> rope_frequency_factors(const ModelConfig& config) {
  const Rope& rope = config.rope;
  if (rope.type == RopeType::kLongrope) return {rope.short_factor.begin(), rope.short_factor.end()};
  // In single precision and in the same order as llama.cpp's converter, so that the bytes agree.
  const auto d = static_cast<float>(config.head_dim);
  const auto original = static_cast<double>(rope.original_max_positions);
  const double low_wavelength = original / rope.low_freq_factor, high_wavelength = original / rope.high_freq_factor;
  std::vector<float> factors;
  for (std::int64_t i = 0; i < config.head_dim; i += 2) {
    const float frequency = 1.0f / std::pow(static_cast<float>(rope.theta), static_cast<float>(i) / d);
    const float wavelength = static_cast<float>(2 * std::numbers::pi) / frequency;
    if (wavelength < static_cast<float>(high_wavelength)) {
      factors.push_back(1.0f);
    } else if (wavelength > static_cast<float>(low_wavelength)) {
      factors.push_back(static_cast<float>(rope.factor));
    } else {
      const float smooth = (static_cast<float>(original) / wavelength - static_cast<float>(rope.low_freq_factor)) /
                           static_cast<float>(rope.high_freq_factor - rope.low_freq_factor);
      factors.push_back(1.0f / ((1.0f - smooth) / static_cast<float>(rope.factor) + smooth));
    }
  }
  return factors;
}

namespace {

bool gives(const std::vector<double>& factors, const Rope& rope, std::int64_t head_dim) {
  ModelConfig probe;
  probe.head_dim = head_dim;
  probe.rope = rope;
  const std::vector<float> again = rope_frequency_factors(probe);
  return std::equal(again.begin(), again.end(), factors.begin(), factors.end(),
                    [](double a, double b) { return std::abs(a - b) <= 1e-5 * b; });
}

}  // namespace

// With a = original / (high - low) and b = low / (high - low), the smooth part of a frequency f of wavelength L is
// s = a / L - b, a straight line in 1 / L. Only ratios of original, low and high matter, so low = 1 is free to choose,
// as all published models have it; original and high then follow from two points of the line.
bool recover_llama3(const std::vector<double>& factors, Rope& rope, std::int64_t head_dim) {
  if (factors.size() < 3 || factors.front() != 1.0 || !(factors.back() > 1.0)) return false;
  rope.type = RopeType::kLlama3;
  rope.factor = factors.back();
  rope.low_freq_factor = 1.0;
  rope.high_freq_factor = 4.0;
  rope.original_max_positions = 8192;  // Llama 3.1 and 3.2; small heads leave too few points to solve for it
  if (gives(factors, rope, head_dim)) return true;
  std::vector<std::pair<double, double>> line;  // (1 / L, s)
  for (std::size_t i = 0; i < factors.size(); ++i) {
    if (!(factors[i] > 1.0 && factors[i] < rope.factor)) continue;
    const double wavelength =
        2 * std::numbers::pi * std::pow(rope.theta, 2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    line.emplace_back(1.0 / wavelength, (1.0 / factors[i] - 1.0 / rope.factor) / (1.0 - 1.0 / rope.factor));
  }
  if (line.size() < 2) return false;
  const auto [x0, s0] = line.front();
  const auto [x1, s1] = line.back();
  const double a = (s0 - s1) / (x0 - x1), b = a * x0 - s0;
  if (!(a > 0 && b > 0)) return false;
  const double spread = 1.0 / b;  // high - low, with low = 1
  rope.low_freq_factor = 1.0;
  rope.high_freq_factor = std::round((1.0 + spread) * 1e3) / 1e3;
  rope.original_max_positions = std::llround(a * spread);
  if (rope.original_max_positions < 1) return false;
  return gives(factors, rope, head_dim);
}

}  // namespace attar
