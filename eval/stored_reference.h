// A reference model's predictions in a file: what a divergence needs of them, hundreds of times smaller than the logits.
//
// Of each scored position it holds ln p(target) and the distribution as sparse_row.h writes it. The layout stands in
// stored_reference.cc.
#pragma once

#include <filesystem>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/files.h"
#include "eval/protocol.h"
#include "eval/result.h"
#include "eval/scores.h"

namespace attar {

// One position, encoded. Throws Error for logits that are not finite. slot: its number, which seeds the draw.
Bytes encode_position(std::span<const float> logits, std::int64_t target, std::size_t slot);

// What a file says of a reference model's predictions.
class ReferenceScores {
 public:
  virtual ~ReferenceScores() = default;
  // What the model's logits at the position say of the token that came, against what the file holds. slot: the position's number.
  virtual PairScore score(std::size_t slot, std::span<const float> logits, std::int64_t target) const = 0;
};

class StoredReference : public ReferenceScores {
 public:
  // Throws Error: not such a file, another version, damaged.
  explicit StoredReference(const fs::path& path);

  const ModelSummary& model() const { return model_; }
  const Protocol& protocol() const { return protocol_; }
  const TextPlan& plan() const { return plan_; }  // the tokens that were read
  PairScore score(std::size_t slot, std::span<const float> logits, std::int64_t target) const override;

 private:
  MappedFile file_;
  ModelSummary model_;
  Protocol protocol_;
  TextPlan plan_;
  std::vector<ByteView> positions_;
};

bool is_reference_file(const fs::path& path);

// positions: one for each scored position, in order.
void write_reference(const fs::path& path, const ModelSummary& model, const Protocol& protocol, const TextPlan& plan,
                     const std::vector<Bytes>& positions);

}  // namespace attar
