#include "runtime/kv_cache.h"

#include <algorithm>
#include <type_traits>

#include "base/half.h"
#include "kernels_ref/activations.h"
#include "kernels_ref/spread.h"
#include "kernels_ref/variants.h"

namespace attar {
namespace {

constexpr std::size_t kKeys = kAttentionKeys;  // side by side; room is a multiple
constexpr std::size_t kBlock = 32;             // tokens of a task

// (rows, room, width) in memory; rows keep their places when room grows.
template <class T>
void widen_rows(std::vector<T>& held, std::size_t rows, std::size_t width, std::size_t old_room, std::size_t room) {
  std::vector<T> wider(rows * room * width);
  for (std::size_t r = 0; r < rows; ++r)
    std::copy_n(held.begin() + static_cast<std::ptrdiff_t>(r * old_room * width), old_room * width,
                wider.begin() + static_cast<std::ptrdiff_t>(r * room * width));
  held = std::move(wider);
}

void widen(const std::uint16_t* half, std::size_t n, float* out) { active_variant().widen(half, n, out); }
void widen(const float* same, std::size_t n, float* out) { std::copy_n(same, n, out); }

void narrow(float value, std::uint16_t& stored) { stored = f16_from_f32(value); }
void narrow(float value, float& stored) { stored = value; }

}  // namespace

class LayerCache::Store {
 public:
  virtual ~Store() = default;
  virtual void grow(std::size_t old_room, std::size_t room) = 0;
  virtual void write(std::size_t head, std::size_t place, const float* key, const float* value) = 0;
  // (head, base, task): where keys and values of the places from `base` on are, if they are kept as `attention` takes them.
  virtual bool in_place(std::size_t, std::size_t, AttentionTask&) const { return false; }
  // K: (keys / kKeys, head_dim, kKeys), V: (values, head_dim), of the places from `base` on.
  virtual void read(std::size_t head, std::size_t base, std::size_t keys, std::size_t values, float* K, float* V) const = 0;
};

namespace {

template <class Stored>
class PlainStore : public LayerCache::Store {
 public:
  PlainStore(std::size_t kv_heads, std::size_t head_dim) : heads_(kv_heads), d_(head_dim) {}
  void grow(std::size_t old_room, std::size_t room) override {
    widen_rows(keys_, heads_, d_, old_room, room), widen_rows(values_, heads_, d_, old_room, room);
    room_ = room;
  }
  void write(std::size_t h, std::size_t place, const float* key, const float* value) override {
    for (std::size_t j = 0; j < d_; ++j) {
      narrow(key[j], keys_[place_of_key(h * room_ + place, j, d_)]);
      narrow(value[j], values_[(h * room_ + place) * d_ + j]);
    }
  }
  bool in_place(std::size_t h, std::size_t base, AttentionTask& task) const override {
    task.halves = std::is_same_v<Stored, std::uint16_t>;
    task.keys = keys_.data() + (h * room_ + base) * d_, task.values = values_.data() + (h * room_ + base) * d_;
    return true;
  }
  void read(std::size_t h, std::size_t base, std::size_t keys, std::size_t values, float* K, float* V) const override {
    widen(keys_.data() + (h * room_ + base) * d_, keys * d_, K);
    widen(values_.data() + (h * room_ + base) * d_, values * d_, V);
  }

 private:
  std::size_t heads_, d_, room_ = 0;
  std::vector<Stored> keys_;    // (kv_heads, room / kKeys, head_dim, kKeys): places of a dimension side by side
  std::vector<Stored> values_;  // (kv_heads, room, head_dim)
};

class Q8Store : public LayerCache::Store {
 public:
  Q8Store(std::size_t kv_heads, std::size_t head_dim) : heads_(kv_heads), d_(head_dim), groups_(head_dim / kGroup) {
    if (head_dim % kGroup != 0)
      fail("decoder: keys and values in q8_0 share a scale in each ", kGroup, " dimensions, and heads of ", head_dim,
           " do not divide into them; use f16");
  }
  void grow(std::size_t old_room, std::size_t room) override {
    widen_rows(keys_, heads_, d_, old_room, room), widen_rows(key_scales_, heads_, groups_, old_room, room);
    widen_rows(values_, heads_, d_, old_room, room), widen_rows(value_scales_, heads_, groups_, old_room, room);
    room_ = room;
  }
  void write(std::size_t h, std::size_t place, const float* key, const float* value) override {
    rounded_.round(Rounding::kQ8_0, {key, d_}, 1);
    const RoundedVector k = rounded_.token(0);
    for (std::size_t j = 0; j < d_; ++j) keys_[place_of_key(h * room_ + place, j, d_)] = k.q[j];
    for (std::size_t g = 0; g < groups_; ++g) key_scales_[place_of_key(h * room_ + place, g, groups_)] = f16_from_f32(k.d[g]);
    rounded_.round(Rounding::kQ8_0, {value, d_}, 1);
    const RoundedVector v = rounded_.token(0);
    std::copy_n(v.q, d_, values_.begin() + static_cast<std::ptrdiff_t>((h * room_ + place) * d_));
    for (std::size_t g = 0; g < groups_; ++g) value_scales_[(h * room_ + place) * groups_ + g] = f16_from_f32(v.d[g]);
  }
  void read(std::size_t h, std::size_t base, std::size_t keys, std::size_t values, float* K, float* V) const override {
    thread_local std::vector<float> scales;
    scales.resize(std::max(keys, values) * groups_);
    widen(key_scales_.data() + (h * room_ + base) * groups_, keys * groups_, scales.data());
    const std::int8_t* k = keys_.data() + (h * room_ + base) * d_;
    for (std::size_t row = 0; row < keys / kKeys * d_; ++row) {  // of kKeys; a row of scales is for kGroup of them
      const float* scale = scales.data() + row / kGroup * kKeys;
      for (std::size_t i = row * kKeys; i < (row + 1) * kKeys; ++i) K[i] = scale[i % kKeys] * static_cast<float>(k[i]);
    }
    widen(value_scales_.data() + (h * room_ + base) * groups_, values * groups_, scales.data());
    const std::int8_t* q = values_.data() + (h * room_ + base) * d_;
    for (std::size_t block = 0; block < values * groups_; ++block)
      for (std::size_t j = kGroup * block; j < kGroup * (block + 1); ++j) V[j] = scales[block] * static_cast<float>(q[j]);
  }

 private:
  static constexpr std::size_t kGroup = 32;
  std::size_t heads_, d_, groups_, room_ = 0;
  std::vector<std::int8_t> keys_, values_;                  // as in PlainStore
  std::vector<std::uint16_t> key_scales_, value_scales_;    // (kv_heads, room / kKeys, groups, kKeys), (kv_heads, room, groups), f16
  Activations rounded_;
};

std::unique_ptr<LayerCache::Store> make_store(CacheType type, std::size_t kv_heads, std::size_t head_dim) {
  switch (type) {
    case CacheType::kF32: return std::make_unique<PlainStore<float>>(kv_heads, head_dim);
    case CacheType::kF16: return std::make_unique<PlainStore<std::uint16_t>>(kv_heads, head_dim);
    case CacheType::kQ8_0: return std::make_unique<Q8Store>(kv_heads, head_dim);
  }
  fail("decoder: no such type of cache");
}

}  // namespace

std::size_t cache_bytes(CacheType type, std::size_t kv_heads, std::size_t head_dim) {
  const std::size_t values = 2 * kv_heads * head_dim;
  return type == CacheType::kF32 ? 4 * values : type == CacheType::kF16 ? 2 * values : values + values / 32 * 2;
}

LayerCache::LayerCache(CacheType type, std::size_t kv_heads, std::size_t head_dim)
    : kv_heads_(kv_heads), head_dim_(head_dim), store_(make_store(type, kv_heads, head_dim)) {}
LayerCache::~LayerCache() = default;
LayerCache::LayerCache(LayerCache&&) noexcept = default;

void LayerCache::write(std::size_t begin, std::size_t tokens, const float* k, const float* v) {
  if (const std::size_t needed = begin + tokens; needed > room_) {
    const std::size_t room = (std::max(needed + needed / 2, std::size_t{128}) + kKeys - 1) / kKeys * kKeys;
    store_->grow(room_, room);
    room_ = room;
  }
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t h = 0; h < kv_heads_; ++h) {
      const std::size_t from = (t * kv_heads_ + h) * head_dim_;
      store_->write(h, begin + t, k + from, v + from);
    }
  }
}

void LayerCache::attend(const AttentionShape& shape, std::size_t begin, std::size_t tokens, const float* q, float* out) const {
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
    const std::size_t rows = count * group;  // (token, head of the group)
    AttentionTask part = {};
    part.head_dim = d, part.softcap = shape.softcap;
    thread_local std::vector<float> memory;
    // Many queries are worth a copy in floats.
    const bool in_place = rows <= kAttentionQueries && store_->in_place(h, base, part);
    memory.resize((in_place ? 0 : 2 * keys * d) + kAttentionQueries * keys);
    part.scores = memory.data();
    if (!in_place) {
      float* const K = memory.data() + kAttentionQueries * keys;
      float* const V = K + keys * d;
      store_->read(h, base, keys, end - base, K, V);
      part.halves = false, part.keys = K, part.values = V;
    }
    for (std::size_t row = 0; row < rows;) {
      part.queries = std::min(rows - row, kAttentionQueries);
      for (std::size_t i = 0; i < part.queries; ++i, ++row) {
        const std::size_t t = from + row / group, place = (t * shape.heads + h * group + row % group) * d;
        part.q[i] = q + place, part.out[i] = out + place;
        part.first[i] = first_of(t) - base, part.last[i] = begin + t + 1 - base;
      }
      active_variant().attention(part);
    }
  });
}

}  // namespace attar
