// Which tokens an evaluation reads and which of them it scores.
//
// The protocol of llama.cpp's llama-perplexity: the whole text is tokenized, cut into chunks of `context` tokens without
// overlap, the first token of each chunk is replaced by BOS if the vocabulary adds one, and only the second half of each chunk
// is scored, so that every scored token has at least half a context before it.
//
// That of lm-evaluation-harness's loglikelihood_rolling: every token of every document is scored once, in windows of `context`
// tokens; the first is told after BOS, later windows begin with the one token before them, and the last with all that fits.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "datasets/tokenizer.h"

namespace attar {

struct ChunkOptions {
  std::int64_t context = 512;  // tokens per chunk, at least 4
  std::int64_t chunks = 0;     // use the first so many only; 0: all
  std::int64_t tokens = 0;     // use the first so many tokens of the text only; 0: all
};

// At each position p in [begin, end) the prediction of ids[p + 1] is scored; end < ids.size().
struct Sequence {
  Ids ids;
  std::int64_t begin = 0, end = 0;
  std::size_t unit = 0;        // the chunk or document it belongs to
};

struct TextPlan {
  std::vector<Sequence> sequences;    // those of a unit one after the other
  std::vector<double> bytes, words;   // per unit, of what is scored; rolling: of the document
};

// Positions p of a chunk whose next token is scored: first_scored(context) <= p < context - 1.
inline std::int64_t first_scored(std::int64_t context) { return context / 2; }
inline std::int64_t scored_per_chunk(std::int64_t context) { return context - 1 - first_scored(context); }

// Throws Error: a context under 4, fewer than two contexts of text, a limit below one chunk.
// bos: -1 if chunks do not begin with BOS. subject names the text in errors.
std::vector<Ids> cut_chunks(const Ids& ids, const ChunkOptions& options, std::int64_t bos, std::string_view subject);

TextPlan plan_chunks(const std::vector<Ids>& chunks, const Tokenizer& tokenizer);

// Throws Error: a context under 2, a tokenizer with neither BOS nor EOS, a limit other than chunks = 0 (documents) or tokens = 0.
TextPlan plan_rolling(const std::vector<std::string>& documents, const Tokenizer& tokenizer, const ChunkOptions& options,
                      std::int64_t vocab_size, std::string_view subject);

// The text's tokens as llama.cpp sees them: one newline at its end is dropped, BOS is added in front as the model would, EOS is
// not added. Throws Error: not UTF-8 (names the byte), an id that the model (vocab_size) has no embedding for.
Ids tokenize_text(const Tokenizer& tokenizer, std::string_view text, std::int64_t vocab_size, std::string_view subject);

// BOS if chunks begin with it, else -1.
std::int64_t chunk_bos(const TokenizerData& tokenizer);

// The one place that decides whether two models' predictions can be compared token by token. Throws Error naming the first
// difference if the two tokenizers give ids another meaning. Padding tokens at the end of
// the vocabulary may differ.
void require_same_tokens(const TokenizerData& model, const TokenizerData& reference);
void require_same_ids(const Ids& model, const Ids& reference, const Tokenizer& tokenizer);

}  // namespace attar
