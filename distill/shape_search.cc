// The search for a student's sizes under a budget of parameters.
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "distill/prune.h"

namespace attar {
namespace {

// Cost of cutting a size to share s: weight * ln(s)^2. Depth weighs most: below 15B parameters the paper's finding 5 is
// width before depth; the MLP's channels are the most redundant.
constexpr double kLayerWeight = 3.0, kHiddenWeight = 2.0, kHeadWeight = 1.0, kFfnWeight = 0.75;
// Cost of a smaller vocabulary: weight * ln(tokens of the corpus under it / under the whole one).
constexpr double kTokenWeight = 1.0;
constexpr std::int64_t kTokenStep = 32;
constexpr double kUseful = 0.97;  // a shape that uses this share of the budget is full enough to be compared by cost

double cost(const StudentShape& full, const StudentShape& shape) {
  const auto term = [](double weight, std::int64_t size, std::int64_t of) {
    const double log_share = std::log(static_cast<double>(size) / static_cast<double>(of));
    return weight * log_share * log_share;
  };
  return term(kLayerWeight, shape.layers, full.layers) + term(kHiddenWeight, shape.hidden, full.hidden) +
         term(kHeadWeight, shape.heads, full.heads) + term(kFfnWeight, shape.ffn, full.ffn);
}

std::vector<std::int64_t> choices(std::int64_t full, std::int64_t step, std::int64_t fixed) {
  if (fixed > 0) return {fixed};
  std::vector<std::int64_t> sizes;
  for (std::int64_t size = full; size >= std::max(step, full / 8); size -= step) sizes.push_back(size);
  return sizes;
}

double token_cost(const TokenRanking& tokens, std::int64_t vocabulary) {
  return kTokenWeight * std::log(static_cast<double>(tokens.corpus_tokens(vocabulary)) /
                                 static_cast<double>(tokens.corpus_tokens(tokens.size())));
}

// Gives the shape the largest vocabulary with which it has at most `target` parameters, or else the smallest there is. count: the
// shape's parameters, before and after.
void fit_vocabulary(const ModelConfig& config, std::uint64_t target, const TokenRanking& tokens, StudentShape& shape,
                    std::uint64_t& count) {
  const auto per_token = static_cast<std::uint64_t>(shape.hidden) * (config.tied_embeddings ? 1 : 2);
  const std::uint64_t rest = count - per_token * static_cast<std::uint64_t>(shape.vocabulary);
  const std::int64_t room = rest < target ? static_cast<std::int64_t>((target - rest) / per_token) : 0;
  shape.vocabulary = std::min(tokens.size(), std::max(tokens.required, room / kTokenStep * kTokenStep));
  count = rest + per_token * static_cast<std::uint64_t>(shape.vocabulary);
}

}  // namespace

std::int64_t legal_step(std::int64_t size) {
  if (size > 256 && size % 256 == 0) return 256;
  std::int64_t step = 32;
  while (size % step != 0) step /= 2;
  return step;
}

StudentShape shape_of(const ModelConfig& config) {
  return {config.layers, config.hidden_size, config.intermediate_size, config.heads, config.vocab_size};
}

std::uint64_t parameter_count(const ModelConfig& config) {
  std::uint64_t count = 0;
  for (const ParameterSpec& spec : parameters(config)) count += element_count(spec.shape);
  return count;
}

ModelConfig shaped_config(ModelConfig config, const StudentShape& shape) {
  if (config.heads == config.kv_heads) config.kv_heads = shape.heads;
  config.heads = shape.heads;
  config.layers = shape.layers;
  config.hidden_size = shape.hidden;
  config.intermediate_size = shape.ffn;
  config.sliding_layers.resize(static_cast<std::size_t>(shape.layers));
  config.vocab_size = shape.vocabulary;
  return config;
}

StudentShape find_shape(const ModelConfig& config, std::uint64_t target_params, const StudentShape& fixed,
                        const TokenRanking* tokens) {
  const StudentShape full = shape_of(config);
  const bool grouped = config.heads != config.kv_heads;
  const auto layers = choices(full.layers, 1, fixed.layers);
  // Cutting one head of a group means one of every group. Single heads carry no blocks, so any count is legal.
  const auto heads = choices(full.heads, grouped ? config.kv_heads : 1, fixed.heads);
  const auto hidden = choices(full.hidden, legal_step(full.hidden), fixed.hidden);
  const auto ffn = choices(full.ffn, legal_step(full.ffn), fixed.ffn);
  StudentShape best, largest, smallest = full;
  double best_cost = std::numeric_limits<double>::infinity();
  std::uint64_t largest_count = 0, smallest_count = std::numeric_limits<std::uint64_t>::max();
  for (const auto l : layers)
    for (const auto h : heads)
      for (const auto d : hidden)
        for (const auto f : ffn) {
          StudentShape shape{l, d, f, h, fixed.vocabulary > 0 ? fixed.vocabulary : full.vocabulary};
          std::uint64_t count = parameter_count(shaped_config(config, shape));
          if (tokens != nullptr) fit_vocabulary(config, target_params, *tokens, shape, count);
          if (count < smallest_count) smallest = shape, smallest_count = count;
          if (count > target_params) continue;
          if (count > largest_count) largest = shape, largest_count = count;
          if (static_cast<double>(count) < kUseful * static_cast<double>(target_params)) continue;
          const double this_cost = cost(full, shape) + (tokens != nullptr ? token_cost(*tokens, shape.vocabulary) : 0.0);
          if (this_cost < best_cost) best = shape, best_cost = this_cost;
        }
  if (std::isfinite(best_cost)) return best;
  if (largest_count > 0) return largest;
  fail("[prune] no student of ", target_params, " parameters can be cut from this model; the smallest has ", smallest_count,
       " (layers ", smallest.layers, ", hidden ", smallest.hidden, ", ffn ", smallest.ffn, ", heads ", smallest.heads,
       ", vocabulary ", smallest.vocabulary, ")");
}

}  // namespace attar
