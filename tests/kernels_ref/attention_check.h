// What attention and widening of the variant in use get wrong, against sums in double and all 65,536 halves; "" if nothing. Without a test
// framework and in C++17, so that it also runs where processors are emulated.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "base/half.h"
#include "kernels_ref/variants.h"

namespace attar::test {

inline std::vector<double> exact_attention(const AttentionTask& task, std::size_t i) {
  const auto at = [&](const void* stored, std::size_t n) {
    return double{task.halves ? f32_from_f16(static_cast<const std::uint16_t*>(stored)[n]) : static_cast<const float*>(stored)[n]};
  };
  std::vector<double> weights(task.last[i]), out(task.head_dim);
  double sum = 0;
  for (std::size_t k = task.first[i]; k < task.last[i]; ++k) {
    double score = 0;
    for (std::size_t j = 0; j < task.head_dim; ++j) score += double{task.q[i][j]} * at(task.keys, (k / kAttentionKeys * task.head_dim + j) * kAttentionKeys + k % kAttentionKeys);
    if (task.softcap > 0) score = task.softcap * std::tanh(score / task.softcap);
    sum += weights[k] = std::exp(score);
  }
  for (std::size_t k = task.first[i]; k < task.last[i]; ++k)
    for (std::size_t j = 0; j < task.head_dim; ++j) out[j] += weights[k] / sum * at(task.values, k * task.head_dim + j);
  return out;
}

inline std::vector<float> drawn(std::size_t count, std::mt19937& random) {
  std::vector<float> x(count);
  for (float& v : x) v = static_cast<float>(random()) * 0x1p-30f - 2.0f;
  return x;
}

// K and V as in AttentionTask.
template <class Stored>
std::string wrong_attention(const std::vector<Stored>& K, const std::vector<Stored>& V, std::size_t d, std::size_t keys, std::size_t queries, float softcap,
                            std::mt19937& random) {
  const std::vector<float> q = drawn(queries * d, random);
  std::vector<float> out(queries * d);
  std::vector<float> scores(queries * K.size() / d);
  AttentionTask task = {queries, {}, sizeof(Stored) == 2, K.data(), V.data(), d, {}, {}, softcap, scores.data(), {}};
  for (std::size_t i = 0; i < queries; ++i) {
    task.q[i] = q.data() + i * d, task.out[i] = out.data() + i * d;
    task.last[i] = keys - std::min(keys - 1, queries - 1 - i);  // the last query sees all
    task.first[i] = task.last[i] - 1 - random() % task.last[i];
  }
  active_variant().attention(task);
  for (std::size_t i = 0; i < queries; ++i) {
    const std::vector<double> wanted = exact_attention(task, i);
    for (std::size_t j = 0; j < d; ++j) {
      if (std::fabs(task.out[i][j] - wanted[j]) <= 2e-5) continue;
      char text[160];
      std::snprintf(text, sizeof text, "attention in %s, heads of %zu, %zu keys, query %zu of %zu: got %.9g, expected %.9g",
                    task.halves ? "halves" : "floats", d, keys, i, queries, static_cast<double>(task.out[i][j]), wanted[j]);
      return text;
    }
  }
  return "";
}

inline std::string wrong_attention() {
  std::mt19937 random(1);
  const auto halves = [](const std::vector<float>& x) {
    std::vector<std::uint16_t> result;
    for (const float v : x) result.push_back(f16_from_f32(v));
    return result;
  };
  for (const std::size_t d : {6, 16, 48, 80, 128}) {
    for (const std::size_t keys : {1, 5, 64, 65, 300}) {
      const std::size_t whole = keys / kAttentionKeys * kAttentionKeys, padded = (keys + kAttentionKeys - 1) / kAttentionKeys * kAttentionKeys;
      std::vector<float> K = drawn(d * padded, random), V = drawn(keys * d, random);
      for (std::size_t i = d * whole; i < K.size(); ++i)  // what pads the keys would win every softmax; in halves it is infinite
        if (i % kAttentionKeys >= keys - whole) K[i] = 1e6f;
      for (std::size_t queries = 1; queries <= kAttentionQueries; ++queries) {
        for (const float softcap : {0.0f, 3.0f}) {
          std::string wrong = wrong_attention(K, V, d, keys, queries, softcap, random);
          if (wrong.empty()) wrong = wrong_attention(halves(K), halves(V), d, keys, queries, softcap, random);
          if (!wrong.empty()) return wrong;
        }
      }
    }
  }
  return "";
}

inline std::string wrong_widening() {
  std::vector<std::uint16_t> halves(65536);
  std::iota(halves.begin(), halves.end(), std::uint16_t{0});
  for (const std::size_t count : {std::size_t{65536}, std::size_t{13}, std::size_t{0}}) {
    std::vector<float> wide(halves.size() + 1, -7.0f);
    active_variant().widen(halves.data(), count, wide.data());
    for (std::size_t i = 0; i < count; ++i) {
      const float wanted = f32_from_f16(halves[i]);
      if (std::isnan(wanted) ? !std::isnan(wide[i]) : bits_as<std::uint32_t>(wide[i]) != bits_as<std::uint32_t>(wanted))
        return "widening of the half " + std::to_string(i);
    }
    if (wide[count] != -7.0f) return "widening of " + std::to_string(count) + " halves writes past them";
  }
  return "";
}

}  // namespace attar::test
