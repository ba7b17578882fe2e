// Golden rotation tables and attention, from the config alone: plain loops in double, beside the decoder's own code.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/random.h"
#include "cli/golden.h"
#include "runtime/rope.h"

namespace attar::cli {
namespace {

std::vector<float> draw(std::size_t count, Random& random) {
  std::vector<float> values(count);
  for (float& v : values) v = static_cast<float>(random.uniform() + random.uniform() + random.uniform() - 1.5);
  return values;
}

Tensor i64_tensor(std::string name, const std::vector<std::int64_t>& values) {
  QuantizedTensor data{Type::kI64, {static_cast<std::int64_t>(values.size())}, Bytes(values.size() * 8)};
  std::memcpy(data.bytes.data(), values.data(), data.bytes.size());
  return make_tensor(std::move(name), std::move(data));
}

// The pair (j, j + n/2) of the first n dimensions turns by position * theta[j], the product rounded to float as in
// transformers.
void add_rope(const std::string& name, const Rope& rope, const ModelConfig& config, std::int64_t tokens, Random& random,
              GoldenPart& part) {
  std::vector<std::int64_t> positions;
  for (std::int64_t p = 0; p < tokens; ++p) positions.push_back(p);
  if (!depends_on_length(rope) && config.max_positions > tokens)
    positions.insert(positions.end(), {config.max_positions / 2, config.max_positions - 1});
  const RopeFrequencies frequencies = rope_frequencies(rope, config.head_dim, config.max_positions, tokens);
  const std::size_t half = frequencies.theta.size(), width = static_cast<std::size_t>(config.head_dim);
  const std::vector<float> input = draw(positions.size() * width, random);
  std::vector<float> cosine, sine, output = input;
  for (std::size_t p = 0; p < positions.size(); ++p) {
    for (std::size_t j = 0; j < half; ++j) {
      const float angle = static_cast<float>(positions[p]) * frequencies.theta[j];
      const double c = std::cos(static_cast<double>(angle)) * frequencies.attention_factor;
      const double s = std::sin(static_cast<double>(angle)) * frequencies.attention_factor;
      const double a = input[p * width + j], b = input[p * width + half + j];
      cosine.push_back(static_cast<float>(c)), sine.push_back(static_cast<float>(s));
      output[p * width + j] = static_cast<float>(a * c - b * s);
      output[p * width + half + j] = static_cast<float>(b * c + a * s);
    }
  }
  const auto rows = static_cast<std::int64_t>(positions.size()), pairs = static_cast<std::int64_t>(half);
  part.tensors.push_back(i64_tensor(name + ".positions", positions));
  part.tensors.push_back(make_tensor(name + ".theta", {pairs}, frequencies.theta));
  part.tensors.push_back(make_tensor(name + ".cos", {rows, pairs}, std::move(cosine)));
  part.tensors.push_back(make_tensor(name + ".sin", {rows, pairs}, std::move(sine)));
  part.tensors.push_back(make_tensor(name + ".input", {rows, config.head_dim}, input));
  part.tensors.push_back(make_tensor(name + ".output", {rows, config.head_dim}, std::move(output)));
  part.index[name] = {{"rotated_dims", 2 * half},
                      {"sequence_length", tokens},
                      {"attention_factor", frequencies.attention_factor},
                      {"tolerance", 2e-6}};
}

struct Heads {
  std::int64_t tokens;
  std::vector<float> q, k, v;  // (heads, tokens, head_dim), the last two of kv_heads
};

// weights: softmax of the scores that token t gives tokens [first, t]; 0 elsewhere.
void add_attention(const std::string& name, const Heads& x, const ModelConfig& c, std::int64_t window,
                   GoldenPart& part) {
  const std::int64_t T = x.tokens, D = c.head_dim;
  std::vector<float> weights(static_cast<std::size_t>(c.heads * T * T)),
      output(static_cast<std::size_t>(T * c.heads * D));
  for (std::int64_t h = 0; h < c.heads; ++h) {
    const std::int64_t from = h / (c.heads / c.kv_heads);
    for (std::int64_t t = 0; t < T; ++t) {
      const std::int64_t first = window > 0 ? std::max<std::int64_t>(0, t + 1 - window) : 0;
      std::vector<double> score(static_cast<std::size_t>(t + 1 - first));
      for (std::int64_t u = first; u <= t; ++u) {
        double sum = 0;
        for (std::int64_t d = 0; d < D; ++d)
          sum += static_cast<double>(x.q[static_cast<std::size_t>((h * T + t) * D + d)]) *
                 x.k[static_cast<std::size_t>((from * T + u) * D + d)];
        sum *= c.attention_scale;
        score[static_cast<std::size_t>(u - first)] =
            c.attention_softcap > 0 ? c.attention_softcap * std::tanh(sum / c.attention_softcap) : sum;
      }
      const double most = *std::max_element(score.begin(), score.end());
      double total = 0;
      for (double& s : score) total += s = std::exp(s - most);
      for (std::int64_t d = 0; d < D; ++d) {
        double sum = 0;
        for (std::int64_t u = first; u <= t; ++u)
          sum += score[static_cast<std::size_t>(u - first)] / total *
                 x.v[static_cast<std::size_t>((from * T + u) * D + d)];
        output[static_cast<std::size_t>((t * c.heads + h) * D + d)] = static_cast<float>(sum);
      }
      for (std::int64_t u = first; u <= t; ++u)
        weights[static_cast<std::size_t>((h * T + t) * T + u)] =
            static_cast<float>(score[static_cast<std::size_t>(u - first)] / total);
    }
  }
  part.tensors.push_back(make_tensor(name + ".weights", {c.heads, T, T}, std::move(weights)));
  part.tensors.push_back(make_tensor(name + ".output", {T, c.heads, D}, std::move(output)));
  part.index[name] = {
      {"scale", c.attention_scale}, {"softcap", c.attention_softcap}, {"window", window}, {"tolerance", 1e-5}};
}

}  // namespace

GoldenPart golden_attention(const ModelConfig& config, std::int64_t tokens, std::uint64_t seed) {
  Random random(seed + 1);
  GoldenPart part;
  const bool slides = config.sliding_window > 0;
  add_rope("rope", config.rope, config, tokens, random, part);
  if (slides) add_rope("rope.sliding", config.local_rope, config, tokens, random, part);
  const auto of = [&](std::int64_t heads) {
    return draw(static_cast<std::size_t>(heads * tokens * config.head_dim), random);
  };
  const Heads x{tokens, of(config.heads), of(config.kv_heads), of(config.kv_heads)};
  part.tensors.push_back(make_tensor("attention.q", {config.heads, tokens, config.head_dim}, x.q));
  part.tensors.push_back(make_tensor("attention.k", {config.kv_heads, tokens, config.head_dim}, x.k));
  part.tensors.push_back(make_tensor("attention.v", {config.kv_heads, tokens, config.head_dim}, x.v));
  add_attention("attention", x, config, 0, part);
  // The model's own window is longer than these few tokens; a shorter one shows how it is counted.
  if (slides) add_attention("attention.sliding", x, config, std::min(config.sliding_window, (tokens + 1) / 2), part);
  return part;
}

}  // namespace attar::cli
