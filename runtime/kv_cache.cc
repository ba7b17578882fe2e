#include "runtime/kv_cache.h"

#include <algorithm>

#include "kernels_ref/spread.h"
#include "runtime/math.h"

namespace attar {
namespace {

constexpr std::size_t kQueries = 4;   // rows of scores made together
constexpr std::size_t kKeys = 32;     // columns made together; room is a multiple
constexpr std::size_t kBlock = 32;    // tokens of a task

// scores[i][k] = q[i] . key k, for kQueries queries and `keys` (a multiple of kKeys) keys. Q: (kQueries, d). K: (d, stride).
void scores_of(const float* Q, const float* K, std::size_t d, std::size_t stride, std::size_t keys, float* scores) {
  for (std::size_t begin = 0; begin < keys; begin += kKeys) {
    float sums[kQueries][kKeys] = {};
    for (std::size_t j = 0; j < d; ++j) {
      const float* key = K + j * stride + begin;
      for (std::size_t i = 0; i < kQueries; ++i)
        for (std::size_t k = 0; k < kKeys; ++k) sums[i][k] += Q[i * d + j] * key[k];
    }
    for (std::size_t i = 0; i < kQueries; ++i) std::copy(sums[i], sums[i] + kKeys, scores + i * stride + begin);
  }
}

// scores -> weights of keys [first, last), zero elsewhere.
void softmax(float* scores, std::size_t keys, std::size_t first, std::size_t last, float softcap) {
  if (softcap > 0)
    for (std::size_t k = first; k < last; ++k) scores[k] = softcap * fast_tanh(scores[k] / softcap);
  float most = scores[first];
  for (std::size_t k = first; k < last; ++k) most = std::max(most, scores[k]);
  for (std::size_t k = first; k < last; ++k) scores[k] = fast_exp(scores[k] - most);
  float lanes[16] = {};
  std::fill(scores, scores + first, 0.0f);
  std::fill(scores + last, scores + keys, 0.0f);
  for (std::size_t k = 0; k < keys; k += 16)
    for (std::size_t l = 0; l < 16; ++l) lanes[l] += scores[k + l];
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  for (std::size_t k = first; k < last; ++k) scores[k] /= sum;
}

// out[i] = sum_k weights[i][k] V[k], for kQueries rows. V: (keys, d).
void weighted(const float* weights, const float* V, std::size_t d, std::size_t stride, std::size_t first, std::size_t last, float* out) {
  constexpr std::size_t kDims = 32;
  for (std::size_t begin = 0; begin < d; begin += kDims) {
    const std::size_t n = std::min(kDims, d - begin);
    float sums[kQueries][kDims] = {};
    if (n == kDims) {
      for (std::size_t k = first; k < last; ++k)
        for (std::size_t i = 0; i < kQueries; ++i)
          for (std::size_t j = 0; j < kDims; ++j) sums[i][j] += weights[i * stride + k] * V[k * d + begin + j];
    } else {
      for (std::size_t k = first; k < last; ++k)
        for (std::size_t i = 0; i < kQueries; ++i)
          for (std::size_t j = 0; j < n; ++j) sums[i][j] += weights[i * stride + k] * V[k * d + begin + j];
    }
    for (std::size_t i = 0; i < kQueries; ++i) std::copy(sums[i], sums[i] + n, out + i * d + begin);
  }
}

void widen(const std::uint16_t* half, std::size_t n, float* out) {
  for (std::size_t i = 0; i < n; ++i) out[i] = f32_from_f16(half[i]);
}
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
    memory.resize(2 * keys * d + kQueries * (keys + 2 * d));
    float* const K = memory.data();
    float* const V = K + keys * d;
    float* const scores = V + keys * d;
    float* const Q = scores + kQueries * keys;
    float* const O = Q + kQueries * d;
    for (std::size_t j = 0; j < d; ++j) widen(keys_.data() + (h * d + j) * room_ + base, keys, K + j * keys);
    widen(values_.data() + (h * room_ + base) * d, (end - base) * d, V);

    const std::size_t rows = count * group;  // (token, head of the group)
    for (std::size_t row = 0; row < rows; row += kQueries) {
      const auto place = [&](std::size_t i) {
        const std::size_t r = std::min(row + i, rows - 1);  // the last one again where there are fewer
        return ((from + r / group) * shape.heads + h * group + r % group) * d;
      };
      for (std::size_t i = 0; i < kQueries; ++i) std::copy_n(q + place(i), d, Q + i * d);
      const std::size_t last = begin + from + std::min(row + kQueries - 1, rows - 1) / group + 1 - base;  // seen by the last query
      const std::size_t used = (last + kKeys - 1) / kKeys * kKeys;
      scores_of(Q, K, d, keys, used, scores);
      std::size_t lowest = last;
      for (std::size_t i = 0; i < kQueries; ++i) {
        const std::size_t t = from + std::min(row + i, rows - 1) / group;
        const std::size_t first = first_of(t) - base;
        softmax(scores + i * keys, used, first, begin + t + 1 - base, shape.softcap);
        lowest = std::min(lowest, first);
      }
      weighted(scores, V, d, keys, lowest, last, O);
      for (std::size_t i = 0; i < kQueries && row + i < rows; ++i) std::copy_n(O + i * d, d, out + place(i));
    }
  });
}

template class LayerCache<std::uint16_t>;
template class LayerCache<float>;

}  // namespace attar
