#include "runtime/kv_cache.h"

#include <algorithm>

#include "base/half.h"
#include "kernels_ref/spread.h"
#include "kernels_ref/variants.h"

namespace attar {
namespace {

constexpr std::size_t kKeys = kAttentionKeys;  // room is a multiple
constexpr std::size_t kBlock = 32;             // tokens of a task

void widen(const std::uint16_t* half, std::size_t n, float* out) { active_variant().widen(half, n, out); }
void widen(const float* same, std::size_t n, float* out) { std::copy_n(same, n, out); }

void narrow(float value, std::uint16_t& stored) { stored = f16_from_f32(value); }
void narrow(float value, float& stored) { stored = value; }

}  // namespace

template <class Stored>
void LayerCache<Stored>::make_room(std::size_t needed) {
  if (needed <= room_) return;
  const std::size_t room = (std::max(needed + needed / 2, std::size_t{128}) + kKeys - 1) / kKeys * kKeys;
  std::vector<Stored> keys(kv_heads_ * head_dim_ * room), values(kv_heads_ * room * head_dim_);
  for (std::size_t i = 0; i < kv_heads_ * head_dim_ && room_ > 0; ++i)
    std::copy_n(keys_.begin() + static_cast<std::ptrdiff_t>(i * room_), room_, keys.begin() + static_cast<std::ptrdiff_t>(i * room));
  for (std::size_t h = 0; h < kv_heads_ && room_ > 0; ++h)
    std::copy_n(values_.begin() + static_cast<std::ptrdiff_t>(h * room_ * head_dim_), room_ * head_dim_,
                values.begin() + static_cast<std::ptrdiff_t>(h * room * head_dim_));
  keys_ = std::move(keys), values_ = std::move(values), room_ = room;
}

template <class Stored>
void LayerCache<Stored>::write(std::size_t begin, std::size_t tokens, const float* k, const float* v) {
  make_room(begin + tokens);
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t h = 0; h < kv_heads_; ++h) {
      const std::size_t from = (t * kv_heads_ + h) * head_dim_;
      for (std::size_t j = 0; j < head_dim_; ++j) narrow(k[from + j], keys_[(h * head_dim_ + j) * room_ + begin + t]);
      Stored* value = values_.data() + (h * room_ + begin + t) * head_dim_;
      for (std::size_t j = 0; j < head_dim_; ++j) narrow(v[from + j], value[j]);
    }
  }
}

template <class Stored>
void LayerCache<Stored>::attend(const AttentionShape& shape, std::size_t begin, std::size_t tokens, const float* q, float* out) const {
  const std::size_t group = shape.heads / kv_heads_, d = head_dim_;
  const std::size_t blocks = (tokens + kBlock - 1) / kBlock;
  spread(kv_heads_ * blocks, shape.heads * d * tokens * (begin + tokens), [&](std::size_t task) {
    const std::size_t h = task % kv_heads_, from = task / kv_heads_ * kBlock, count = std::min(kBlock, tokens - from);
    // Keys that some query of the block may see, from a whole vector on.
    const auto first_of = [&](std::size_t t) {
      return shape.window > 0 && begin + t + 1 > shape.window ? begin + t + 1 - shape.window : std::size_t{0};
    };
    const std::size_t base = first_of(from) / kKeys * kKeys, end = begin + from + count;
    const std::size_t keys = (end - base + kKeys - 1) / kKeys * kKeys;
    thread_local std::vector<float> memory;
    memory.resize(2 * keys * d + kAttentionQueries * keys);
    float* const K = memory.data();
    float* const V = K + keys * d;
    for (std::size_t j = 0; j < d; ++j) widen(keys_.data() + (h * d + j) * room_ + base, keys, K + j * keys);
    widen(values_.data() + (h * room_ + base) * d, (end - base) * d, V);

    const std::size_t rows = count * group;  // (token, head of the group)
    for (std::size_t row = 0; row < rows;) {
      AttentionTask part = {rows - row >= kAttentionQueries ? kAttentionQueries : 1, {}, K, V, d, keys, {}, {}, shape.softcap, V + keys * d, {}};
      for (std::size_t i = 0; i < part.queries; ++i, ++row) {
        const std::size_t t = from + row / group, place = (t * shape.heads + h * group + row % group) * d;
        part.q[i] = q + place, part.out[i] = out + place;
        part.first[i] = first_of(t) - base, part.last[i] = begin + t + 1 - base;
      }
      active_variant().attention(part);
    }
  });
}

template class LayerCache<std::uint16_t>;
template class LayerCache<float>;

}  // namespace attar
