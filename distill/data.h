// Where the training tokens come from: fixed-length chunks in an order that the seed decides and that can be taken up
// again at any place.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "datasets/tokenizer.h"
#include "distill/packing.h"

namespace attar {

class ChunkSource {
 public:
  virtual ~ChunkSource() = default;
  virtual Chunk next() = 0;                                  // the next chunk; never ends
  virtual nlohmann::json position() const = 0;               // where next() will go on
  virtual void seek(const nlohmann::json& position) = 0;     // throws Error if that is not a position of this source

  SkipCounts skips;      // of the documents met so far, each counted once
  std::string identity;  // equal identities give equal chunks
};

enum class PackMode { kJoined, kDocuments };  // join_documents, pack_documents
PackMode pack_mode_from_name(const std::string& name);  // "joined", "documents"; throws Error

struct ChunkOptions {
  std::int64_t length = 0;  // tokens of a chunk
  std::uint64_t seed = 0;
  PackMode packing = PackMode::kJoined;
};

// source: a path or a built-in corpus (datasets/corpus.h). A file's documents come in another order in every epoch, in blocks
// that are read and tokenized one ahead of need; of the file itself only the places of its documents are held.
// "builtin:train" is a stream of ever new stories. The tokenizer lives longer than the result. Throws Error as Documents does, and
// if there is nothing to learn.
std::unique_ptr<ChunkSource> open_chunks(const std::string& source, const Tokenizer& tokenizer,
                                         const ChunkOptions& options);

// Several sources, each "SOURCE" or "SOURCE:WEIGHT" (1 if left out): each gives its share of the chunks, as evenly as whole chunks
// allow. One source: that source.
std::unique_ptr<ChunkSource> open_mixture(const std::vector<std::string>& sources, const Tokenizer& tokenizer,
                                          const ChunkOptions& options);

// Without the weight, if there is one.
std::string source_of(const std::string& weighted);

// For tests and for data that is tokens already: the given chunks, reordered in every epoch.
std::unique_ptr<ChunkSource> shuffled_chunks(std::vector<Chunk> chunks, std::uint64_t seed);

// Chunks of a text to evaluate on, the same ones for a seed: `count` of them (0: all), of documents in an order of the seed. What is held
// are these chunks and a block of documents, so the text may be larger than memory. Throws Error if there are fewer.
std::vector<Chunk> held_out_chunks(const std::string& source, const Tokenizer& tokenizer, std::int64_t count,
                                   const ChunkOptions& options);

}  // namespace attar
