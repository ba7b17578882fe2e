// What an evaluation found, and under which protocol: two results may be compared when their protocols agree.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "convert/json.h"
#include "eval/breakdown.h"
#include "eval/scores.h"
#include "eval/significance.h"
#include "eval/statistics.h"

namespace attar {

struct ModelSummary {
  std::string path;
  std::string hash;              // checkpoint_hash: equal hashes, equal models
  std::uint64_t parameters = 0;
  std::uint64_t tensor_bytes = 0;
  std::string architecture;      // "llama"
  std::int64_t layers = 0, hidden_size = 0, vocab_size = 0;
};
nlohmann::json to_json(const ModelSummary& model);
ModelSummary read_model_summary(const JsonReader& json);

struct Protocol {
  std::string name = "llama-perplexity";  // or "rolling"
  std::string data;              // the source as it was named
  std::string data_hash;         // of the text's bytes
  std::string tokenizer_hash;
  std::int64_t context = 0, chunks = 0;  // rolling: windows
  std::int64_t tokens = 0;       // of the whole text
  std::int64_t bytes = 0;        // of the whole text
  std::int64_t reference_tokens = 0;  // of the whole text by the reference's own tokenizer, if the model's is a part of it
  std::int64_t scored = 0;       // positions that count; 0: no text was measured
  bool packed = false;           // quantized models run on the kernels, their weights packed

  std::string hash() const;      // of all this but the source's name
};
nlohmann::json to_json(const Protocol& protocol);
Protocol read_protocol(const JsonReader& json);

struct Distribution {
  std::vector<double> ascending;
  Estimate mean;
};

// The model against a reference, position by position.
struct Divergence {
  Estimate reference_perplexity, perplexity_ratio, perplexity_difference, log_ratio;
  Estimate reference_bits_per_byte;  // with its own tokens, whatever the model's are
  double correlation = 0;        // of ln PPL(model) and ln PPL(reference)
  Distribution kl;               // nats
  Distribution delta_p;          // p(token) of the model minus that of the reference, -1 .. 1
  Estimate delta_p_rms;
  Estimate same_top;             // share of positions where both find the same token most probable
  Estimate acceptance;           // mean of sum min(p, q)
  double expected_4 = 0, expected_8 = 0;  // drafted tokens of 4 and of 8 that the reference takes, on average
};

struct ClozeAccuracy {
  Estimate accuracy;
  std::int64_t items = 0;
  std::string hash;  // of the items
};

struct TaskResult {
  std::string name, kind, hash;
  std::int64_t items = 0, shots = 0, context = 0;
  bool bos = true;
  std::vector<std::string> metrics;  // "acc"; the figures are under "tasks.NAME.acc" in samples
};

struct EvalResult {
  ModelSummary model;
  std::optional<ModelSummary> reference;
  bool stored_reference = false;       // it was a file of its predictions, whose divergences are estimates
  Protocol protocol;
  Estimate nll, perplexity;      // nll: mean -ln p per token
  Estimate bits_per_byte, byte_perplexity, word_perplexity;  // the last two: rolling only
  std::optional<Divergence> divergence;
  std::optional<ClozeAccuracy> cloze;
  std::vector<TaskResult> tasks;
  TokenScores scores;            // per position, in the order of the text
  Breakdown breakdown;
  // By the metric's name: what its value is the mean of, one entry per chunk, document or item; and the same of the reference.
  std::map<std::string, Samples> samples, reference_samples;

  bool rolling() const { return protocol.name == "rolling"; }
};

// Fills the figures of the text and protocol.scored from the scores. Without a plan every position counts as a unit.
void summarise(TokenScores scores, EvalResult& result, const TextPlan& plan = {});

}  // namespace attar
