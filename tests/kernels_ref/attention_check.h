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
  std::vector<double> weights(task.last[i]), out(task.head_dim);
  double sum = 0;
  for (std::size_t k = task.first[i]; k < task.last[i]; ++k) {
    double score = 0;
    for (std::size_t j = 0; j < task.head_dim; ++j) score += double{task.q[i][j]} * task.keys[j * task.stride + k];
    if (task.softcap > 0) score = task.softcap * std::tanh(score / task.softcap);
    sum += weights[k] = std::exp(score);
  }
  for (std::size_t k = task.first[i]; k < task.last[i]; ++k)
    for (std::size_t j = 0; j < task.head_dim; ++j) out[j] += weights[k] / sum * task.values[k * task.head_dim + j];
  return out;
}

inline std::string wrong_attention() {
  std::mt19937 random(1);
  const auto draw = [&](std::size_t count) {
    std::vector<float> x(count);
    for (float& v : x) v = static_cast<float>(random()) * 0x1p-30f - 2.0f;
    return x;
  };
  for (const std::size_t d : {6, 16, 48, 80, 128}) {
    for (const std::size_t keys : {1, 5, 64, 65, 300}) {
      const std::size_t stride = (keys + kAttentionKeys - 1) / kAttentionKeys * kAttentionKeys;
      std::vector<float> K = draw(d * stride), V = draw(keys * d);
      for (std::size_t j = 0; j < d; ++j)  // what pads the keys would win every softmax
        for (std::size_t k = keys; k < stride; ++k) K[j * stride + k] = 1e6f;
      for (const std::size_t queries : {std::size_t{1}, kAttentionQueries}) {
        for (const float softcap : {0.0f, 3.0f}) {
          const std::vector<float> q = draw(queries * d);
          std::vector<float> scores(queries * stride), out(queries * d);
          AttentionTask task = {queries, {}, K.data(), V.data(), d, stride, {}, {}, softcap, scores.data(), {}};
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
              std::snprintf(text, sizeof text, "attention, heads of %zu, %zu keys, query %zu of %zu: got %.9g, expected %.9g", d, keys, i, queries,
                            static_cast<double>(task.out[i][j]), wanted[j]);
              return text;
            }
          }
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
