// Attention of a few queries over the keys and values of one head. Isa: the instructions, see simd/*.cc.
#pragma once

#include <cstring>

#include "kernels_ref/exp.h"
#include "kernels_ref/variants.h"

namespace attar {
namespace {

template <class Isa>
typename Isa::F load(const float* p) { return Isa::load_f(p); }
template <class Isa>
typename Isa::F load(const std::uint16_t* p) { return Isa::load_halves(p); }
// n numbers, less than a vector; zeros after them.
template <class Isa, class Stored>
typename Isa::F load_first(const Stored* p, std::size_t n) {
  Stored whole[Isa::kLanes] = {};
  std::memcpy(whole, p, n * sizeof(*p));
  return load<Isa>(whole);
}

// scores -> e^(score - largest) of keys [first, last), 0 elsewhere. keys: a multiple of kAttentionKeys. Returns 1 / their sum.
template <class Isa>
float softmax(float* scores, std::size_t keys, std::size_t first, std::size_t last, float softcap) {
  if (softcap > 0)
    for (std::size_t k = 0; k < keys; ++k) scores[k] = softcap * fast_tanh(scores[k] / softcap);
  for (std::size_t k = 0; k < first; ++k) scores[k] = -3e38f;
  for (std::size_t k = last; k < keys; ++k) scores[k] = -3e38f;
  auto most = Isa::load_f(scores);
  for (std::size_t k = Isa::kLanes; k < keys; k += Isa::kLanes) most = Isa::max(most, Isa::load_f(scores + k));
  const float largest = Isa::largest(most);
  for (std::size_t k = 0; k < keys; ++k) scores[k] = fast_exp(scores[k] - largest);
  auto sum = Isa::zero_f();
  for (std::size_t k = 0; k < keys; k += Isa::kLanes) sum = Isa::add(sum, Isa::load_f(scores + k));
  return 1.0f / Isa::sum(sum);
}

// Of kRows queries; where there are fewer, the last one takes the places left and is computed more than once.
template <int kRows>
struct AttentionRows {
  const float* q[kRows];
  float* scores[kRows];
  float* out[kRows];
  float inverse[kRows];
};

// scores[i][k] = q[i] . key k. Asks for the keys of the block after, and for as many values: they come from memory, once for a token.
template <class Isa, int kRows, int kVectors, class Stored>
void attention_scores(const AttentionTask& task, const Stored* keys, const Stored* values, std::size_t count, const AttentionRows<kRows>& rows) {
  constexpr std::size_t kLine = 64 / sizeof(Stored);
  const std::size_t block = kAttentionKeys * task.head_dim;
  for (std::size_t i = 0; i < block; i += kLine) __builtin_prefetch(keys + i);
  constexpr std::size_t kStep = kVectors * Isa::kLanes;
  static_assert(kAttentionKeys % kStep == 0);
  for (std::size_t begin = 0; begin < count; begin += kStep) {
    typename Isa::F sums[kRows][kVectors];
    for (auto& row : sums)
      for (auto& sum : row) sum = Isa::zero_f();
    const Stored* key = keys + place_of_key(begin, 0, task.head_dim);
    for (std::size_t j = 0; j < task.head_dim; ++j, key += kAttentionKeys) {
      const std::size_t done = begin * task.head_dim + j * kStep;
      for (std::size_t ahead = done; ahead < done + kStep; ahead += kLine) __builtin_prefetch(keys + block + ahead), __builtin_prefetch(values + ahead);
      typename Isa::F column[kVectors];
      for (std::size_t v = 0; v < kVectors; ++v) Isa::hold(column[v] = load<Isa>(key + v * Isa::kLanes));
      for (int i = 0; i < kRows; ++i) {
        const auto q = Isa::broadcast(rows.q[i][j]);
        for (int v = 0; v < kVectors; ++v) sums[i][v] = Isa::fma(q, column[v], sums[i][v]);
      }
    }
    for (std::size_t i = 0; i < kRows; ++i)
      for (std::size_t v = 0; v < kVectors; ++v) Isa::store_f(rows.scores[i] + begin + v * Isa::kLanes, sums[i][v]);
  }
}

// out[i][j ...] = sum over keys [first, last) of weights[i][k] value[k][j ...].
template <class Isa, int kRows, int kVectors, class Stored>
void attention_values(const AttentionTask& task, const Stored* values, std::size_t first, std::size_t last, std::size_t j,
                      const AttentionRows<kRows>& rows) {
  typename Isa::F sums[kRows][kVectors];
  for (auto& row : sums)
    for (auto& sum : row) sum = Isa::zero_f();
  for (std::size_t k = first; k < last; ++k) {
    typename Isa::F value[kVectors];
    for (std::size_t v = 0; v < kVectors; ++v) Isa::hold(value[v] = load<Isa>(values + k * task.head_dim + j + v * Isa::kLanes));
    for (std::size_t i = 0; i < kRows; ++i) {
      const auto weight = Isa::broadcast(rows.scores[i][k]);
      for (int v = 0; v < kVectors; ++v) sums[i][v] = Isa::fma(weight, value[v], sums[i][v]);
    }
  }
  for (std::size_t i = 0; i < kRows; ++i)
    for (std::size_t v = 0; v < kVectors; ++v)
      Isa::store_f(rows.out[i] + j + v * Isa::kLanes, Isa::mul(sums[i][v], Isa::broadcast(rows.inverse[i])));
}

template <class Isa, int kRows, class Stored>
void attention_rows(const AttentionTask& task, std::size_t begin, std::size_t count) {
  const auto* const values = static_cast<const Stored*>(task.values);
  std::size_t first = task.first[begin], last = task.last[begin];
  for (std::size_t i = begin + 1; i < begin + count; ++i) {
    first = task.first[i] < first ? task.first[i] : first;
    last = task.last[i] > last ? task.last[i] : last;
  }
  const std::size_t keys = (last + kAttentionKeys - 1) / kAttentionKeys * kAttentionKeys, d = task.head_dim;
  AttentionRows<kRows> rows;
  for (std::size_t r = 0; r < kRows; ++r) {
    const std::size_t i = r < count ? r : count - 1;
    rows.q[r] = task.q[begin + i], rows.out[r] = task.out[begin + i], rows.scores[r] = task.scores + i * keys;
  }
  attention_scores<Isa, kRows, kRows == 1 ? 4 : 2>(task, static_cast<const Stored*>(task.keys), values, keys, rows);
  for (std::size_t r = 0; r < kRows; ++r)
    rows.inverse[r] = r < count ? softmax<Isa>(rows.scores[r], keys, task.first[begin + r], task.last[begin + r], task.softcap) : rows.inverse[count - 1];
  constexpr std::size_t kMost = kRows == 1 || (kRows == 4 && Isa::kLanes == 16) ? 4 : 2;  // as many as registers hold
  std::size_t j = 0;
  for (; j + kMost * Isa::kLanes <= d; j += kMost * Isa::kLanes) attention_values<Isa, kRows, kMost>(task, values, first, last, j, rows);
  for (; j + 2 * Isa::kLanes <= d; j += 2 * Isa::kLanes) attention_values<Isa, kRows, 2>(task, values, first, last, j, rows);
  for (; j + Isa::kLanes <= d; j += Isa::kLanes) attention_values<Isa, kRows, 1>(task, values, first, last, j, rows);
  for (std::size_t i = 0; i < count && j < d; ++i) {  // less than a vector
    auto sum = Isa::zero_f();
    for (std::size_t k = first; k < last; ++k)
      sum = Isa::fma(Isa::broadcast(rows.scores[i][k]), load_first<Isa>(values + k * d + j, d - j), sum);
    float whole[Isa::kLanes];
    Isa::store_f(whole, Isa::mul(sum, Isa::broadcast(rows.inverse[i])));
    std::memcpy(rows.out[i] + j, whole, (d - j) * sizeof(*whole));
  }
}

template <class Isa, class Stored>
void attention_of(const AttentionTask& task) {
  constexpr std::size_t kMost = Isa::kLanes == 16 ? 8 : 4;  // as many as registers hold
  for (std::size_t i = 0; i < task.queries;) {
    const std::size_t n = task.queries - i < kMost ? task.queries - i : kMost;
    if (n == 1) attention_rows<Isa, 1, Stored>(task, i, n);
    else if (n <= 4) attention_rows<Isa, 4, Stored>(task, i, n);
    else attention_rows<Isa, kMost, Stored>(task, i, n);
    i += n;
  }
}

template <class Isa>
void attention(const AttentionTask& task) {
  task.halves ? attention_of<Isa, std::uint16_t>(task) : attention_of<Isa, float>(task);
}

template <class Isa>
void widen_halves(const std::uint16_t* half, std::size_t n, float* out) {
  std::size_t i = 0;
  for (; i + Isa::kLanes <= n; i += Isa::kLanes) Isa::store_f(out + i, Isa::load_halves(half + i));
  if (i == n) return;
  float wide[Isa::kLanes];
  Isa::store_f(wide, load_first<Isa>(half + i, n - i));
  std::memcpy(out + i, wide, (n - i) * sizeof(*out));
}

}  // namespace
}  // namespace attar
