#include "distill/shape_search.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace attar {
namespace {

// Cost of cutting a size to share s: weight * ln(s)^2. Depth weighs most: below 15B parameters the paper's finding 5 is
// width before depth; the MLP's channels are the most redundant.
constexpr double kLayerWeight = 3.0, kHiddenWeight = 2.0, kHeadWeight = 1.0, kFfnWeight = 0.75;
// Cost of a smaller vocabulary: weight * ln(tokens of the corpus under it / under the whole one).
constexpr double kTokenWeight = 1.0;
constexpr double kUseful = 0.95;       // a shape that uses this share of what the fullest uses is full enough to be compared
constexpr std::size_t kTrusted = 3;    // proposals are drawn from so many times as many of the cheapest shapes

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

std::uint64_t size_of(const Budget& budget, std::uint64_t parameters, std::int64_t missing_tokens) {
  return budget.per_parameter * parameters + budget.beside - budget.per_token * static_cast<std::uint64_t>(missing_tokens);
}

struct Option {
  StudentShape shape;
  std::uint64_t size = 0;  // in the budget's unit
  double cost = 0;
};

// All shapes in legal steps.
class Shapes {
 public:
  Shapes(const ModelConfig& config, const Budget& budget, const StudentShape& fixed, const TokenRanking* tokens)
      : config_(config), budget_(budget), fixed_(fixed), tokens_(tokens), full_(shape_of(config)) {}

  // Those that the budget allows. Throws Error if there are none.
  std::vector<Option> within() const {
    std::vector<Option> allowed;
    Option smallest{full_, std::numeric_limits<std::uint64_t>::max(), 0};
    for_each([&](Option option) {
      if (option.size < smallest.size) smallest = option;
      if (option.size > budget_.most) return;
      option.cost = cost(full_, option.shape) + (tokens_ != nullptr ? token_cost(*tokens_, option.shape.vocabulary) : 0.0);
      allowed.push_back(option);
    });
    if (allowed.empty())
      fail("[prune] no student of ", budget_.most, " ", budget_.unit, " can be cut from this model; the smallest has ", smallest.size,
           " (layers ", smallest.shape.layers, ", hidden ", smallest.shape.hidden, ", ffn ", smallest.shape.ffn, ", heads ",
           smallest.shape.heads, ", vocabulary ", smallest.shape.vocabulary, ")");
    return allowed;
  }

 private:
  template <class Visit>
  void for_each(const Visit& visit) const {
    // Cutting one head of a group means one of every group. Single heads carry no blocks, so any count is legal.
    const bool grouped = config_.heads != config_.kv_heads;
    const std::int64_t kv_heads = grouped ? kv_heads_of(config_, fixed_) : 1;
    for (const auto h : choices(grouped ? kv_heads * (config_.heads / config_.kv_heads) : full_.heads, kv_heads, fixed_.heads))
      for (const auto d : choices(full_.hidden, legal_step(full_.hidden), fixed_.hidden))
        for (const auto f : choices(full_.ffn, legal_step(full_.ffn), fixed_.ffn)) {
          StudentShape shape{1, d, f, h, fixed_.vocabulary > 0 ? fixed_.vocabulary : full_.vocabulary,
                             fixed_.kv_heads};
          const std::uint64_t one = parameter_count(shaped_config(config_, shape));
          shape.layers = 2;
          const std::uint64_t layer = parameter_count(shaped_config(config_, shape)) - one;
          for (const auto l : choices(full_.layers, 1, fixed_.layers)) {
            shape.layers = l;
            visit(fitted(shape, one + layer * static_cast<std::uint64_t>(l - 1)));
          }
        }
  }

  // With the vocabulary as it is or, if it is free, the largest that fits, or else the smallest there is.
  Option fitted(StudentShape shape, std::uint64_t parameters) const {
    if (tokens_ != nullptr) {
      const auto per_token = static_cast<std::uint64_t>(shape.hidden) * (config_.tied_embeddings ? 1 : 2);
      const std::uint64_t rest = parameters - per_token * static_cast<std::uint64_t>(shape.vocabulary);
      const std::uint64_t without = size_of(budget_, rest, full_.vocabulary);  // any token
      const std::uint64_t each = budget_.per_parameter * per_token + budget_.per_token;
      const std::int64_t room = without < budget_.most ? static_cast<std::int64_t>((budget_.most - without) / each) : 0;
      shape.vocabulary = std::min(tokens_->size(), std::max(tokens_->required, room / kTokenStep * kTokenStep));
      parameters = rest + per_token * static_cast<std::uint64_t>(shape.vocabulary);
    }
    return {shape, size_of(budget_, parameters, full_.vocabulary - shape.vocabulary), 0};
  }

  const ModelConfig& config_;
  const Budget& budget_;
  const StudentShape& fixed_;
  const TokenRanking* tokens_;
  StudentShape full_;
};

// Squared distance of two shapes: of the logarithms of their sizes.
double distance(const StudentShape& a, const StudentShape& b) {
  const auto term = [](std::int64_t x, std::int64_t y) {
    const double log_ratio = std::log(static_cast<double>(x) / static_cast<double>(y));
    return log_ratio * log_ratio;
  };
  return term(a.layers, b.layers) + term(a.hidden, b.hidden) + term(a.ffn, b.ffn) + term(a.heads, b.heads) +
         term(a.vocabulary, b.vocabulary);
}

}  // namespace

std::int64_t legal_step(std::int64_t size) {
  if (size > 256 && size % 256 == 0) return 256;
  std::int64_t step = 32;
  while (size % step != 0) step /= 2;
  return step;
}

StudentShape shape_of(const ModelConfig& config) {
  return {config.layers, config.hidden_size, config.intermediate_size, config.heads, config.vocab_size,
          config.heads == config.kv_heads ? 0 : config.kv_heads};
}

std::uint64_t parameter_count(const ModelConfig& config) {
  std::uint64_t count = 0;
  for (const ParameterSpec& spec : parameters(config)) count += element_count(spec.shape);
  return count;
}

ModelConfig shaped_config(ModelConfig config, const StudentShape& shape) {
  config.kv_heads = kv_heads_of(config, shape);
  config.heads = shape.heads;
  config.layers = shape.layers;
  config.hidden_size = shape.hidden;
  config.intermediate_size = shape.ffn;
  config.sliding_layers.resize(static_cast<std::size_t>(shape.layers));
  config.vocab_size = shape.vocabulary;
  return config;
}

std::vector<StudentShape> propose_shapes(const ModelConfig& config, const Budget& budget, const StudentShape& fixed,
                                         const TokenRanking* tokens, std::size_t count) {
  std::vector<Option> options = Shapes(config, budget, fixed, tokens).within();
  std::uint64_t fullest = 0;
  for (const Option& option : options) fullest = std::max(fullest, option.size);
  std::erase_if(options, [&](const Option& option) { return static_cast<double>(option.size) < kUseful * static_cast<double>(fullest); });
  const auto cheaper = [](const Option& a, const Option& b) { return a.cost < b.cost; };
  std::stable_sort(options.begin(), options.end(), cheaper);
  options.resize(std::min(options.size(), kTrusted * count));

  // Farthest-point traversal: T. Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985.
  std::vector<StudentShape> chosen;
  std::vector<double> away(options.size(), std::numeric_limits<double>::infinity());  // from all that are chosen
  for (std::size_t next = 0; chosen.size() < count && away[next] > 0;) {
    chosen.push_back(options[next].shape);
    for (std::size_t i = 0; i < options.size(); ++i) away[i] = std::min(away[i], distance(options[i].shape, chosen.back()));
    next = static_cast<std::size_t>(std::max_element(away.begin(), away.end()) - away.begin());
  }
  return chosen;
}

}  // namespace attar
