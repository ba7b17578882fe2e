// Where the training tokens come from: fixed-length chunks in an order that the seed decides and that can be taken up
// again at any place.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "datasets/tokenizer.h"

namespace attar {

class ChunkSource {
 public:
  virtual ~ChunkSource() = default;
  virtual Ids next() = 0;                                    // the next chunk; never ends
  virtual nlohmann::json position() const = 0;               // where next() will go on
  virtual void seek(const nlohmann::json& position) = 0;     // throws Error if that is not a position of this source

  std::string identity;  // equal identities give equal chunks
};

struct ChunkOptions {
  std::int64_t length = 0;  // tokens of a chunk
  std::uint64_t seed = 0;
};

// source: a path or a built-in corpus (datasets/corpus.h). A file's documents are joined and cut into chunks, which come
// in another order in every epoch. "builtin:train" is a stream of ever new stories, written and tokenized as they are
// needed. Throws Error if the text is shorter than one chunk.
std::unique_ptr<ChunkSource> open_chunks(const std::string& source, const Tokenizer& tokenizer,
                                         const ChunkOptions& options);

// For tests and for data that is tokens already: the given chunks, reordered in every epoch.
std::unique_ptr<ChunkSource> shuffled_chunks(std::vector<Ids> chunks, std::uint64_t seed);

}  // namespace attar
