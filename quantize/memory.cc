#include "quantize/memory.h"

#include <algorithm>

#include "base/error.h"
#include "base/text.h"
#include "base/threads.h"
#include "quantize/gptq.h"
#include "quantize/pipeline.h"
#include "quantize/streams.h"

namespace attar {
namespace {

constexpr double kFloat = 4;
constexpr double kProgram = 500e6;  // libraries, tokenizer, pages of the model's file on their way in, what the allocator keeps

// rows: of a matrix that a thread works on at a time.
std::uint64_t with_rows(const ModelConfig& c, std::int64_t length, int threads, double rows) {
  const double h = static_cast<double>(c.hidden_size), f = static_cast<double>(c.intermediate_size),
               heads = static_cast<double>(c.heads * c.head_dim), kv = static_cast<double>(c.kv_heads * c.head_dim);
  const double wave = static_cast<double>(std::max(kWaveTokens, length)), tokens = static_cast<double>(length);
  const double qkv = h * (heads + 2 * kv), o = h * heads, gate_up = 2 * h * f, down = h * f;
  // Weights of the half, then sums and inputs of a wave, then what solving takes: H, its factor (U in float32, or half of it in float64), and
  // what moves the target.
  const auto sums = [&](double weights, double in, double out) { return kFloat * (weights + in * in + out * in + wave * (in + out)); };
  const auto solve = [&](double weights, double in, double out) {
    return kFloat * (weights + 2 * in * in + out * in) + threads * kFloat * rows * in * 12;
  };
  const double peak = std::max({
      sums(qkv + o, h, h), solve(2 * qkv + o, h, h),                     // into q, k, v: a cross product instead of outputs
      kFloat * (2 * qkv + o), sums(o, heads, h), solve(2 * o, heads, h),  // into o: once its inputs are in a file, without what is before it
      sums(gate_up + down, h, h), solve(2 * gate_up + down, h, h),       // into gate, up
      kFloat * (2 * gate_up + down), sums(down, f, h), solve(2 * down, f, h),  // into down
      kFloat * h * static_cast<double>(c.vocab_size) + solve(0, h, h),   // the head
  });
  // A thread that runs a chunk through half a layer: the wide inputs of the MLP, or scores of a block of queries, a few times over.
  const double chunk = kFloat * std::max(6 * tokens * (f + h), 4 * static_cast<double>(c.heads) * 256 * tokens);
  return static_cast<std::uint64_t>(kProgram + peak + threads * chunk);
}

// Of a thread that runs `tokens` tokens through a layer.
double pass_of(const ModelConfig& c, double tokens) {
  return std::max(6 * tokens * static_cast<double>(c.intermediate_size + c.hidden_size), 4 * static_cast<double>(c.heads) * 256 * tokens);
}

}  // namespace

double weights_of(const ModelConfig& c) {
  const double h = static_cast<double>(c.hidden_size), f = static_cast<double>(c.intermediate_size), heads = static_cast<double>(c.heads * c.head_dim),
               kv = static_cast<double>(c.kv_heads * c.head_dim), table = h * static_cast<double>(c.vocab_size);
  return static_cast<double>(c.layers) * h * (2 * heads + 2 * kv + 3 * f) + (c.tied_embeddings ? 1 : 2) * table;
}

double training_pass(const ModelConfig& c, double tokens) {
  const double heads = static_cast<double>(c.heads);
  return tokens * (8 * static_cast<double>(c.intermediate_size + c.hidden_size) + 4 * heads * static_cast<double>(c.head_dim)) + 4 * heads * tokens * tokens;
}

std::uint64_t self_text_memory(const ModelConfig& c, std::int64_t length, int threads) {
  constexpr double kRows = 8, kLogits = 6;  // texts of a thread; its logits, their softmax and order
  const double cache = 2 * static_cast<double>(c.layers * c.kv_heads * c.head_dim * length), v = static_cast<double>(c.vocab_size);
  return static_cast<std::uint64_t>(kProgram + kFloat * (weights_of(c) + threads * kRows * (cache + kLogits * v)));
}

std::uint64_t sensitivity_memory(const ModelConfig& c, std::int64_t length, int threads) {
  constexpr double kChunks = 8, kProbe = 3, kLogits = 64 * 16;  // a matrix, rounded and decoded; of 64 positions logits, their logarithms, what the divergence takes
  const double h = static_cast<double>(c.hidden_size), v = static_cast<double>(c.vocab_size), tokens = static_cast<double>(length);
  const double largest = h * std::max({v, static_cast<double>(c.intermediate_size), static_cast<double>(c.heads * c.head_dim)});
  return static_cast<std::uint64_t>(kProgram + kFloat * (weights_of(c) + kProbe * largest + 2 * kChunks * tokens * h + threads * (kLogits * v + pass_of(c, tokens))));
}

std::uint64_t divergence_memory(const ModelConfig& c, std::int64_t length, int threads) {
  constexpr double kLogits = 3 * 2 * (1 << 23);  // of both models: asked for at a time, on their way there, and their exponentials
  return static_cast<std::uint64_t>(kProgram + kFloat * (2 * weights_of(c) + threads * (kLogits + pass_of(c, static_cast<double>(std::max<std::int64_t>(512, length))))));
}

std::uint64_t calibrated_memory(const ModelConfig& c, std::int64_t length, int threads) { return with_rows(c, length, threads, kStepRows); }

std::uint64_t rotated_memory(const ModelConfig& c, bool learned) {
  const double h = static_cast<double>(c.hidden_size), heads = static_cast<double>(c.heads * c.head_dim),
               kv = static_cast<double>(c.kv_heads * c.head_dim);
  return static_cast<std::uint64_t>(kFloat * h * (std::max({static_cast<double>(c.intermediate_size), heads, c.fused_qkv ? heads + 2 * kv : kv}) + (learned ? 2 * h : 0)));
}

std::uint64_t learning_memory(const ModelConfig& c) {
  // Of a matrix: as it is, rounded, back among the others, its error, that times H, and one on its way; H; of R1 in float64 what Adam keeps, or a step.
  constexpr double kMatrices = 6, kKept = 8, kStep = 24;
  const double h = static_cast<double>(c.hidden_size), f = static_cast<double>(c.intermediate_size), heads = static_cast<double>(c.heads * c.head_dim);
  const double visit = kMatrices * h * std::max((c.fused_gate_up ? 2 : 1) * f, heads) + std::max({h * h, heads * heads, f * f}) + kKept * h * h;
  return static_cast<std::uint64_t>(kProgram + kFloat * std::max(visit, kStep * h * h) + static_cast<double>(rotated_memory(c, false)));
}

std::uint64_t metric_memory(const ModelConfig& c, std::int64_t length, int threads) {
  constexpr double kLogits = 5;  // logits and what their gradient needs
  const double h = static_cast<double>(c.hidden_size), f = static_cast<double>(c.intermediate_size), v = static_cast<double>(c.vocab_size),
               heads = static_cast<double>(c.heads * c.head_dim), kv = static_cast<double>(c.kv_heads * c.head_dim);
  const double tokens = static_cast<double>(std::min<std::int64_t>(length, 256)), widest = std::max({h, f, heads});
  const double outputs = heads + 2 * kv + 2 * f + 2 * h, weights = h * (2 * heads + 2 * kv + 3 * f);
  const double inputs = 2 * h * h + heads * heads + f * f;  // H of each
  const double chunk = tokens * (8 * (f + h) + 4 * outputs) + 4 * static_cast<double>(c.heads) * tokens * tokens;
  const double backward = std::max(kFloat * (weights + inputs + outputs * static_cast<double>(kMetricRows) + threads * chunk) + kFloat * widest * widest,
                                   kFloat * (h * v + threads * kLogits * tokens * v));
  const std::uint64_t tied = with_rows(c, length, threads, static_cast<double>(kMetricRows));
  return std::max(tied, static_cast<std::uint64_t>(kProgram + backward));
}

std::uint64_t autoround_memory(const ModelConfig& c, std::int64_t length, int threads) {
  const double h = static_cast<double>(c.hidden_size), f = static_cast<double>(c.intermediate_size),
               heads = static_cast<double>(c.heads * c.head_dim);
  // Of the larger half: all that the quantized stream runs on, where weights started, how far they moved, what they are, codes and
  // gradients; and the training pass of a chunk.
  const double weights = std::max(3 * h * f, h * (2 * heads + 2 * static_cast<double>(c.kv_heads * c.head_dim)));
  return static_cast<std::uint64_t>(kFloat * (weights * (5.5 + threads) + threads * training_pass(c, static_cast<double>(length))));
}

void check_memory(const ModelConfig& config, const QuantizeOptions& options) {
  if (options.calibration.empty() || options.max_memory == 0) return;
  const auto length = static_cast<std::int64_t>(options.calibration.front().size());
  const std::uint64_t quantizing = (options.fisher ? metric_memory : calibrated_memory)(config, length, thread_count()) +
                                   (options.rotated ? rotated_memory(config, true) : 0) + (options.autoround ? autoround_memory(config, length, thread_count()) : 0);
  const std::uint64_t needed = std::max(quantizing, options.rotated ? learning_memory(config) : 0);
  if (needed > options.max_memory)
    fail("quantize: --max-memory allows ", size_text(options.max_memory), ", calibrating this model may take ", size_text(needed),
         " with ", thread_count(), " threads; allow that much, or give fewer --threads or a shorter --context");
}

}  // namespace attar
