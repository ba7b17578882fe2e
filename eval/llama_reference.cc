// The layout, from llama.cpp's tools/perplexity/perplexity.cpp (functions perplexity and kl_divergence), little-endian:
//
//   "_logits_"  u32 context  i32 vocabulary  i32 chunks  i32 tokens[chunks * context]
//   per chunk, for positions context / 2 .. context - 2:
//     f32 scale  f32 minimum  u16 level[vocabulary, and one more if that is odd]       ln p(i) = scale * level[i] + minimum
//
// Levels lie between the largest logit and 16 below it; what is less likely has level 0.
#include "eval/llama_reference.h"

#include <cmath>
#include <cstring>
#include <fstream>

#include "base/checked.h"
#include "base/error.h"

namespace attar {
namespace {
constexpr std::string_view kMagic = "_logits_";
}

bool is_llama_reference(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string magic(kMagic.size(), ' ');
  return file.read(magic.data(), static_cast<std::streamsize>(magic.size())) && magic == kMagic;
}

std::uint64_t LlamaReference::position_bytes() const {
  return 2 * sizeof(float) + sizeof(std::uint16_t) * static_cast<std::uint64_t>((vocab_size_ + 1) / 2 * 2);
}

LlamaReference::LlamaReference(const fs::path& path) : file_(path) {
  const std::string what = cat("reference ", path.string());
  ByteReader in(file_.bytes(), what);
  if (in.remaining() < kMagic.size() || as_text(in.take(kMagic.size(), "magic")) != kMagic)
    fail(what, " is no file that llama-perplexity --kl-divergence-base wrote");
  context_ = in.read<std::uint32_t>("context"), vocab_size_ = in.read<std::int32_t>("vocabulary");
  const std::int64_t count = in.read<std::int32_t>("number of chunks");
  if (context_ < 4 || vocab_size_ < 1 || count < 1)
    fail(what, " says ", count, " chunks of ", context_, " tokens over a vocabulary of ", vocab_size_, "; the file is damaged");
  const std::uint64_t tokens = checked_mul(static_cast<std::uint64_t>(count), static_cast<std::uint64_t>(context_), what);
  ByteReader ids(in.take(checked_mul(tokens, sizeof(std::int32_t), what), "tokens"), what);
  const std::uint64_t wanted = checked_mul(static_cast<std::uint64_t>(count * scored_per_chunk(context_)), position_bytes(), what);
  if (in.remaining() != wanted)
    fail(what, ": ", count, " chunks of ", context_, " tokens over ", vocab_size_, " take ", wanted, " bytes, and ", in.remaining(),
         " are there; llama-perplexity was stopped, or the file is damaged");
  positions_ = in.take(wanted, "positions");
  for (std::int64_t c = 0; c < count; ++c) {
    Ids& chunk = chunks_.emplace_back();
    for (std::int64_t i = 0; i < context_; ++i) {
      chunk.push_back(ids.read<std::int32_t>("token"));
      if (chunk.back() < 0 || chunk.back() >= vocab_size_)
        fail(what, ": token ", chunk.back(), " is outside the vocabulary of ", vocab_size_);
    }
  }
}

PairScore LlamaReference::score(std::size_t slot, std::span<const float> logits, std::int64_t target) const {
  constexpr float kLeast = -16;
  const RowNorm norm = row_norm(logits);
  PairScore result;
  result.model = token_score(norm, logits[static_cast<std::size_t>(target)]);
  const std::byte* const at = positions_.data() + slot * position_bytes();
  float scale, minimum;
  std::memcpy(&scale, at, sizeof(scale)), std::memcpy(&minimum, at + sizeof(scale), sizeof(minimum));
  const auto log_p = [&](std::size_t i) {
    std::uint16_t level;
    std::memcpy(&level, at + 2 * sizeof(float) + i * sizeof(level), sizeof(level));
    return scale * static_cast<float>(level) + minimum;
  };
  result.reference.nll = -log_p(static_cast<std::size_t>(target));
  float most = log_p(0);
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const float p = log_p(i);
    if (p > most) most = p, result.reference.top = static_cast<std::int64_t>(i);
    const double log_q = static_cast<double>(logits[i]) - norm.log_Z(), prob = std::exp(static_cast<double>(p));
    result.acceptance += std::min(prob, std::exp(log_q));
    if (p > kLeast) result.kl += prob * (static_cast<double>(p) - log_q);
  }
  result.acceptance = std::min(1.0, result.acceptance);
  if (!(std::isfinite(scale) && std::isfinite(minimum))) result.reference.nll = std::nan("");  // measure() says where
  return result;
}

}  // namespace attar
