#include "kernels_ref/dot.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/checked.h"
#include "base/threads.h"
#include "kernels_ref/packing.h"

namespace attar {
namespace {

constexpr int kLanes = 16;

// --- activations -----------------------------------------------------------------------------------------------------

float largest_magnitude(Span<const float> x) {
  float most = 0;
  for (const float v : x) {
    if (!std::isfinite(v)) fail("[activations] a value is ", v, ", not a finite number");
    most = std::max(most, std::fabs(v));
  }
  return most;
}

// q = x / d to nearest, within -127 .. 127. d may be 0.
void round_to_bytes(const float* x, int n, float d, std::int8_t* q) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding and subtracting it rounds to an integer
  const float inverse = d != 0 ? 1.0f / d : 0.0f;
  for (int i = 0; i < n; ++i) {
    float v = x[i] * inverse;
    v = v < -127.0f ? -127.0f : v;
    v = v > 127.0f ? 127.0f : v;
    q[i] = static_cast<std::int8_t>(static_cast<int>((v + kRound) - kRound));
  }
}

void sum_by_16(const std::int8_t* q, int n, Packed<std::int16_t>* sums) {
  for (int g = 0; g < n / 16; ++g) {
    int sum = 0;
    for (int i = 16 * g; i < 16 * (g + 1); ++i) sum += q[i];
    sums[g] = static_cast<std::int16_t>(sum);
  }
}

BlockQ8_0 to_q8_0(Span<const float> x) {
  const float d = largest_magnitude(x) / 127.0f;
  if (d > 65504.0f) fail("[activations] ", d * 127.0f, " overflows the f16 scale of q8_0");
  BlockQ8_0 block;
  block.d = f16_from_f32(d);
  round_to_bytes(x.data(), 32, f32_from_f16(block.d), block.qs);
  return block;
}

BlockQ8_K to_q8_k(Span<const float> x) {
  const float most = largest_magnitude(x);
  BlockQ8_K block;
  block.d = most < 0x1p-100f ? 0.0f : most / 127.0f;  // its inverse must be finite
  round_to_bytes(x.data(), 256, block.d, block.qs);
  sum_by_16(block.qs, 256, block.bsums);
  return block;
}

// --- integer products ------------------------------------------------------------------------------------------------

template <class Block>
void load_levels(const std::uint8_t* codes, int n, std::int16_t* levels) {
  for (int i = 0; i < n; ++i) levels[i] = static_cast<std::int16_t>(level_of<Block>(codes[i]));
}

// sums16: sums of 16 q; only read where there are minima per group.
template <class Block>
BlockSums sums_of(const std::int16_t* levels, const BlockScales& s, const std::int8_t* q, const Packed<std::int16_t>* sums16) {
  BlockSums sums;
  if constexpr (Block::kWeights == 32) {
    for (int i = 0; i < 32; ++i) sums.product += levels[i] * q[i];
    if constexpr (Block::kHasOffset)
      for (int i = 0; i < 32; ++i) sums.minimum += q[i];
  } else {
    std::int16_t scaled[Block::kWeights];  // |sc * level| <= 128 * 32
    for (int g = 0; g < Block::kWeights / Block::kGroup; ++g) {
      const auto sc = static_cast<std::int16_t>(s.sc[g]);
      for (int i = g * Block::kGroup; i < (g + 1) * Block::kGroup; ++i)
        scaled[i] = static_cast<std::int16_t>(sc * levels[i]);
    }
    for (int i = 0; i < Block::kWeights; ++i) sums.product += scaled[i] * q[i];
    if constexpr (Block::kHasOffset)
      for (int g = 0; g < 16; ++g) sums.minimum += s.m[g * 16 / Block::kGroup] * sums16[g];
  }
  return sums;
}

inline float scale_of(const BlockQ8_0& block) { return f32_from_f16(block.d); }
inline float scale_of(const BlockQ8_K& block) { return block.d; }
inline const Packed<std::int16_t>* sums_by_16(const BlockQ8_0&) { return nullptr; }
inline const Packed<std::int16_t>* sums_by_16(const BlockQ8_K& block) { return block.bsums; }

template <class Block, class Activations>
float dot_blocks(const std::byte* row, const std::byte* activations, std::size_t blocks) {
  // 256 weights at a time: unpacking and multiplying are separate loops, long enough to vectorise well.
  constexpr std::size_t kChunk = kSuperBlock / Block::kWeights;
  std::uint8_t codes[kSuperBlock];
  std::int16_t levels[kSuperBlock];
  BlockScales scales[kChunk];
  float total = 0;
  for (std::size_t begin = 0; begin < blocks; begin += kChunk) {
    const std::size_t count = std::min(kChunk, blocks - begin);
    for (std::size_t b = 0; b < count; ++b) {
      const Block& block = block_at<Block>(row, begin + b);
      load_scales(block, scales[b]);
      load_codes(block, codes + b * Block::kWeights);
    }
    load_levels<Block>(codes, static_cast<int>(count) * Block::kWeights, levels);
    for (std::size_t b = 0; b < count; ++b) {
      const Activations& x = block_at<Activations>(activations, begin + b);
      const BlockSums sums = sums_of<Block>(levels + b * Block::kWeights, scales[b], x.qs, sums_by_16(x));
      float value = scales[b].d * static_cast<float>(sums.product);
      if constexpr (Block::kHasOffset) value -= scales[b].dmin * static_cast<float>(sums.minimum);
      total += scale_of(x) * value;
    }
  }
  return total;
}

float dot_checked(Type type, const std::byte* row, const std::byte* activations, std::size_t weights) {
  float result = 0;
  with_block(type, [&](auto tag) {
    using Block = typename decltype(tag)::type;
    if constexpr (Block::kWeights == 32) {
      result = dot_blocks<Block, BlockQ8_0>(row, activations, weights / 32);
    } else {
      result = dot_blocks<Block, BlockQ8_K>(row, activations, weights / 256);
    }
  });
  return result;
}

}  // namespace

Type activation_type(Type weights) {
  const TypeInfo& entry = info(weights);
  if (entry.grid.group == 0 || group_format(weights)) return Type::kF32;
  return entry.block_weights == 32 ? Type::kQ8_0 : Type::kQ8_K;
}

void encode_activations(Type type, Span<const float> x, Span<std::byte> out) {
  if (const std::uint64_t wanted = row_bytes(type, x.size()); out.size() != wanted)
    fail("[activations] ", x.size(), " values in ", info(type).name, " are ", wanted, " bytes, not ", out.size());
  const auto encode = [&](auto round, std::size_t weights) {
    using Block = decltype(round(x));
    for (std::size_t b = 0; b * weights < x.size(); ++b) {
      const Block block = round(x.subspan(b * weights, weights));
      std::memcpy(out.data() + b * sizeof(Block), &block, sizeof(Block));
    }
  };
  switch (type) {
    case Type::kF32: std::memcpy(out.data(), x.data(), x.size_bytes()); return;
    case Type::kQ8_0: return encode(to_q8_0, 32);
    case Type::kQ8_K: return encode(to_q8_k, 256);
    default: fail("[activations] ", info(type).name, " is not a type for activations");
  }
}

float dot_row(Type type, ByteView row, Span<const float> x) {
  if (const std::uint64_t wanted = row_bytes(type, x.size()); row.size() != wanted)
    fail("[dot] a row of ", x.size(), " weights in ", info(type).name, " is ", wanted, " bytes, not ", row.size());
  // In parts of 256 weights, which stay in the cache; a row that is one group is one part.
  const std::size_t part = info(type).grid.whole_row ? x.size() : std::size_t{kSuperBlock};
  std::vector<float> w(part);
  float lanes[kLanes] = {};
  for (std::size_t begin = 0; begin < x.size(); begin += part) {
    const std::size_t n = std::min(part, x.size() - begin);
    decode_row(type, row.subspan(row_bytes(type, begin), row_bytes(type, n)), Span<float>(w).first(n));
    const float* v = x.data() + begin;
    std::size_t i = 0;
    for (; i + kLanes <= n; i += kLanes)
      for (int k = 0; k < kLanes; ++k) lanes[k] += w[i + k] * v[i + k];
    for (; i < n; ++i) lanes[i % kLanes] += w[i] * v[i];
  }
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int k = 0; k < half; ++k) lanes[k] += lanes[k + half];
  return lanes[0];
}

BlockSums block_sums(Type type, ByteView block, Span<const std::int8_t> q) {
  const TypeInfo& entry = info(type);
  if (activation_type(type) == Type::kF32 || block.size() != static_cast<std::size_t>(entry.block_bytes) ||
      q.size() != static_cast<std::size_t>(entry.block_weights))
    fail("[dot] ", entry.name, ": ", block.size(), " bytes and ", q.size(), " activations are not one block of integers");
  BlockSums sums;
  with_block(type, [&](auto tag) {
    using Block = typename decltype(tag)::type;
    const Block& loaded = block_at<Block>(block.data(), 0);
    BlockScales s;
    std::uint8_t codes[Block::kWeights];
    std::int16_t levels[Block::kWeights];
    Packed<std::int16_t> sums16[16];
    load_scales(loaded, s);
    load_codes(loaded, codes);
    load_levels<Block>(codes, Block::kWeights, levels);
    sum_by_16(q.data(), Block::kWeights, sums16);
    sums = sums_of<Block>(levels, s, q.data(), sums16);
  });
  return sums;
}

float dot_row_quantized(Type type, ByteView row, ByteView activations, std::uint64_t weights) {
  const Type wanted = activation_type(type);
  if (row.size() != row_bytes(type, weights) || activations.size() != row_bytes(wanted, weights))
    fail("[dot] ", weights, " weights in ", info(type).name, " with activations in ", info(wanted).name, " are ",
         row_bytes(type, weights), " and ", row_bytes(wanted, weights), " bytes, not ", row.size(), " and ",
         activations.size());
  if (wanted != Type::kF32) return dot_checked(type, row.data(), activations.data(), weights);
  std::vector<float> x(weights);
  std::memcpy(x.data(), activations.data(), activations.size());
  return dot_row(type, row, x);
}

void matvec(Type type, ByteView weights, std::int64_t rows, Span<const float> x, Span<float> y) {
  const std::uint64_t stride = row_bytes(type, x.size());
  if (rows < 0 || y.size() != static_cast<std::uint64_t>(rows) ||
      weights.size() != checked_mul(stride, static_cast<std::uint64_t>(rows), "[matvec] size of the matrix"))
    fail("[matvec] ", rows, " rows of ", x.size(), " weights in ", info(type).name, " need ", stride,
         " bytes each and as many results; there are ", weights.size(), " bytes and ", y.size(), " results");
  const Type activation = activation_type(type);
  Bytes packed;
  if (activation != Type::kF32) {
    packed.resize(row_bytes(activation, x.size()));
    encode_activations(activation, x, packed);
  }
  const auto row = [&](std::int64_t r) {
    const ByteView bytes = weights.subspan(static_cast<std::uint64_t>(r) * stride, stride);
    y[static_cast<std::size_t>(r)] = activation == Type::kF32
                                         ? dot_row(type, bytes, x)
                                         : dot_checked(type, bytes.data(), packed.data(), x.size());
  };
  // Starting threads costs more than a small matrix.
  constexpr std::int64_t kSmall = 1 << 18;
  const auto columns = static_cast<std::int64_t>(x.size());
  const std::int64_t per_chunk = std::max<std::int64_t>(1, kSmall / 4 / std::max<std::int64_t>(1, columns));
  const std::int64_t chunks = (rows + per_chunk - 1) / per_chunk;
  const auto chunk = [&](std::int64_t c) {
    for (std::int64_t r = c * per_chunk; r < std::min(rows, (c + 1) * per_chunk); ++r) row(r);
  };
  if (rows * columns <= kSmall) {
    for (std::int64_t c = 0; c < chunks; ++c) chunk(c);
  } else {
    parallel_for(chunks, chunk);
  }
}

}  // namespace attar
