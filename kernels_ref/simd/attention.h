// Attention of a few queries over the keys and values of one head. Isa: the instructions, see simd/*.cc.
#pragma once

#include <cstring>

#include "kernels_ref/exp.h"
#include "kernels_ref/variants.h"

namespace attar {
namespace {

inline float larger(float a, float b) { return a > b ? a : b; }

// scores -> weights of keys [first, last), zero elsewhere. keys: a multiple of 16.
inline void softmax(float* scores, std::size_t keys, std::size_t first, std::size_t last, float softcap) {
  if (softcap > 0)
    for (std::size_t k = 0; k < keys; ++k) scores[k] = softcap * fast_tanh(scores[k] / softcap);
  for (std::size_t k = 0; k < first; ++k) scores[k] = -3e38f;
  for (std::size_t k = last; k < keys; ++k) scores[k] = -3e38f;
  float most[16], sums[16] = {};
  for (std::size_t l = 0; l < 16; ++l) most[l] = scores[l];
  for (std::size_t k = 16; k < keys; k += 16)
    for (std::size_t l = 0; l < 16; ++l) most[l] = larger(scores[k + l], most[l]);
  for (std::size_t half = 8; half > 0; half /= 2)
    for (std::size_t l = 0; l < half; ++l) most[l] = larger(most[l + half], most[l]);
  for (std::size_t k = 0; k < keys; ++k) scores[k] = fast_exp(scores[k] - most[0]);
  for (std::size_t k = 0; k < keys; k += 16)
    for (std::size_t l = 0; l < 16; ++l) sums[l] += scores[k + l];
  for (std::size_t half = 8; half > 0; half /= 2)
    for (std::size_t l = 0; l < half; ++l) sums[l] += sums[l + half];
  const float inverse = 1.0f / sums[0];
  for (std::size_t k = 0; k < keys; ++k) scores[k] *= inverse;
}

// scores[i][k] = q[i] . key k.
template <class Isa, int kRows, int kVectors>
void attention_scores(const AttentionTask& task, std::size_t keys) {
  constexpr std::size_t kStep = kVectors * Isa::kLanes;
  static_assert(kAttentionKeys % kStep == 0);
  for (std::size_t begin = 0; begin < keys; begin += kStep) {
    typename Isa::F sums[kRows][kVectors];
    for (auto& row : sums)
      for (auto& sum : row) sum = Isa::zero_f();
    for (std::size_t j = 0; j < task.head_dim; ++j) {
      const float* key = task.keys + j * task.stride + begin;
      typename Isa::F column[kVectors];
      for (std::size_t v = 0; v < kVectors; ++v) column[v] = Isa::load_f(key + v * Isa::kLanes);
      for (int i = 0; i < kRows; ++i) {
        const auto q = Isa::broadcast(task.q[i][j]);
        for (int v = 0; v < kVectors; ++v) sums[i][v] = Isa::fma(q, column[v], sums[i][v]);
      }
    }
    for (std::size_t i = 0; i < kRows; ++i)
      for (std::size_t v = 0; v < kVectors; ++v) Isa::store_f(task.scores + i * task.stride + begin + v * Isa::kLanes, sums[i][v]);
  }
}

// out[i][j ...] = sum over keys [first, last) of weights[i][k] value[k][j ...].
template <class Isa, int kRows, int kVectors>
void attention_values(const AttentionTask& task, std::size_t first, std::size_t last, std::size_t j) {
  typename Isa::F sums[kRows][kVectors];
  for (auto& row : sums)
    for (auto& sum : row) sum = Isa::zero_f();
  for (std::size_t k = first; k < last; ++k) {
    typename Isa::F value[kVectors];
    for (std::size_t v = 0; v < kVectors; ++v) value[v] = Isa::load_f(task.values + k * task.head_dim + j + v * Isa::kLanes);
    for (std::size_t i = 0; i < kRows; ++i) {
      const auto weight = Isa::broadcast(task.scores[i * task.stride + k]);
      for (int v = 0; v < kVectors; ++v) sums[i][v] = Isa::fma(weight, value[v], sums[i][v]);
    }
  }
  for (std::size_t i = 0; i < kRows; ++i)
    for (std::size_t v = 0; v < kVectors; ++v) Isa::store_f(task.out[i] + j + v * Isa::kLanes, sums[i][v]);
}

template <class Isa, int kRows>
void attention_rows(const AttentionTask& task) {
  std::size_t first = task.first[0], last = task.last[0];
  for (int i = 1; i < kRows; ++i) {
    first = task.first[i] < first ? task.first[i] : first;
    last = task.last[i] > last ? task.last[i] : last;
  }
  const std::size_t keys = (last + kAttentionKeys - 1) / kAttentionKeys * kAttentionKeys, d = task.head_dim;
  attention_scores<Isa, kRows, kRows == 1 ? 4 : 2>(task, keys);
  for (std::size_t i = 0; i < kRows; ++i) softmax(task.scores + i * task.stride, keys, task.first[i], task.last[i], task.softcap);
  constexpr std::size_t kMost = kRows == 1 || Isa::kLanes == 16 ? 4 : 2;  // as many as registers hold
  std::size_t j = 0;
  for (; j + kMost * Isa::kLanes <= d; j += kMost * Isa::kLanes) attention_values<Isa, kRows, kMost>(task, first, last, j);
  for (; j + 2 * Isa::kLanes <= d; j += 2 * Isa::kLanes) attention_values<Isa, kRows, 2>(task, first, last, j);
  for (; j + Isa::kLanes <= d; j += Isa::kLanes) attention_values<Isa, kRows, 1>(task, first, last, j);
  for (; j < d; ++j) {
    for (std::size_t i = 0; i < kRows; ++i) {
      float sum = 0;
      for (std::size_t k = first; k < last; ++k) sum += task.scores[i * task.stride + k] * task.values[k * d + j];
      task.out[i][j] = sum;
    }
  }
}

template <class Isa>
void attention(const AttentionTask& task) {
  task.queries == kAttentionQueries ? attention_rows<Isa, kAttentionQueries>(task) : attention_rows<Isa, 1>(task);
}

template <class Isa>
void widen_halves(const std::uint16_t* half, std::size_t n, float* out) {
  std::size_t i = 0;
  for (; i + Isa::kLanes <= n; i += Isa::kLanes) Isa::store_f(out + i, Isa::load_halves(half + i));
  if (i == n) return;
  std::uint16_t rest[Isa::kLanes] = {};
  float wide[Isa::kLanes];
  std::memcpy(rest, half + i, (n - i) * sizeof(*half));
  Isa::store_f(wide, Isa::load_halves(rest));
  std::memcpy(out + i, wide, (n - i) * sizeof(*out));
}

}  // namespace
}  // namespace attar
