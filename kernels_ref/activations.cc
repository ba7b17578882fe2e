#include "kernels_ref/activations.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "base/half.h"
#include "kernels_ref/blocks.h"
#include "kernels_ref/spread.h"

namespace attar {
namespace {

// Over the bit patterns, which order like the magnitudes; NaN is above all. One loop without branches.
inline float largest_magnitude(const float* x, std::size_t n) {
  std::uint32_t most = 0;
  for (std::size_t i = 0; i < n; ++i) most = std::max(most, bits_as<std::uint32_t>(x[i]) & 0x7fffffffu);
  if (most >= 0x7f800000u)
    for (std::size_t i = 0; i < n; ++i)
      if (!std::isfinite(x[i])) fail("[activations] value ", i, " of ", n, " is ", x[i], ", not a finite number");
  return bits_as<float>(most);
}

// q = x / d to nearest; none is beyond 127, as d is the largest magnitude / 127. d may be 0.
inline void round_to_bytes(const float* x, std::size_t n, float d, std::int8_t* q) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding and subtracting it rounds to an integer
  const float inverse = d != 0 ? 1.0f / d : 0.0f;
  for (std::size_t i = 0; i < n; ++i) q[i] = static_cast<std::int8_t>(static_cast<int>((x[i] * inverse + kRound) - kRound));
}

void sum_by_16(const std::int8_t* q, std::size_t n, std::int16_t* sums) {
  for (std::size_t g = 0; g < n / 16; ++g) {
    int sum = 0;
    for (std::size_t i = 16 * g; i < 16 * (g + 1); ++i) sum += q[i];
    sums[g] = static_cast<std::int16_t>(sum);
  }
}

// 0 where its inverse would not be finite.
inline float scale_for(Rounding rounding, const float* x, std::size_t n) {
  const float most = largest_magnitude(x, n), d = most / 127.0f;
  if (rounding == Rounding::kQ8_0 && d > 65504.0f) fail("[activations] ", most, " overflows the f16 scale of q8_0");
  return most < 0x1p-100f ? 0.0f : d;
}

// x in parts of `step` values that share a scale. step: a number, or a constant that loops are unrolled for.
template <class Step>
void round_parts(Rounding rounding, Span<const float> x, Step step, std::int8_t* q, float* d) {
  for (std::size_t i = 0; i < x.size(); i += step) {
    const float scale = scale_for(rounding, x.data() + i, step);
    round_to_bytes(x.data() + i, step, scale, q + i);
    std::fill_n(d + i / 32, step / 32, rounding == Rounding::kQ8_0 ? round_to_f16(scale) : scale);
  }
}

}  // namespace

Rounding default_rounding(Type weights) {
  const TypeInfo& entry = info(weights);
  if (entry.grid.group == 0 || group_format(weights)) return Rounding::kNone;
  return entry.block_weights == 32 ? Rounding::kQ8_0 : Rounding::kQ8_K;
}

bool can_multiply(Type weights, Rounding rounding) {
  const Rounding usual = default_rounding(weights);
  return rounding == Rounding::kNone || rounding == usual || (rounding == Rounding::kRow && usual != Rounding::kNone);
}

void check_rounding(Type weights, Rounding rounding) {
  if (can_multiply(weights, rounding)) return;
  static constexpr const char* kTakes[] = {"floats only", "floats, q8_0 or int8 per row", "floats, q8_k or int8 per row"};
  fail("[multiply] ", info(weights).name, " takes activations as ", kTakes[static_cast<int>(default_rounding(weights))]);
}

void Activations::resize(Rounding rounding, std::size_t tokens, std::size_t width) {
  rounding_ = rounding, tokens_ = tokens, width_ = width;
  constexpr std::size_t kPast = 256;
  q_.assign(tokens * width + kPast, 0);
  d_.assign((tokens * width + kPast) / 32, 0.0f);
  sums_.assign((tokens * width + kPast) / 16, 0);
}

void Activations::round(Rounding rounding, Span<const float> x, std::size_t tokens) {
  const std::size_t width = tokens == 0 ? 0 : x.size() / tokens;
  if (width * tokens != x.size()) fail("[activations] ", x.size(), " values do not divide into ", tokens, " tokens");
  if (rounding == Rounding::kNone) {
    rounding_ = rounding, tokens_ = tokens, width_ = width, x_ = x.data();
    return;
  }
  const std::size_t block = rounding == Rounding::kQ8_K ? 256 : 32;
  if (width % block != 0) fail("[activations] ", width, " values do not divide into blocks of ", block);
  resize(rounding, tokens, width);
  constexpr std::size_t kTokens = 8;  // of a task
  spread((tokens + kTokens - 1) / kTokens, 4 * x.size(), [&](std::size_t task) {
    const std::size_t first = task * kTokens * width, n = std::min(kTokens * width, x.size() - first);
    const Span<const float> part = x.subspan(first, n);
    std::int8_t* const q = q_.data() + first;
    float* const d = d_.data() + first / 32;
    switch (rounding) {
      case Rounding::kQ8_0: round_parts(rounding, part, std::integral_constant<std::size_t, 32>{}, q, d); break;
      case Rounding::kQ8_K: round_parts(rounding, part, std::integral_constant<std::size_t, 256>{}, q, d); break;
      default: round_parts(rounding, part, width, q, d);
    }
    sum_by_16(q, n, sums_.data() + first / 16);
  });
}

void Activations::unpack(Rounding rounding, ByteView bytes, std::size_t width) {
  resize(rounding, 1, width);
  for (std::size_t i = 0; i < width; i += 32) {
    float d;
    const void* q;
    if (rounding == Rounding::kQ8_0) {
      const auto& block = block_at<BlockQ8_0>(bytes.data(), i / 32);
      d = f32_from_f16(block.d);
      q = block.qs;
    } else if (rounding == Rounding::kQ8_K) {
      const auto& block = block_at<BlockQ8_K>(bytes.data(), i / 256);
      d = block.d;
      q = block.qs + i % 256;
    } else {
      std::memcpy(&d, bytes.data(), sizeof(d));
      q = bytes.data() + sizeof(d) + i;
    }
    d_[i / 32] = d;
    std::memcpy(q_.data() + i, q, 32);
  }
  sum_by_16(q_.data(), width, sums_.data());
}

void encode_activations(Type type, Span<const float> x, Span<std::byte> out) {
  if (const std::uint64_t wanted = row_bytes(type, x.size()); out.size() != wanted)
    fail("[activations] ", x.size(), " values in ", info(type).name, " are ", wanted, " bytes, not ", out.size());
  if (type == Type::kF32) {
    std::memcpy(out.data(), x.data(), x.size_bytes());
    return;
  }
  if (type != Type::kQ8_0 && type != Type::kQ8_K) fail("[activations] ", info(type).name, " is not a type for activations");
  Activations rounded;
  rounded.round(type == Type::kQ8_0 ? Rounding::kQ8_0 : Rounding::kQ8_K, x, 1);
  const RoundedVector v = rounded.token(0);
  for (std::size_t b = 0; b * static_cast<std::size_t>(info(type).block_weights) < x.size(); ++b) {
    if (type == Type::kQ8_0) {
      BlockQ8_0 block;
      block.d = f16_from_f32(v.d[b]);
      std::memcpy(block.qs, v.q + 32 * b, 32);
      std::memcpy(out.data() + b * sizeof(block), &block, sizeof(block));
    } else {
      BlockQ8_K block;
      block.d = v.d[8 * b];
      std::memcpy(block.qs, v.q + 256 * b, 256);
      std::memcpy(block.bsums, v.sums + 16 * b, sizeof(block.bsums));
      std::memcpy(out.data() + b * sizeof(block), &block, sizeof(block));
    }
  }
}

}  // namespace attar
