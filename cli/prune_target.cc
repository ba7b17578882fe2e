#include "cli/prune_target.h"

#include <algorithm>
#include <charconv>
#include <iomanip>
#include <iostream>
#include <utility>

#include "base/error.h"
#include "cli/allocation.h"
#include "cli/numbers.h"
#include "distill/shape_search.h"

namespace attar::cli {
namespace {

// "9000000", "9M", "1.5B" or "60%" of what the teacher has.
std::uint64_t parse_params(const std::string& text, std::uint64_t teacher) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  const double factor = unit == "%" ? static_cast<double>(teacher) / 100 : unit == "B" ? 1e9 : unit == "M" ? 1e6
                        : unit == "k" ? 1e3 : unit.empty() ? 1.0 : 0.0;
  if (error != std::errc() || !(number > 0) || factor == 0.0)
    fail("[prune] --target-params '", text, "' is neither a number (9000000, 9M) nor a share of the teacher (60%)");
  if (number * factor > static_cast<double>(teacher))
    fail("[prune] --target-params ", text, " is more than the teacher has (", teacher, ")");
  return static_cast<std::uint64_t>(number * factor);
}

}  // namespace

void add_prune_target_options(CLI::App& sub, PruneTarget& target) {
  auto* params = sub.add_option("--target-params", target.params,
                                "Find the sizes that give at most this many parameters: 9000000, 9M or 60%. Candidates are retrained "
                                "briefly and ranked by held-out KL; the best is written as it then is");
  sub.add_option("--target-size", target.size,
                 "The same for all files of the folder together, as written (see --dtype): 30000000, 30MB, 1.5GB")
      ->type_name("SIZE")
      ->excludes(params);
  const auto option = [&sub](const char* name, auto& value, const char* help) {
    return sub.add_option(name, value, help)->capture_default_str();
  };
  option("--retrain", target.retrain.tokens,
         "Tokens of --data that each candidate learns from: of a 15 M-parameter teacher two to three minutes for each on two cores, in proportion "
         "more of larger ones. 0: no retraining, the first candidate by the formula is taken as cut")
      ->check(kNotNegative);
  option("--candidates", target.candidates, "Shapes to try for a target")->check(kPositive);
  option("--retrain-lr", target.retrain.rate, "Learning rate of the retraining at its peak")->check(kPositive);
  sub.add_option("--heldout", target.heldout, "Text to rank candidates on; without it up to a tenth of --data is set apart");
}

void check_prune_target(const CLI::App& sub, const PruneTarget& target) {
  for (const char* option : {"--retrain", "--candidates", "--retrain-lr", "--heldout"})
    if (sub.count(option) > 0 && !target.given())
      fail("[prune] ", option, " is for the search of a shape; it needs --target-params or --target-size");
}

std::vector<StudentShape> target_shapes(const PruneTarget& target, const Cutter& cutter, const Checkpoint& whole, const StudentShape& fixed,
                                        const HfOptions& stored) {
  const ModelConfig& config = cutter.teacher.config;
  const TokenRanking* tokens = cutter.tokens ? &*cutter.tokens : nullptr;
  const std::size_t count = target.searches() ? static_cast<std::size_t>(target.candidates) : 1;
  if (target.size.empty()) return propose_shapes(config, {parse_params(target.params, parameter_count(whole.config))}, fixed, tokens, count);

  Budget budget{parse_size("--target-size", target.size), "bytes", static_cast<std::uint64_t>(info(*stored.type).block_bytes), 0, 0};
  if (const std::uint64_t bytes = hf_bytes(whole, stored); budget.most > bytes)
    fail("[prune] --target-size ", target.size, " is more than the teacher takes (", bytes, " bytes as ", info(*stored.type).name, ")");
  const auto beside = [&](std::int64_t vocabulary) {  // a student's names and sizes take no more than the teacher's
    const Checkpoint part = cutter.over(vocabulary);
    return hf_bytes(part, stored) - budget.per_parameter * parameter_count(part.config);
  };
  budget.beside = beside(config.vocab_size);
  if (tokens != nullptr && tokens->required < config.vocab_size)
    budget.per_token = (budget.beside - beside(tokens->required)) / static_cast<std::uint64_t>(config.vocab_size - tokens->required);
  std::vector<StudentShape> shapes = propose_shapes(config, budget, fixed, tokens, count);
  if (tokens == nullptr) return shapes;
  // Entries of a tokenizer are not all as long: what is over goes in more tokens.
  for (StudentShape& shape : shapes)
    while (budget.per_parameter * parameter_count(shaped_config(config, shape)) + beside(shape.vocabulary) > budget.most) {
      if (shape.vocabulary == tokens->required) fail("[prune] --target-size ", target.size, ": no vocabulary is small enough; ask for more");
      shape.vocabulary = std::max(tokens->required, shape.vocabulary - kTokenStep);
    }
  return shapes;
}

nlohmann::json shape_json(const StudentShape& shape) {
  return {{"layers", shape.layers}, {"hidden", shape.hidden}, {"ffn", shape.ffn}, {"heads", shape.heads},
          {"vocabulary", shape.vocabulary}};
}

nlohmann::json ranking_json(const Ranking& ranking) {
  nlohmann::json candidates = nlohmann::json::array();
  for (const TriedShape& candidate : ranking.candidates) {
    candidates.push_back(shape_json(candidate.shape));
    candidates.back().update({{"parameters", candidate.parameters},
                              {"bytes", candidate.bytes},
                              {"kl_before", candidate.kl_before},
                              {"kl_after", candidate.kl_after},
                              {"retrained", candidate.retrained()},
                              {"vocabulary_cost", candidate.vocabulary_cost}});
  }
  return {{"candidates", std::move(candidates)},
          {"steps", ranking.steps},
          {"tokens", ranking.tokens},
          {"heldout_tokens", ranking.heldout_tokens}};
}

void print_ranking(const nlohmann::json& ranking) {
  const nlohmann::json& candidates = ranking.at("candidates");
  const std::string after = cat("KL after ", ranking.at("tokens"), " tokens");
  std::cout << "  layers  hidden     ffn  heads  vocabulary   parameters        bytes   KL as cut  " << after << "\n";
  for (const auto& candidate : candidates) {
    std::cout << (&candidate == &candidates.front() ? "* " : "  ");
    for (const auto& [name, width] : {std::pair("layers", 6), std::pair("hidden", 8), std::pair("ffn", 8), std::pair("heads", 7),
                                      std::pair("vocabulary", 12), std::pair("parameters", 13), std::pair("bytes", 13)})
      std::cout << std::setw(width) << candidate.at(name).get<std::uint64_t>();
    std::cout << std::fixed << std::setprecision(4) << std::setw(12) << candidate.at("kl_before").get<double>()
              << std::setw(static_cast<int>(after.size()) + 2) << candidate.at("kl_after").get<double>() << "\n";
  }
  std::cout << std::defaultfloat << std::setprecision(6);
}

}  // namespace attar::cli
