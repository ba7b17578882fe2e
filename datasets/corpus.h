// Text sources and token chunks.
//
// A source is named by a path (.jsonl: one object a line with "text", and for models "messages" or "input_ids" too; else text, its
// documents split at blank lines) or by "builtin:train", "builtin:calibration", "builtin:heldout" (the procedural stories of
// datasets/stories.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "datasets/tokenizer.h"

namespace attar {

bool is_builtin_source(const std::string& source);

// The source as documents. Throws Error: missing, empty, not UTF-8 (names the byte), a jsonl line without "text".
std::vector<std::string> read_documents(const std::string& source);
// The source as one text: a text file's bytes as they are; the documents of others joined by a newline.
std::string read_source(const std::string& source);

// The whole text tokenized and cut into consecutive chunks of `length` tokens; the rest is dropped.
// first_bos, if the tokenizer adds BOS: the text starts with it, and each chunk's first token is replaced by it, as
// llama-perplexity does. Throws Error if not one chunk is full.
std::vector<Ids> chunk_text(const Tokenizer& tokenizer, std::string_view text, std::int64_t length, bool first_bos);

// The source as the tokens a model meets, one sequence for each document that is not empty; see datasets/documents.h.
std::vector<Ids> read_token_documents(const Tokenizer& tokenizer, const std::string& source);

// Documents concatenated, cut into chunks of `length`; then `count` of them (0: all) picked and ordered by seed. Throws Error if there
// are fewer than `count`.
std::vector<Ids> sample_chunks(const std::vector<Ids>& documents, std::int64_t length, std::int64_t count, std::uint64_t seed);

std::string chunks_hash(const std::vector<Ids>& chunks);

}  // namespace attar
