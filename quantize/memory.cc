#include "quantize/memory.h"

#include <algorithm>

#include "base/error.h"
#include "base/text.h"

namespace attar {
namespace {

constexpr std::int64_t kLargestWave = 8192, kSmallestWave = 2048;
constexpr double kProgram = 300e6;  // libraries, tokenizer, pages of the model's file on their way in

}  // namespace

std::uint64_t calibrated_memory(const ModelConfig& c, std::int64_t wave_tokens, std::int64_t length, int threads) {
  constexpr double kFloat = 4, kDouble = 8;
  const double h = static_cast<double>(c.hidden_size), f = static_cast<double>(c.intermediate_size),
               heads = static_cast<double>(c.heads * c.head_dim), kv = static_cast<double>(c.kv_heads * c.head_dim);
  const double wave = static_cast<double>(std::max(wave_tokens, length)), tokens = static_cast<double>(length);
  const double qkv = h * (heads + 2 * kv), o = h * heads, gate_up = 2 * h * f, down = h * f;
  // Weights of the half, then sums and inputs of a wave, then what solving takes: H, U and the factor, and what moves the target.
  const auto sums = [&](double weights, double in, double out) { return kFloat * (weights + in * in + out * in + wave * (in + out)); };
  const auto solve = [&](double weights, double in, double out) {
    return kFloat * (weights + 2 * in * in + out * in) + kDouble * in * in + threads * kFloat * 32 * in * 16;
  };
  const double peak = std::max({
      sums(qkv + o, h, h), solve(2 * qkv + o, h, h),                     // into q, k, v: a cross product instead of outputs
      sums(2 * qkv + o, heads, h), solve(qkv + 2 * o, heads, h),         // into o
      sums(gate_up + down, h, h), solve(2 * gate_up + down, h, h),       // into gate, up
      sums(2 * gate_up + down, f, h), solve(gate_up + 2 * down, f, h),   // into down
      kFloat * h * static_cast<double>(c.vocab_size) + solve(0, h, h),   // the head
  });
  // A thread that runs a chunk through half a layer: the wide inputs of the MLP, or scores of a block of queries, a few times over.
  const double chunk = kFloat * std::max(6 * tokens * (f + h), 4 * static_cast<double>(c.heads) * 256 * tokens);
  return static_cast<std::uint64_t>(kProgram + peak + threads * chunk);
}

std::int64_t fitting_wave(const ModelConfig& config, std::int64_t length, int threads, std::uint64_t limit) {
  std::int64_t wave = kLargestWave;
  while (limit > 0 && wave > kSmallestWave && calibrated_memory(config, wave, length, threads) > limit) wave /= 2;
  if (const std::uint64_t needed = calibrated_memory(config, wave, length, threads); limit > 0 && needed > limit)
    fail("quantize: --max-memory allows ", size_text(limit), ", calibrating this model takes at least ", size_text(needed), " on ",
         threads, " threads; allow that much, or give fewer --threads or a shorter --context");
  return wave;
}

}  // namespace attar
