// The file of logits that llama.cpp's `llama-perplexity --kl-divergence-base` writes, as a reference.
#pragma once

#include <span>
#include <vector>

#include "base/files.h"
#include "base/text.h"
#include "eval/stored_reference.h"

namespace attar {

class LlamaReference : public ReferenceScores {
 public:
  // Throws Error: not such a file, truncated, numbers that contradict each other.
  explicit LlamaReference(const fs::path& path);

  std::int64_t context() const { return context_; }
  std::int64_t vocab_size() const { return vocab_size_; }
  const std::vector<Ids>& chunks() const { return chunks_; }  // as they were tokenized, without the BOS that they are begun with
  std::string hash() const { return content_hash(file_.bytes()); }
  // The divergence as llama-perplexity sums it: over the tokens of ln p > -16.
  PairScore score(std::size_t slot, std::span<const float> logits, std::int64_t target) const override;

 private:
  std::uint64_t position_bytes() const;

  MappedFile file_;
  std::int64_t context_ = 0, vocab_size_ = 0;
  std::vector<Ids> chunks_;
  ByteView positions_;
};

bool is_llama_reference(const fs::path& path);

}  // namespace attar
