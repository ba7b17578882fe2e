// What an evaluation found, and under which protocol: two results may be compared when their protocols agree.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "eval/scores.h"
#include "eval/statistics.h"

namespace attar {

struct ModelSummary {
  std::string path;
  std::string hash;              // checkpoint_hash: equal hashes, equal models
  std::uint64_t parameters = 0;
  std::uint64_t tensor_bytes = 0;
};

struct Protocol {
  std::string data;              // the source as it was named
  std::string data_hash;         // of the text's bytes
  std::string tokenizer_hash;
  std::int64_t context = 0, chunks = 0;
  std::int64_t tokens = 0;       // of the whole text
  std::int64_t bytes = 0;        // of the whole text
  std::int64_t reference_tokens = 0;  // of the whole text by the reference's own tokenizer, if the model's is a part of it
  std::int64_t scored = 0;       // positions that count
};

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
};

struct ClozeAccuracy {
  Estimate accuracy;
  std::int64_t items = 0;
};

struct EvalResult {
  ModelSummary model;
  std::optional<ModelSummary> reference;
  Protocol protocol;
  Estimate nll, perplexity;      // nll: mean -ln p per token
  Estimate bits_per_byte;        // -log2 p of all scored tokens by the bytes they stand for
  std::optional<Divergence> divergence;
  std::optional<ClozeAccuracy> cloze;
  TokenScores scores;            // per position, in the order of the text
};

// Fills nll, perplexity, divergence and protocol.scored from the scores.
void summarise(TokenScores scores, EvalResult& result);

}  // namespace attar
