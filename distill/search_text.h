// The text of a search among students: what they learn from, and what they are judged on.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "datasets/documents.h"

namespace attar {

class SearchText {
 public:
  // data, heldout: sources (datasets/corpus.h). What is held out are documents of heldout, as many as give heldout_tokens; without
  // heldout they are set apart of data, a tenth of its documents at most. Which ones, the seed and their own text decide, so that
  // equal documents are all on one side. Throws Error for a text that cannot be split, and for one that is to be both.
  SearchText(const Tokenizer& tokenizer, std::string data, const std::string& heldout, std::int64_t heldout_tokens, std::uint64_t seed);

  // In the order of the source; the same ones under any tokenizer.
  std::vector<Document> training(const Tokenizer& tokenizer) const;
  std::vector<Document> heldout(const Tokenizer& tokenizer) const;
  const std::string& hash() const { return hash_; }  // of both sources

 private:
  std::string hash_;
  std::string data_, heldout_;         // the same if some of data is set apart
  std::vector<std::uint8_t> judged_;   // of heldout's documents: whether it is held out
};

}  // namespace attar
