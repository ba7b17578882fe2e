// The built-in teacher is the file that recipes/teacher.toml made, and it knows its language.
#include <gtest/gtest.h>

#include "base/data.h"
#include "base/files.h"
#include "base/text.h"
#include "datasets/corpus.h"
#include "model/decoder.h"
#include "model/tensor.h"

namespace attar {
namespace {

TEST(Teacher, IsTheFileThatTheRecipeMade) {
  const fs::path folder = model_path("builtin:teacher");
  EXPECT_EQ(content_hash(MappedFile(folder / "model.safetensors").bytes()), "114bcba2450b8d39ee5e2a3c3444f570");
  EXPECT_EQ(content_hash(MappedFile(folder / "tokenizer.json").bytes()), "a6677ed806924fb5ad4a0d756d5b6438");
  const Checkpoint teacher = open_checkpoint(folder);
  EXPECT_EQ(teacher.config.hidden_size % 256, 0);
  EXPECT_EQ(teacher.config.intermediate_size % 256, 0);
  EXPECT_EQ(teacher.parameter_count(), 2'623'232u);
  EXPECT_LT(fs::file_size(folder / "model.safetensors"), 10'000'000u);
}

// 1024 tokens by chance would be a loss of 6.93.
TEST(Teacher, PredictsHeldOutStories) {
  const Checkpoint teacher = open_checkpoint(model_path("builtin:teacher"));
  const auto decoder = load_decoder(teacher);
  const Tokenizer tokenizer(teacher.tokenizer);
  const at::NoGradGuard no_grad;
  double loss = 0;
  const auto chunks = chunk_text(tokenizer, read_source("builtin:heldout"), 256, true);
  constexpr std::size_t kChunks = 8;
  ASSERT_GE(chunks.size(), kChunks);
  for (std::size_t i = 0; i < kChunks; ++i) {
    const at::Tensor ids = tensor_of(chunks[i]).unsqueeze(0);
    const at::Tensor logits = decoder->forward(ids).squeeze(0);
    loss += at::cross_entropy_loss(logits.slice(0, 127, 255), ids[0].slice(0, 128)).item<double>() / kChunks;
  }
  EXPECT_LT(loss, 1.6);
}

}  // namespace
}  // namespace attar
